"""The order in which a page is read, divided words, running lines, turned pages, lines numbered in the margin."""

from collections.abc import Callable
from pathlib import Path

import pymupdf
import pytest

from sala_core.ingest.parsers.pdf.bidi import Glyph, logical_order
from sala_core.ingest.parsers.pdf.hyphens import join_words
from sala_core.ingest.parsers.pdf.lines import read_lines
from sala_core.ingest.parsers.pdf.order import in_reading_order, without_blank_lines
from sala_core.ingest.parsers.pdf.quick import FontNames
from sala_core.ingest.parsers.result import Parsed, ParseLimits

LIMITS = ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20)
PROSE = ["The keeper of the ferry lives in Lime", "Street. He walks to the pier every day",
         "and looks at the water for a while, and", "then he goes home to his old brother."]  # fmt: skip
OTHER = ["The lamp number is four seven one one.", "It hangs in the shed behind the pier, by",
         "the old rope and the two red oars of the", "brother, who never comes to the ferry."]  # fmt: skip
Read = Callable[[pymupdf.Document], Parsed]


def new_page() -> tuple[pymupdf.Document, pymupdf.Page]:
    document = pymupdf.open()
    return document, document.new_page()


def write(page: pymupdf.Page, x: float, y: float, lines: list[str], **options: object) -> None:
    for number, line in enumerate(lines):
        page.insert_text((x, y + 14 * number), line, **options)


def test_a_page_that_is_stored_from_the_bottom_up_is_read_from_the_top(read: Read) -> None:
    document, page = new_page()
    for number, line in reversed(list(enumerate(["Title", *PROSE]))):
        page.insert_text((72, 100 + number * 14), line)
    assert read(document).text.splitlines() == ["Title", *PROSE]


def test_two_columns_that_are_stored_at_random_are_read_one_after_the_other(read: Read) -> None:
    document, page = new_page()
    places = [(x, 100 + 14 * row, line) for x, lines in ((50, PROSE), (310, OTHER)) for row, line in enumerate(lines)]
    for number in (5, 1, 7, 0, 6, 3, 4, 2):
        page.insert_text(places[number][:2], places[number][2])
    assert read(document).text.splitlines() == PROSE + OTHER


def test_a_table_that_is_stored_by_columns_is_read_by_rows(read: Read) -> None:
    document, page = new_page()
    for number, column in enumerate((["Pier", "north", "south"], ["Boat", "Otter", "Seal"], ["Price", "4.50", "7"])):
        write(page, 72 + 120 * number, 100, column)
    assert read(document).text == "Pier\tBoat\tPrice\nnorth\tOtter\t4.50\nsouth\tSeal\t7\n"
    document, page = new_page()
    write(page, 72, 100, ["Name:", "Place:"])
    write(page, 112, 100, ["Ottokar", "Pier four"])
    assert read(document).text == "Name: Ottokar\nPlace: Pier four\n"


def test_addresses_side_by_side_stay_columns(read: Read) -> None:
    document, page = new_page()
    write(page, 72, 100, ["Ottokar Ferryman", "Lime Street", "Pier Town"])
    write(page, 300, 100, ["Anna Lamp", "Oak Street", "Mill Town"])
    assert read(document).text.splitlines()[:3] == ["Ottokar Ferryman", "Lime Street", "Pier Town"]


@pytest.mark.parametrize(("rotate", "rotation"), [(90, 0), (90, 90), (180, 180), (270, 0)])
def test_turned_text_is_read_as_if_it_were_level(read: Read, rotate: int, rotation: int) -> None:
    document, page = new_page()
    for row in range(12):
        for column, lines in enumerate((PROSE * 3, OTHER * 3)):
            along, across = 400 * column, 14 * row
            place = {90: (100 + across, 800 - along), 180: (560 - 300 * column, 700 - across)}
            place[270] = (500 - across, 40 + along)
            page.insert_text(place[rotate], lines[row], rotate=rotate)
    page.set_rotation(rotation)
    assert read(document).text.splitlines() == PROSE * 3 + OTHER * 3


def test_a_ruled_table_on_a_turned_page_is_one_row_a_line(read: Read) -> None:
    document, page = new_page()
    for number in range(4):
        page.draw_line((100 + number * 24, 200), (100 + number * 24, 560))
        page.draw_line((100, 200 + number * 120), (172, 200 + number * 120))
    for y, row in enumerate((["Pier", "Boat", "Price"], ["north", "Otter", "4"], ["south", "", "7"])):
        for x, cell in enumerate(row):
            page.insert_text((115 + y * 24, 556 - x * 120), cell, rotate=90)
    expected = "Pier | Boat | Price\nnorth | Otter | 4\nsouth |  | 7\n"
    assert read(document).text == expected
    page.set_rotation(90)
    assert read(document).text == expected


NUMBERED = ["The keeper shall walk to the", "pier every morning before the", "bell, and he shall look at the",
            "water for a while, and then", "he shall go home again to his", "old brother in Lime Street."]  # fmt: skip


@pytest.mark.parametrize("is_by_row", [True, False])
def test_numbers_of_lines_in_the_margin_do_not_split_sentences(read: Read, is_by_row: bool) -> None:
    document, page = new_page()
    for number, line in enumerate(NUMBERED * 2):
        page.insert_text((50, 100 + 14 * number), str(number + 1))
        if is_by_row:
            page.insert_text((80, 100 + 14 * number), line)
    if not is_by_row:
        write(page, 80, 100, NUMBERED * 2)
    parsed = read(document)
    assert parsed.text.splitlines() == NUMBERED * 2
    assert parsed.warnings == ("page 1: numbers of lines in the margin, left out",)


def test_numbers_of_a_list_and_of_rows_stay(read: Read) -> None:
    document, page = new_page()
    for number in range(10):
        page.insert_text((50, 100 + 14 * number), str(number + 1))
        page.insert_text((80, 100 + 14 * number), f"Boat {number}")
    assert read(document).text.splitlines()[3] == "4\tBoat 3"


def test_code_keeps_the_indentation_that_is_made_by_place(read: Read) -> None:
    document, page = new_page()
    width = pymupdf.get_text_length("x", fontname="cour", fontsize=10)
    for number, (indent, line) in enumerate([(0, "def ferry(x):"), (4, "if x:"), (8, "return 4"), (0, "ferry(1)")]):
        page.insert_text((72 + indent * width, 100 + 12 * number), line, fontname="cour", fontsize=10)
    assert read(document).text == "def ferry(x):\n    if x:\n        return 4\nferry(1)\n"


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        (["the ferry-", "man of the pier"], ["the ferryman", "of the pier"]),
        (["a well-", "known man."], ["a well-known", "man."]),
        (["zur Schiff\u00ad", "fahrt, und"], ["zur Schifffahrt,", "und"]),
        (["a sub-", "way and", "a sub-way"], ["a sub-way", "and", "a sub-way"]),
        (["a sea-", "side. The sea and the side of it"], ["a sea-", "side. The sea and the side of it"]),
        (["in 1999-", "2004 and"], ["in 1999-", "2004 and"]),
        (["Franco-", "German war"], ["Franco-", "German war"]),
        (["use --long-", "option"], ["use --long-", "option"]),
        (["the ferry-", "", "man of"], ["the ferry-", "", "man of"]),
    ],
)
def test_divided_words_are_joined_where_the_text_shows_how(lines: list[str], joined: list[str]) -> None:
    pages = [list(lines)]
    join_words(pages)
    assert pages == [joined]


def test_words_are_joined_over_the_end_of_a_page(read: Read) -> None:
    document = pymupdf.open()
    write(document.new_page(), 72, 700, ["the oldest of all, the ferry-"])
    write(document.new_page(), 72, 100, ["man of the lower pier"])
    parsed = read(document)
    assert parsed.text == "the oldest of all, the ferryman\nof the lower pier\n"
    assert parsed.page_starts == (0, len("the oldest of all, the ferryman\n"))


@pytest.mark.parametrize(
    "footers",
    [
        [["i"], ["ii"], ["iii"], ["iv"], ["v"], ["vi"]],
        [[f"12.03.2024    {number}/6"] for number in range(1, 7)],
        [["Confidential", "Ferry Company Ltd.", str(number)] for number in range(1, 7)],
    ],
)
def test_footers_do_not_split_sentences(read: Read, footers: list[list[str]]) -> None:
    document = pymupdf.open()
    for number, lines in enumerate(footers):
        page = document.new_page()
        write(page, 72, 100, ["words go on here and", f"sentence {number} does not end"])
        write(page, 280, 790, lines, fontsize=9)
    assert "sentence 3 does not end\nwords go on" in read(document).text


def test_marks_and_ligatures_of_arabic_stay_in_order() -> None:
    # "awla" with the ligature of lam and alef: its alef has no width; a shadda at the border of two letters
    ligature = [Glyph(text="\u0648", x0=10.76, x1=16), Glyph(text="\u0627", x0=10.8, x1=10.8)]
    ligature += [Glyph(text="\u0644", x0=4, x1=10.8)]
    assert logical_order(ligature, size=10, is_rtl_page=True) == "\u0648\u0644\u0627"
    marked = [Glyph(text="\u0628", x0=12.5, x1=16), Glyph(text="\u0651", x0=12.42, x1=12.42)]
    marked += [Glyph(text="\u0627", x0=8.8, x1=12.42)]
    assert logical_order(marked, size=10, is_rtl_page=True) == "\u0628\u0651\u0627"


def test_the_quick_way_to_read_a_page_gives_the_same_lines(shared: Path) -> None:
    with pymupdf.open(shared / "samples" / "pride-and-prejudice.pdf") as document:
        fonts = FontNames(document)
        for page in document.pages(0, 40):
            quick = read_lines(page, fonts=fonts)
            lines = without_blank_lines(quick.lines) if quick.is_in_order else in_reading_order(quick.lines)
            close = in_reading_order(read_lines(page).lines)
            assert [line.text for line in lines] == [line.text for line in close]
