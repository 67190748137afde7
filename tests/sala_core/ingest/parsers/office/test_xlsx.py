"""Workbooks: cells as they are shown, in their columns; hidden, merged and far cells."""

# ruff: noqa: E501 (XML and RTF in strings)

from collections.abc import Callable

import numpy as np
import pytest

from app import wording
from sala_core.ingest.parsers.office.sheets.number_format import general, shown_number, shown_text
from sala_core.ingest.parsers.result import Parsed
from sala_core.ingest.sniff import Kind
from sala_core.ingest.source_map import SourceMap

from .conftest import sheet


def row(number: int, *cells: str, hidden: bool = False) -> str:
    mark = ' hidden="1"' if hidden else ""
    return f'<row r="{number}"{mark}>{"".join(cells)}</row>'


def cell(place: str, value: str, kind: str = "n", style: int = 0, inner: str = "") -> str:
    return f'<c r="{place}" t="{kind}" s="{style}">{inner}<v>{value}</v></c>'


@pytest.mark.parametrize(
    ("value", "code", "shown"),
    [
        (0.075, "0.0%", "7.5%"), (1234.5, '"$"#,##0.00', "$1,234.50"), (46096, "mm/dd/yyyy", "03/15/2026"),
        (45365, "yyyy-mm-dd", "2024-03-14"), (-5, "0;(0)", "(5)"), (5, ";;;", "5"), (12, '0"%"', "12%"), (1, "0%", "100%"),
        (0.5, "h:mm AM/PM", "12:00 PM"), (1.5, "[h]:mm", "36:00"), (1234567, '0.0,,"M"', "1.2M"), (0.285, "0.00", "0.29"),
        (1.25, "# ?/?", "1 1/4"), (12345.678, "0.00E+00", "1.23E+04"), (5551234, "000-0000", "555-1234"),
        (61, "yyyy-mm-dd", "1900-03-01"), (1, "d mmm yyyy", "1 Jan 1900"), (60000, '#,##0 "€"', "60,000 €"),
        (0, '#,##0.00;-#,##0.00;"-"', "-"), (-0.001, "0.00", "0.00"), (42, '"R-"0000', "R-0042"),
        (7, '[<10]"low";"high"', "low"), (1234, "_-* #,##0.00\\ [$€-407]_-", "1,234.00 €"),
        (-1234.5, "#,##0.00_);[Red](#,##0.00)", "(1,234.50)"), (45000.52083, "hh:mm:ss.000", "12:29:59.712"),
        (-3, "General", "-3"), (2.5, "0.0#", "2.5"), (10**11, "General", "1E+11"), (-2.5, "0", "-3"),
    ],
)  # fmt: skip
def test_numbers_are_shown_by_their_format(value: float, code: str, shown: str) -> None:
    assert shown_number(value, code) == shown


def test_numbers_without_a_format_have_no_noise() -> None:
    assert [general(x) for x in (3.3000000000000003, 0.1 + 0.2, 1e-7, 123456.789, 2.0)] == [
        "3.3",
        "0.3",
        "1E-07",
        "123456.789",
        "2",
    ]
    assert shown_number(0, "yyyy-mm-dd", is_1904=True) == "1904-01-01"
    assert shown_text("ab", '"<"@">"') == "<ab>"
    assert shown_text("ab", "0.00") == "ab"


def test_cells_keep_their_columns_and_kinds(parse: Callable[..., Parsed]) -> None:
    strings = "<si><t>Name</t><rPh><t>ネーム</t></rPh></si><si><r><rPr/><t>10</t></r><r><rPr><vertAlign val='superscript'/></rPr><t>6</t></r><r><t> litres</t></r></si>"
    styles = '<numFmts><numFmt numFmtId="164" formatCode="0.0%"/></numFmts><fonts><font/><font><strike/></font></fonts><cellXfs><xf/><xf numFmtId="164"/><xf fontId="1"/></cellXfs>'
    rows = (
        row(1, cell("A1", "0", "s"), cell("C1", "1", "s"))
        + row(
            2,
            cell("A2", "1", "b"),
            cell("B2", "0.075", style=1),
            cell("C2", "#DIV/0!", "e"),
            cell("E2", "old", "str", 2),
        )
        + row(5, '<c r="A5" t="inlineStr"><is><t>two\nlines</t></is></c>')
    )
    parsed = parse(sheet(rows, strings=strings, styles=styles), ".xlsx")
    assert parsed.text == "## Sheet: Data\n\nName |  | 10⁶ litres\nTRUE | 7.5% | #DIV/0! | ~~old~~\n\ntwo lines\n\n"
    assert parsed.page_starts == (0,)


def test_formulas_give_their_stored_value_or_themselves(parse: Callable[..., Parsed]) -> None:
    rows = row(
        1,
        cell("A1", "6", inner="<f>SUM(B1:B2)</f>"),
        cell("B1", "", inner="<f>NOW()</f>"),
        cell("C1", "", "str", inner="<f>IF(1,&quot;&quot;)</f>"),
    )
    parsed = parse(sheet(rows), ".xlsx")
    assert "\n6 | =NOW()\n" in parsed.text
    assert parsed.warnings == ("1 formula has no stored value and is shown as a formula",)


def test_merged_and_hidden_cells_are_told(parse: Callable[..., Parsed]) -> None:
    rows = row(1, cell("A1", "7"), cell("B1", "1")) + row(2, cell("B2", "2"), hidden=True) + row(3, cell("B3", "3"))
    after = '<mergeCells><mergeCell ref="A1:A3"/></mergeCells>'
    text = parse(
        sheet('</sheetData><cols><col min="2" max="2" hidden="1"/></cols><sheetData>' + rows, after=after), ".xlsx"
    ).text
    assert text == "## Sheet: Data\n\n(hidden columns: B)\n7 | 1\n[hidden row] 7 | 2\n7 | 3\n\n"


def test_far_cells_do_not_fill_the_space_between(parse: Callable[..., Parsed]) -> None:
    rows = row(1, cell("A1", "1")) + row(1048576, cell("XFD1048576", "2"))
    after = '<mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells>'
    assert parse(sheet(rows, after=after), ".xlsx").text == "## Sheet: Data\n\n1\n\n1 | 2\n\n"


def test_damaged_cells_cost_only_themselves(parse: Callable[..., Parsed]) -> None:
    rows = row(1, cell("A1", "99", "s"), cell("??", "x&y", "str"), cell("C1", "abc", style=77))
    text = parse(sheet(rows + '<row r="x"><c><v>5</v></c></row><row'), ".xlsx")
    assert text.text == "## Sheet: Data\n\n\ufffd | x&y | abc\n5\n\n"
    assert any("damaged" in warning for warning in text.warnings)


def test_a_place_in_a_sheet_has_the_names_of_its_columns() -> None:
    text = "## Sheet: A\n\nName | Price\nferry | 12\n\n## Sheet: B\n\n1 | 2\nbus | 4\n\n"
    starts = (0, text.index("## Sheet: B"))
    source = SourceMap(text, starts, np.arange(len(text)), media_type=Kind.XLSX.value)
    first, second = source.find("ferry"), source.find("bus")
    assert first is not None
    assert second is not None
    assert (first.page, first.header) == (1, "Name, Price")
    assert (second.page, second.header) == (2, "")
    assert wording.place(second.page, 9, 9, document="folder/table.xlsx") == "sheet 2, line 9"
    assert wording.place(3, 4, 5, document="talk.pptx") == "slide 3"
