"""Passages that stand word for word in a source are marked in what an answer shows."""

import re

import pytest

from app.page.markdown.parser import parse
from app.page.markdown.quotations import mark_quotations
from app.page.markdown.writer import write
from sala_core.events import Quotation


def quotation(text, page=None, document="novel.txt"):
    return Quotation(text=text, document=document, document_id="d", page=page, line_start=12, line_end=13)


def marked(answer, *quotations):
    tokens = parse(answer)
    mark_quotations(tokens, quotations)
    return write(tokens)


def plain(html):
    """The text, with `{...}` for each mark."""
    return re.sub(r"<[^>]+>", "", re.sub(r"<button[^>]* class=\"mark\"[^>]*>(.*?)</button>", r"{\1}", html))


@pytest.mark.parametrize(
    ("answer", "passage", "shown"),
    [
        ("He says “it rained\nall day”, then left.", "it rained all day", "day” {word for word, line 12}, then"),
        ("> it rained\n> all day\n\nSo.", "it rained\nall day", "all day {word for word, line 12}So."),
        ("It *rained* all day.", "It rained all", "all {word for word, line 12} day."),
        ("It rained 2 * 3 * 4 days", "rained 2 * 3 * 4", "4 {word for word, line 12} days"),
        ("so `a < b` holds", "a < b", "a &lt; b {word for word, line 12} holds"),
        ("- it rained\n- all day", "it rained all day", "all day {word for word, line 12}"),
        ("| a |\n|--|\n| it rained |", "it rained", "it rained {word for word, line 12}"),
        ("he *says* so", "*says*", "says {word for word, line 12} so"),
    ],
)
def test_the_mark_stands_behind_the_passage(answer, passage, shown):
    assert shown in plain(marked(answer, quotation(passage)))


def test_the_mark_names_the_place():
    shown = marked("it rained", quotation("it rained", page=3))
    assert ">word for word, page 3<" in shown
    assert 'title="Stands word for word in novel.txt, page 3, lines 12–13"' in shown


def test_a_passage_in_a_code_block_is_marked_behind_the_block():
    shown = marked("```\nlet a = b < c;\n```\nDone.", quotation("let a = b < c;"))
    assert shown.index("</pre>") < shown.index('class="mark"') < shown.index("Done.")


def test_the_same_passage_twice_is_marked_twice():
    shown = plain(marked("“it rained” and “it rained”", quotation("it rained"), quotation("it rained")))
    assert shown == "“it rained” {word for word, line 12} and “it rained” {word for word, line 12}"


def test_a_passage_that_the_answer_does_not_show_is_not_marked():
    assert "button" not in marked("it snowed", quotation("it rained"), quotation(" "))


@pytest.mark.parametrize("name", ['x") <b>\n](y', "`<div style='position:fixed'>`", '" onclick="x'])
def test_a_name_of_a_document_stays_inside_the_mark(name):
    shown = marked("it rained all day", quotation("it rained all day", document=name))
    assert shown.count("<") == shown.count(">") == 4
    assert not re.search(r"\sonclick=\"|<b>|<div", shown)


def test_a_quoted_passage_cannot_leave_its_text():
    passage = "\\`<div style='position:fixed;inset:0'>x</div>\\`\nand `more"
    shown = marked(f"He says “{passage}”.", quotation(passage))
    assert "<div" not in shown
    assert 'class="mark"' in shown


def test_a_model_cannot_make_a_mark():
    shown = marked('"so" [word for word, line 1](#evidence "x") <button class="mark">word for word</button>')
    assert "<button" not in shown
    assert "<a" not in shown
