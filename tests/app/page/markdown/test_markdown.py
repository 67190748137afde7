"""Markdown becomes HTML of a fixed list of elements; formulas, prices, code and links are told apart."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.page.markdown.parser import parse, render
from app.page.markdown.streaming import GrowingMarkdown
from app.page.markdown.writer import ELEMENTS, SCHEMES, write
from app.page.theme import formula_files
from sala_core.assets import ASSETS

SAMPLES = (
    "# One\n\npara *a* **b** `c`\nnext\n\n- x\n- y\n\n  z\n\n1. a\n\n2. b\n\nend",
    "| a | b |\n|--:|:-:|\n| 1 | `x|y` |\n\nafter\n---\nmore\n\n> q\n> w\nlazy\n\n***",
    "```python\ndef f():\n    return 1\n```\ntext\n\n    indented\n\n~~~\nopen",
    "so $x^2$ and\n\n$$\na = b\n+ c\n$$\n\n\\[ y = 1 \\] tail\n\n- item\n\n\n- item\n\nend [a](http://b.c) ![d](http://e/f.png)",
    "a\r\nb\r\n\r\nc\rd\n\n[x]: http://a.b\n\n[x]\n",
)


class Collected(HTMLParser):
    """All start tags of a text, with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))


def assert_listed(html):
    """Only listed elements and attributes, links to web addresses only, on one line, every tag closed."""
    for name, attributes in Collected(html).tags:
        assert name in ELEMENTS
        assert set(attributes) <= set(ELEMENTS[name])
        if "href" in attributes:
            assert attributes["href"].lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES))
            assert attributes["rel"].startswith("noopener")
    assert not set(html) & set("\n\r\t")
    opened = []
    for slash, name in re.findall(r"<(/?)(\w+)", html):
        if slash:
            assert opened.pop() == name
        elif name not in ("br", "hr"):
            opened.append(name)
    assert opened == []


PARTS = (
    *("<", ">", "</", "<div style='position:fixed'>", "`", "\\`", "```", "~~~", "\n", "\n\n", "![", "](", ")", "[x]"),
    *("]: ", "javascript:", "data:", "http://a.b", "<http://a.b>", "$", "$$", "\\(", "\\)", "|", "---", "# ", "> "),
    *("- ", "1. ", "    ", "*", "**", "_", "&lt;", "&#60;", "&", '"', "'", "a", " ", "\t", "mermaid\n", "\0"),
)
MARKUP = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)


@settings(max_examples=300, deadline=None)
@given(MARKUP)
def test_whatever_the_text_only_listed_elements_come_out(text):
    assert_listed(render(text))
    assert_listed(render(text, breaks=True))


@pytest.mark.parametrize("text", SAMPLES)
def test_a_growing_text_is_shown_as_the_whole_text_would_be(text):
    growing = GrowingMarkdown()
    for end in range(len(text) + 1):
        # open code has no colors yet: only the structure is compared
        shown, whole = growing.render(text[:end]), write(parse(text[:end]), highlight=False)
        assert re.sub(r"</?span[^>]*>", "", shown) == re.sub(r"</?span[^>]*>", "", whole), text[:end]


@settings(max_examples=60, deadline=None)
@given(MARKUP)
def test_any_growing_text_is_shown_as_the_whole_text_would_be(text):
    growing = GrowingMarkdown()
    for end in range(0, len(text) + 1, 3):
        shown, whole = growing.render(text[:end]), write(parse(text[:end]), highlight=False)
        assert re.sub(r"</?span[^>]*>", "", shown) == re.sub(r"</?span[^>]*>", "", whole)


def test_a_text_that_does_not_continue_is_rendered_anew():
    growing = GrowingMarkdown()
    growing.render("one\n\ntwo\n\nthree")
    assert growing.render("other") == "<p>other</p>"


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $10.",
        "From $20 million to 30$ a head",
        "US$ and CA$ are currencies",
        "$ a $",
        "\\$x\\$",
        "`$x$`",
        "[1] and \\[1\\]",
        "(\\(see there\\))",
        "$HOME/bin:$PATH",
    ],
)
def test_no_formula_is_seen_in(text):
    assert "formula" not in render(text)


@pytest.mark.parametrize(
    ("text", "tex", "display"),
    [
        ("so $x^2 + y$.", "x^2 + y", False),
        ("$2x+3$", "2x+3", False),
        ("\\(n\\)", "n", False),
        ("\\(a_1 < b\\)", "a_1 &lt; b", False),
        ("$$e = mc^2$$", "e = mc^2", True),
        ("$$\na\n+ b\n$$", "a&#10;+ b", True),
        ("\\[\nx = \\frac{1}{2}\n\\]", "x = \\frac{1}{2}", True),
        ("$a\\$b$", "a\\&#36;b", False),
    ],
)
def test_a_formula_is_seen_in(text, tex, display):
    shown = render(text)
    assert f">{tex}</span>" in shown
    assert ("formula-display" in shown) is display


@pytest.mark.parametrize(
    "target",
    [
        "javascript:a(1)",
        "JAVASCRIPT:x",
        "data:text/html,x",
        "file:///etc/passwd",
        "//evil",
        "/x",
        "#evidence",
        "http://",
    ],
)
def test_a_link_leads_to_a_web_address_only(target):
    assert "<a" not in render(f"[go]({target})")
    assert "<a" not in render(f"<{target}>")


@pytest.mark.parametrize("text", ["[here]()", "[here](  )", "[here](\n)"])
def test_a_link_without_an_address_leads_nowhere(text):
    assert render(text) == "<p><a>here</a></p>"


def test_a_link_names_its_host_and_a_picture_is_its_text():
    shown = render("[bank](https://evil.example/?a=1&b) ![map](http://evil.example/a.png)")
    assert 'data-host="evil.example"' in shown
    assert 'href="https://evil.example/?a=1&amp;b"' in shown
    assert '<span class="picture">map</span>' in shown
    assert "a.png" not in shown


def test_code_is_colored_and_keeps_its_characters():
    shown = render("```python\ndef f(x):\n\treturn '<b>'\n```")
    assert '<span class="k">def</span>' in shown
    assert "&#9;" in shown
    assert "<b>" not in shown
    assert render("```nosuch\na\n```").count("<span") == 1  # only the language's name


@pytest.mark.parametrize("part", ["[", "*a ", "`", "$", "$a", "\\(", "> ", "- ", "|", "&", "![", "<", "_a_*"])
@pytest.mark.timeout(20)
def test_a_hostile_text_does_not_hold_the_page_up(part):
    assert_listed(render(part * 5_000))


def test_the_browser_has_the_same_list_of_elements():
    script = (ASSETS / "page" / "talk.js").read_text(encoding="utf-8")
    listed = re.search(r"const ELEMENTS = \{(.*?)\n  \};", script, re.DOTALL)[1]
    rows = re.findall(r"(\w+): \[(.*?)\]", listed)
    found = {name.lower(): tuple(re.findall(r'"([\w-]+)"', names)) for name, names in rows}
    assert found == ELEMENTS


def test_the_formulas_program_is_among_gradios_files():
    import gradio

    folder = Path(gradio.__file__).parent / "templates" / "frontend"
    assert sorted(formula_files()) == ["script", "style"]
    assert all((folder / path).is_file() for path in formula_files().values())
