"""Presentations: every slide is a page, with its title, lists, tables and notes; what cannot be read is named."""

# ruff: noqa: E501 (XML and RTF in strings)

from collections.abc import Callable

import pytest

from sala_core.ingest.parsers.result import Parsed

from .conftest import NAMESPACES, packed, relations

LAYOUT = (
    '<p:sldLayout {ns}><p:cSld><p:spTree><p:sp><p:nvSpPr><p:nvPr><p:ph type="body" idx="1"/></p:nvPr></p:nvSpPr><p:txBody>'
    '<a:lstStyle><a:lvl1pPr><a:buAutoNum type="arabicParenR"/></a:lvl1pPr></a:lstStyle><a:p><a:r><a:t>Click to edit</a:t></a:r></a:p>'
    "</p:txBody></p:sp><p:sp><p:txBody><a:p><a:r><a:t>ACME</a:t></a:r></a:p></p:txBody></p:sp></p:spTree></p:cSld></p:sldLayout>"
)


def shape(text: str, kind: str | None = None, properties: str = "") -> str:
    holder = f"<p:nvPr><p:ph {kind}/></p:nvPr>" if kind is not None else ""
    paragraphs = "".join(f"<a:p>{properties}{_runs(line)}</a:p>" for line in text.split("\n"))
    return f"<p:sp><p:nvSpPr>{holder}</p:nvSpPr><p:txBody>{paragraphs}</p:txBody></p:sp>"


def _runs(line: str) -> str:
    return line if line.startswith("<") else f"<a:r><a:t>{line}</a:t></a:r>"


def deck(
    *slides: str,
    shows: tuple[str, ...] = (),
    parts: dict[str, str] | None = None,
    links: dict[str, tuple[str, str]] | None = None,
) -> bytes:
    """A presentation of slides; all with one layout. links: relations of the first slide."""
    ids = "".join(f'<p:sldId id="{300 + i}" r:id="s{i}"/>' for i in range(len(slides)))
    files: dict[str, str | bytes] = {
        "_rels/.rels": relations({"d": ("officeDocument", "ppt/presentation.xml")}),
        "ppt/presentation.xml": f"<p:presentation {NAMESPACES}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations(
            {f"s{i}": ("slide", f"slides/slide{i}.xml") for i in range(len(slides))}
        ),
        "ppt/layout.xml": LAYOUT.format(ns=NAMESPACES),
    }
    for index, slide in enumerate(slides):
        show = ' show="0"' if str(index) in shows else ""
        files[f"ppt/slides/slide{index}.xml"] = (
            f"<p:sld {NAMESPACES}{show}><p:cSld><p:spTree>{slide}</p:spTree></p:cSld></p:sld>"
        )
        own = {"l": ("slideLayout", "../layout.xml"), **((links or {}) if index == 0 else {})}
        files[f"ppt/slides/_rels/slide{index}.xml.rels"] = relations(own)
    return packed(files | (parts or {}))


@pytest.fixture
def read(parse: Callable[..., Parsed]) -> Callable[..., Parsed]:
    return lambda *slides, **options: parse(deck(*slides, **options), ".pptx")


def test_slides_are_pages_with_their_titles(read: Callable[..., Parsed]) -> None:
    parsed = read(shape("later") + shape("The plan", 'type="title"'), shape("second"), shows=("1",))
    assert parsed.text == "## Slide 1: The plan\n\nlater\n\n## Slide 2 (hidden)\n\nsecond\n\n[On the slides: ACME]\n\n"
    assert [parsed.text[start : start + 10] for start in parsed.page_starts] == ["## Slide 1", "## Slide 2"]


def test_lists_have_the_numbers_of_their_layout(read: Callable[..., Parsed]) -> None:
    body = shape("one\ntwo", 'type="body" idx="1"') + shape("free\nlines")
    assert "\n1) one\n2) two\n\nfree\nlines\n" in read(body).text
    own = shape("x\ny", None, '<a:pPr><a:buAutoNum type="romanUcPeriod" startAt="4"/></a:pPr>')
    assert "\nIV. x\nV. y\n" in read(own).text


def test_groups_tables_superscripts_and_line_breaks_are_read(read: Callable[..., Parsed]) -> None:
    cells = [("a", ' gridSpan="2"'), ("", ' hMerge="1"'), ("c", "")]
    row = "".join(
        f"<a:tc{span}><a:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></a:txBody></a:tc>" for text, span in cells
    )
    row2 = "".join(f"<a:tc><a:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></a:txBody></a:tc>" for text in "123")
    frame = (
        f"<p:graphicFrame><a:graphic><a:tbl><a:tr>{row}</a:tr><a:tr>{row2}</a:tr></a:tbl></a:graphic></p:graphicFrame>"
    )
    raised = shape(
        '<a:r><a:t>10</a:t></a:r><a:r><a:rPr baseline="30000"/><a:t>6</a:t></a:r><a:br/><a:r><a:t>next\vline</a:t></a:r>'.replace(
            "\v", "&#x0A;"
        )
    )
    text = read(f"<p:grpSp><p:grpSp>{raised}</p:grpSp></p:grpSp>{frame}").text
    assert "10⁶\nnext\nline\n" in text
    assert "a |  | c\n1 | 2 | 3\n" in text


def test_notes_and_comments_follow_their_slide(read: Callable[..., Parsed]) -> None:
    body, number = 'type="body"', 'type="sldNum"'
    parts = {
        "ppt/n.xml": f"<p:notes {NAMESPACES}><p:cSld><p:spTree>{shape('Say hello', body)}{shape('3', number)}</p:spTree></p:cSld></p:notes>",
        "ppt/c.xml": f'<p:cmLst {NAMESPACES}><p:cm authorId="0"><p:text>Check this</p:text></p:cm></p:cmLst>',
    }
    links = {"n": ("notesSlide", "../n.xml"), "c": ("comments", "../c.xml")}
    text = read(shape("Body"), parts=parts, links=links).text
    assert text.startswith("## Slide 1\n\nBody\n\nNotes:\n\nSay hello\n\n[Comment: Check this]\n")


def test_footers_are_given_once_and_slide_numbers_not_at_all(read: Callable[..., Parsed]) -> None:
    margins = shape("Draft", 'type="ftr"') + shape("7", 'type="sldNum"')
    text = read(shape("a") + margins, shape("b") + margins).text
    assert text.count("[Footer: Draft]") == 1
    assert "7" not in text


def test_a_broken_slide_is_named_and_the_others_are_read(read: Callable[..., Parsed]) -> None:
    broken = {"ppt/slides/slide1.xml": "<p:sld <<<"}
    parsed = read(shape("first"), shape("x"), shape("third"), parts=broken)
    assert "first" in parsed.text
    assert "## Slide 2\n\n(cannot be read)" in parsed.text
    assert "third" in parsed.text
    assert any("slide 2 cannot be read" in warning for warning in parsed.warnings)
    assert len(parsed.page_starts) == 3


def test_what_stands_before_a_fault_in_a_slide_is_read(read: Callable[..., Parsed]) -> None:
    cut = f"<p:sld {NAMESPACES}><p:cSld><p:spTree>{shape('kept')}{shape('R&D')}<p:sp><p:tx"
    parsed = read(shape("first"), shape("x"), parts={"ppt/slides/slide1.xml": cut})
    assert "kept" in parsed.text
    assert "R&D" in parsed.text
    assert any("slide1.xml: damaged" in warning for warning in parsed.warnings)
