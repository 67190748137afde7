"""OpenDocument files read like the Office documents of the same content."""

# ruff: noqa: E501 (XML and RTF in strings)

from collections.abc import Callable

import pytest

from sala_core.ingest.parsers.result import Parsed, ParseError

from .conftest import ODF, packed

STYLES = """<office:automatic-styles>
<style:style style:name="up" style:family="text"><style:text-properties style:text-position="super 58%"/></style:style>
<style:style style:name="low" style:family="text"><style:text-properties style:text-position="-33% 58%"/></style:style>
<style:style style:name="out" style:family="text"><style:text-properties style:text-line-through-style="solid"/></style:style>
<style:style style:name="hid" style:family="text"><style:text-properties text:display="none"/></style:style>
<style:style style:name="T" style:family="paragraph" style:parent-style-name="Title"/>
<style:style style:name="Title" style:family="paragraph"/>
<style:style style:name="off" style:family="drawing-page"><style:drawing-page-properties presentation:visibility="hidden"/></style:style>
<style:style style:name="ta" style:family="table"><style:table-properties table:display="false"/></style:style>
<text:list-style style:name="L"><text:list-level-style-number text:level="1" style:num-format="i" style:num-suffix=")" text:start-value="2"/>
<text:list-level-style-number text:level="2" style:num-format="1" style:num-suffix="." text:display-levels="2"/></text:list-style>
<text:list-style style:name="B"><text:list-level-style-bullet text:level="1" text:bullet-char="•"/></text:list-style>
</office:automatic-styles>"""


def odf(content: str, kind: str = "text", extra: dict[str, str] | None = None) -> bytes:
    root = f"<office:document-content {ODF}>{STYLES}<office:body><office:{kind}>{content}</office:{kind}></office:body></office:document-content>"
    return packed({"mimetype": f"application/vnd.oasis.opendocument.{kind}", "content.xml": root, **(extra or {})})


CASES = {
    "superscripts": ('10<text:span text:style-name="up">6</text:span> H<text:span text:style-name="low">2</text:span>O', "10⁶ H₂O\n"),
    "struck and hidden words": (
        '<text:span text:style-name="out">no</text:span> <text:span text:style-name="hid">psst</text:span>', "~~no~~ [hidden: psst]\n",
    ),
    "spaces, tabs and breaks": ('a<text:s text:c="3"/>b<text:tab/>c<text:line-break/>d', "a b\tc\nd\n"),
    "ruby": ("<text:ruby><text:ruby-base>漢</text:ruby-base><text:ruby-text>かん</text:ruby-text></text:ruby>", "漢(かん)\n"),
    "footnotes": (
        'In 1987<text:note text:note-class="footnote"><text:note-citation>1</text:note-citation><text:note-body><text:p>See 9.</text:p>'
        "</text:note-body></text:note>, rain", "In 1987[1], rain\n\n[Footnote 1: See 9.]\n",
    ),
    "comments": (
        "Word<office:annotation><dc:creator>Ann</dc:creator><dc:date>2024</dc:date><text:p>Why?</text:p></office:annotation>",
        "Word\n\n[Comment by Ann: Why?]\n",
    ),
    "pictures": ("<draw:frame><draw:image/><svg:title>Map</svg:title><svg:desc>of the bay</svg:desc></draw:frame>", "Map of the bay\n"),
    "text boxes": ("Before<draw:frame><draw:text-box><text:p>inside</text:p></draw:text-box></draw:frame>", "Before\n\ninside\n"),
    "formulas": (
        "<draw:frame><draw:object><math:math><math:semantics><math:mrow><math:msup><math:mi>x</math:mi><math:mn>2</math:mn></math:msup>"
        '</math:mrow><math:annotation encoding="StarMath 5.0">x^2</math:annotation></math:semantics></math:math></draw:object></draw:frame>',
        "x²\n",
    ),
    "fields": ('<text:date>3 May</text:date>, page <text:page-number>7</text:page-number>', "3 May, page 7\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_paragraph_keeps(case: str, parse: Callable[..., Parsed]) -> None:
    content, expected = CASES[case]
    assert parse(odf(f"<text:p>{content}</text:p>"), ".odt").text == expected


def test_lists_headings_and_tables(parse: Callable[..., Parsed]) -> None:
    inner = "<text:list><text:list-item><text:p>deep</text:p></text:list-item></text:list>"
    lists = (
        f'<text:list text:style-name="L"><text:list-item><text:p>one</text:p>{inner}</text:list-item>'
        "<text:list-item><text:p>two</text:p><text:p>more</text:p></text:list-item></text:list>"
        '<text:list text:style-name="B"><text:list-item><text:p>dot</text:p></text:list-item></text:list>'
    )
    row = '<table:table-row><table:table-cell table:number-columns-spanned="2"><text:p>a</text:p></table:table-cell><table:covered-table-cell/><table:table-cell><text:p>c</text:p></table:table-cell></table:table-row>'
    row2 = '<table:table-row><table:table-cell><text:p>1</text:p></table:table-cell><table:table-cell/><table:table-cell table:number-columns-repeated="2"><text:p>3</text:p></table:table-cell></table:table-row>'
    content = f'<text:p text:style-name="T">Title</text:p><text:h text:outline-level="2">Part</text:h>{lists}<table:table>{row}{row2}</table:table>'
    assert parse(odf(content), ".odt").text == (
        "# Title\n\n## Part\n\nii) one\n  ii.1. deep\niii) two\nmore\n- dot\n\na |  | c\n1 |  | 3 | 3\n"
    )


def test_empty_columns_to_the_right_of_all_cells_are_left_out(parse: Callable[..., Parsed]) -> None:
    def row(*texts: str) -> str:
        cells = "".join(
            f"<table:table-cell>{f'<text:p>{text}</text:p>' if text else ''}</table:table-cell>" for text in texts
        )
        return f'<table:table-row>{cells}<table:table-cell table:number-columns-repeated="1021"/></table:table-row>'

    content = f"<table:table>{row('a', 'b', 'c')}{row('1', '', '')}{row('', '', '')}{row('4', '', '6')}</table:table>"
    assert parse(odf(content), ".odt").text == "a | b | c\n1 |  |\n4 |  | 6\n"


def test_deleted_words_are_told_apart(parse: Callable[..., Parsed]) -> None:
    changes = '<text:tracked-changes><text:changed-region text:id="c1"><text:deletion><text:p>old</text:p></text:deletion></text:changed-region></text:tracked-changes>'
    assert (
        parse(odf(f'{changes}<text:p>new <text:change text:change-id="c1"/>words</text:p>'), ".odt").text
        == "new ~~old~~words\n"
    )


def test_headers_pages_and_endnotes(parse: Callable[..., Parsed]) -> None:
    styles = f"<office:document-styles {ODF}><office:master-styles><style:master-page><style:header><text:p>Secret</text:p></style:header></style:master-page></office:master-styles></office:document-styles>"
    note = '<text:note text:note-class="endnote"><text:note-citation>i</text:note-citation><text:note-body><text:p>End.</text:p></text:note-body></text:note>'
    content = f"<text:p>One{note}</text:p><text:soft-page-break/><text:p>Two, <text:soft-page-break/>three</text:p>"
    parsed = parse(odf(content, extra={"styles.xml": styles}), ".odt")
    assert parsed.text == "One[i]\n\nTwo, three\n\n[Endnote i: End.]\n\n[Header: Secret]\n"
    assert [parsed.text[start : start + 3] for start in parsed.page_starts] == ["One", "Two", "thr"]


def test_sheets_show_their_cells_as_they_are_displayed(parse: Callable[..., Parsed]) -> None:
    def cell(text: str, more: str = "") -> str:
        return f"<table:table-cell {more}><text:p>{text}</text:p></table:table-cell>"

    kind = 'office:value-type="string"'
    note = "<office:annotation><dc:creator>Ann</dc:creator><text:p>Check</text:p></office:annotation>"
    rows = (
        f"<table:table-row>{cell('Rate', kind)}{cell('7.5%')}"
        '<table:table-cell table:number-columns-repeated="16382"/></table:table-row>'
        '<table:table-row table:number-rows-repeated="1048000"><table:table-cell/></table:table-row>'
        f'<table:table-row table:visibility="collapse"><table:table-cell office:value="5">{note}</table:table-cell>{cell("x")}</table:table-row>'
    )
    data = odf(
        f'<table:table table:name="A" table:style-name="ta">{rows}</table:table><table:table table:name="B"/>',
        "spreadsheet",
    )
    parsed = parse(data, ".ods")
    assert (
        parsed.text
        == "## Sheet: A (hidden)\n\nRate | 7.5%\n\n[hidden row] 5 | x\n\n[Comment by Ann on A1048002: Check]\n\n## Sheet: B\n\n"
    )
    assert len(parsed.page_starts) == 2


def test_slides_are_pages(parse: Callable[..., Parsed]) -> None:
    def box(text: str, kind: str) -> str:
        return f'<draw:frame presentation:class="{kind}"><draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame>'

    notes = f"<presentation:notes>{box('Say it', 'notes')}</presentation:notes>"
    group = "<draw:g><draw:custom-shape><text:p>in a shape</text:p></draw:custom-shape></draw:g>"
    content = f'<draw:page>{box("body", "outline")}{box("Plan", "title")}{notes}</draw:page><draw:page draw:style-name="off">{group}</draw:page>'
    parsed = parse(odf(content, "presentation"), ".odp")
    assert parsed.text == "## Slide 1: Plan\n\nbody\n\nNotes:\n\nSay it\n\n## Slide 2 (hidden)\n\nin a shape\n\n"
    assert parsed.page_starts == (0, parsed.text.index("## Slide 2"))


def test_a_document_in_one_xml_file_is_read(parse: Callable[..., Parsed]) -> None:
    flat = f'<?xml version="1.0"?><office:document {ODF}><office:body><office:text><text:p>flat</text:p></office:text></office:body></office:document>'
    assert parse(flat.encode(), ".fodt").text == "flat\n"


def test_an_encrypted_document_is_refused(parse: Callable[..., Parsed]) -> None:
    manifest = f"<manifest:manifest {ODF}><manifest:file-entry><manifest:encryption-data/></manifest:file-entry></manifest:manifest>"
    with pytest.raises(ParseError, match="encrypted"):
        parse(odf("<text:p>x</text:p>", extra={"META-INF/manifest.xml": manifest}), ".odt")
