"""PDF pages as a person sees them: order, raised characters, tables, forms, comments, scans, running lines."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pymupdf
import pytest

from sala_core.ingest.parsers.pdf import reader as pdf
from sala_core.ingest.parsers.pdf import tables
from sala_core.ingest.parsers.pdf.bidi import Glyph, logical_order
from sala_core.ingest.parsers.pdf.fonts import name_unknown
from sala_core.ingest.parsers.pdf.reader import parse_pdf
from sala_core.ingest.parsers.result import Parsed, ParseError, ParseLimits

LIMITS = ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20)
Read = Callable[[pymupdf.Document], Parsed]


def new_page() -> tuple[pymupdf.Document, pymupdf.Page]:
    document = pymupdf.open()
    return document, document.new_page()


def write_runs(page: pymupdf.Page, y: float, runs: Iterable[tuple[str, float, float]]) -> None:
    """One line of (text, size, rise in points) after each other."""
    x = 72.0
    for text, size, rise in runs:
        page.insert_text((x, y - rise), text, fontsize=size)
        x += pymupdf.get_text_length(text, fontsize=size)


def write_cjk(page: pymupdf.Page, characters: Iterable[tuple[float, float, str]]) -> None:
    writer = pymupdf.TextWriter(page.rect)
    font = pymupdf.Font("japan")
    for x, y, text in characters:
        writer.append((x, y), text, font=font, fontsize=12)
    writer.write_text(page)


def test_raised_and_lowered_characters_are_not_digits_of_their_base(read: Read) -> None:
    document, page = new_page()
    write_runs(page, 72, [("It carries 10", 12, 0), ("6", 8, 5), (" litres, 5", 12, 0), ("-3", 7, 5), (" m.", 12, 0)])
    write_runs(page, 100, [("H", 12, 0), ("2", 7, -2), ("O, x", 12, 0), ("max", 7, -2), (" e", 12, 0), ("kt", 7, 5)])
    write_runs(page, 130, [("the river", 12, 0), ("12", 7, 4), (" on the 1", 12, 0), ("st", 7, 4)])
    write_runs(page, 160, [("SMALL C", 12, 0), ("APITALS", 9, 0), (" 2", 12, 0), ("32", 6, 7)])
    assert read(document).text == (
        "It carries 10⁶ litres, 5⁻³ m.\nH₂O, x_max e^kt\nthe river¹² on the 1st\nSMALL CAPITALS 2³²\n"
    )


def test_text_printed_again_at_almost_the_same_place_is_read_once(read: Read) -> None:
    document, page = new_page()
    for shift in (0, 0.3):
        page.insert_text((72 + shift, 72), "Bold heading")
    for shift in (0, 1):
        page.insert_text((72 + shift, 100 + shift), "Shadow 4711")
    page.insert_text((72, 130), "Price ")
    for shift in (0, 0.4):
        page.insert_text((105 + shift, 130), "471")
    for y in (160, 180):
        page.insert_text((72, y), "again, and again")
    assert read(document).text == (
        "Bold heading\nShadow 4711\nPrice 471\nagain, and again\nagain, and again\n"
    )  # fmt: skip


COLUMNS = (
    ("The keeper of the ferry", "lives in Lime Street. He", "walks to the pier every", "morning before nine."),
    ("The lamp number is four", "seven one one. It hangs", "in the shed behind the", "pier, next to the rope."),
    (
        "A third column speaks of",
        "a neighbour who keeps",
        "the key of the house",
        "for all that come late",
        "at night.",
    ),
)


def test_columns_that_are_stored_row_by_row_are_read_one_after_the_other(read: Read) -> None:
    document, page = new_page()
    page.insert_text((60, 60), "Ferry Times", fontsize=20)
    for row in range(5):
        for number, column in enumerate(COLUMNS):
            if row < len(column):
                page.insert_text((60 + number * 170, 100 + row * 14), column[row], fontsize=11)
    expected = ["Ferry Times", *COLUMNS[0], *COLUMNS[1], *COLUMNS[2]]
    assert read(document).text.splitlines() == expected


def test_rows_of_a_table_without_rules_stay_rows_and_keep_empty_cells(read: Read) -> None:
    document, page = new_page()
    for row, cells in enumerate((("Pier", "Boat", "Price"), ("north", "Otter", "4.50"), ("south", "", "7.00"))):
        for column, cell in enumerate(cells):
            if cell:
                page.insert_text((72 + column * 120, 100 + row * 16), cell)
    assert read(document).text == "Pier\tBoat\tPrice\nnorth\tOtter\t4.50\nsouth\t\t7.00\n"


def make_table(page: pymupdf.Page, rows: list[list[str]]) -> None:
    for number in range(len(rows) + 1):
        page.draw_line((60, 80 + number * 40), (60 + 120 * len(rows[0]), 80 + number * 40))
    for number in range(len(rows[0]) + 1):
        page.draw_line((60 + number * 120, 80), (60 + number * 120, 80 + 40 * len(rows)))
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            for line, text in enumerate(cell.splitlines()):
                page.insert_text((65 + x * 120, 95 + y * 40 + line * 12), text, fontsize=10)


def test_a_ruled_table_is_one_row_a_line(read: Read) -> None:
    document, page = new_page()
    make_table(page, [["Pier", "Price in 10", "Note"], ["north", "4", "long text\nin a cell"], ["south", "", "7"]])
    width = pymupdf.get_text_length("Price in 10", fontsize=10)
    page.insert_text((185 + width, 91), "6", fontsize=6)
    page.insert_text((60, 250), "After the table.")
    assert read(document).text == (
        "Pier | Price in 10⁶ | Note\nnorth | 4 | long text in a cell\nsouth |  | 7\nAfter the table.\n"
    )


def test_no_character_is_lost_if_a_table_does_not_hold_it(read: Read) -> None:
    document, page = new_page()
    make_table(page, [["Pier", "Price"], ["north", "4"], ["south", "7"]])
    page.insert_text((270, 139), "a word that crosses the border of the table 4711", fontsize=10)
    text = read(document).text
    assert all(word in text for word in ("Pier", "Price", "north", "south", "crosses", "border", "4711"))


def test_tables_have_a_limit_of_time_that_is_reported(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "_MAX_TABLES_S", 1e-9)
    document = pymupdf.open()
    for _ in range(2):
        make_table(document.new_page(), [["Pier", "Price"], ["north", "4"], ["south", "7"]])
    parsed = read(document)
    assert parsed.text.startswith("Pier | Price\n")
    assert parsed.text.endswith("Pier\tPrice\nnorth\t4\nsouth\t7\n")
    assert parsed.warnings == ("page 2: read without a search for tables, which took too long on earlier pages",)


def test_an_error_in_the_search_for_tables_costs_only_the_table(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tables.TableReader, "join_rows", fail)
    document, page = new_page()
    make_table(page, [["Pier", "Price"], ["north", "4"], ["south", "7"]])
    assert read(document).text == "Pier\tPrice\nnorth\t4\nsouth\t7\n"


def test_an_error_in_one_page_costs_only_the_page(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    original = pdf.read_lines

    def fail(page: pymupdf.Page, **options: object) -> pdf.PageLines:
        if "odd" in page.get_text():
            raise Exception("what PyMuPDF raises for odd objects")
        return original(page, **options)

    monkeypatch.setattr(pdf, "read_lines", fail)
    document = pymupdf.open()
    for text in ("first", "odd", "third"):
        document.new_page().insert_text((72, 72), text)
    parsed = read(document)
    assert parsed.text == "first\nthird\n"
    assert parsed.page_starts == (0, 6, 6)
    assert parsed.warnings == ("page 2: damaged, cannot be read",)


VERTICAL = ("渡船は九時に出る。鍵は", "隣の家にある。番号は四", "七一一である。")


@pytest.mark.parametrize("by_row", [False, True])
def test_vertical_columns_are_read_from_right_to_left(read: Read, by_row: bool) -> None:
    document, page = new_page()
    places = [(400 - c * 20, 80 + r * 13, char) for c, text in enumerate(VERTICAL) for r, char in enumerate(text)]
    write_cjk(page, sorted(places, key=lambda place: place[1]) if by_row else places)
    assert read(document).text == "\n".join(VERTICAL) + "\n"


def glyphs(visual: str) -> list[Glyph]:
    return [Glyph(text=char, x0=6.0 * x, x1=6.0 * x + 6) for x, char in enumerate(visual)]


@pytest.mark.parametrize(
    ("visual", "logical"),
    [
        ("הנכשה לצא 4711 חתפמה", "המפתח 4711 אצל השכנה"),
        ("םולש (םלוע) 12/34 םוי", "יום 12/34 (עולם) שלום"),
        ("םולש PDF 1.7 ץבוק 50% החנה", "הנחה 50% קובץ PDF 1.7 שלום"),
        (",14:30 העשב 2024-03-12 ךיראת", "תאריך 2024-03-12 בשעה 14:30,"),
        ("The word םולש means peace 12.", "The word שלום means peace 12."),
    ],
)
def test_right_to_left_lines_are_read_in_logical_order(visual: str, logical: str) -> None:
    assert logical_order(glyphs(visual), size=10, is_rtl_page=False) == logical
    assert logical_order(glyphs(visual)[::-1], size=10, is_rtl_page=False) == logical


def test_marks_stay_with_their_letter_and_forms_of_letters_become_letters() -> None:
    # shin with a dot and a vowel below it, printed after the letters; then a final alef in its presentation form
    pointed = [*glyphs("אש"), Glyph(text="\u05c1", x0=7, x1=7), Glyph(text="\u05b8", x0=9, x1=9)]
    assert logical_order(pointed, size=10, is_rtl_page=True) == "ש\u05c1\u05b8א"
    assert logical_order(glyphs("\ufe8e\ufee0\ufecb"), size=10, is_rtl_page=True) == "علا"


def test_fields_comments_and_attached_files_are_read(read: Read) -> None:
    document, page = new_page()
    page.insert_text((72, 72), "Application")
    fields = (
        ("name", pymupdf.PDF_WIDGET_TYPE_TEXT, "Ferryman Ottokar"),
        ("form[0].pier[0]", pymupdf.PDF_WIDGET_TYPE_TEXT, "four"),
        ("insured", pymupdf.PDF_WIDGET_TYPE_CHECKBOX, True),
        ("dog", pymupdf.PDF_WIDGET_TYPE_CHECKBOX, False),
        ("empty", pymupdf.PDF_WIDGET_TYPE_TEXT, ""),
    )
    for number, (name, kind, value) in enumerate(fields):
        widget = pymupdf.Widget()
        widget.rect = pymupdf.Rect(72, 100 + number * 30, 250, 120 + number * 30)
        widget.field_name, widget.field_type, widget.field_value = name, kind, value
        page.add_widget(widget)
    page.add_text_annot((60, 300), "the lamp is 4711")
    comment = page.add_highlight_annot((72, 60, 120, 75))
    comment.set_info(title="Ottokar", content="ask the neighbour")
    comment.update()
    page.add_freetext_annot((60, 350, 300, 380), "leaves at nine")
    page.add_file_annot((100, 400), b"x", "map.txt")
    document.embfile_add("a", b"x", filename="prices.xlsx")
    parsed = read(document)
    assert parsed.text.replace("[ ]", "[-]").splitlines() == [
        "Application", "leaves at nine", "name: Ferryman Ottokar", "pier: four", "[x] insured", "[-] dog",
        "[Comment: the lamp is 4711]", "[Comment by Ottokar: ask the neighbour]",
    ]  # fmt: skip
    assert parsed.warnings == ("2 attached files, not read: prices.xlsx, map.txt",)


def add_xfa(document: pymupdf.Document, *packets: bytes) -> None:
    numbers = []
    for packet in packets:
        numbers.append(document.get_new_xref())
        document.update_object(numbers[-1], "<<>>")
        document.update_stream(numbers[-1], packet)
    array = "".join(f"(packet){number} 0 R" for number in numbers)
    document.xref_set_key(document.pdf_catalog(), "AcroForm", f"<</Fields[]/XFA[{array}]>>")


def test_the_texts_of_an_xfa_form_are_read_and_reported(read: Read) -> None:
    document, page = new_page()
    page.insert_text((72, 72), "Please wait...")
    add_xfa(
        document,
        b'<xdp:xdp xmlns:xdp="http://ns.adobe.com/xdp/">',
        b'<template xmlns="http://www.xfa.org/schema/xfa-template/3.3/"><draw><value><text>Ferry permit</text></value>'
        b'</draw><draw><value><exData><p xmlns="http://www.w3.org/1999/xhtml">Leaves <b>at nine</b></p></exData>'
        b"</value></draw></template>",
        b'<xfa:datasets xmlns:xfa="http://www.xfa.org/schema/xfa-data/1.0/"><xfa:data><form><pier>four</pier></form>'
        b"</xfa:data></xfa:datasets>",
        b"</xdp:xdp>",
    )
    parsed = read(document)
    assert parsed.text == "Please wait...\nFerry permit\nLeaves at nine\npier: four\n"
    assert parsed.warnings == ("an XFA form: its texts and values stand at the end, not as a viewer arranges them",)


def test_a_broken_xfa_form_is_reported(read: Read) -> None:
    document, page = new_page()
    page.insert_text((72, 72), "Please wait...")
    add_xfa(document, b"<template><unclosed>")
    assert "cannot be read" in read(document).warnings[0]


def test_scans_with_a_stamp_are_reported_and_recognized_scans_and_figures_are_not(read: Read) -> None:
    document = pymupdf.open()
    picture = pymupdf.Pixmap(pymupdf.csGRAY, (0, 0, 40, 10), False)
    strips = document.new_page()
    for number in range(10):
        box = (20, 20 + number * 80, 575, 100 + number * 80)
        strips.insert_image(box, pixmap=picture, keep_proportion=False)
    strips.insert_text((60, 30), "Case 12/34 - page 1 of 9")
    recognized = document.new_page()
    recognized.insert_image(recognized.rect, pixmap=picture, keep_proportion=False)
    recognized.insert_text((60, 60), "hidden recognized text", render_mode=3)
    figure = document.new_page()
    figure.insert_image((300, 300, 400, 400), pixmap=picture)
    figure.insert_text((60, 60), "A figure of the ferry")
    parsed = read(document)
    assert "Case 12/34" in parsed.text
    assert [warning for warning in parsed.warnings if "scanned" in warning] == list(parsed.warnings)
    assert parsed.warnings[0].startswith("page 1: a picture of the whole page")


def add_unmapped(document: pymupdf.Document, text: str) -> None:
    """A page in an embedded font without a map to Unicode, whose glyphs have the codes of ASCII letters."""
    page = document.new_page()
    writer = pymupdf.TextWriter(page.rect)
    writer.append((72, 72), "x", font=pymupdf.Font("helv"))
    writer.write_text(page)
    (font, _, _, _, name, *_), *_ = page.get_fonts()
    document.xref_set_key(font, "ToUnicode", "null")
    words = " -400 ".join(f"<{word.encode('utf-16-be').hex()}>" for word in text.split())
    document.update_stream(page.get_contents()[0], f"BT /{name} 12 Tf 72 700 Td [{words}] TJ ET".encode())


def test_letters_that_a_font_does_not_name_are_reported(read: Read) -> None:
    document = pymupdf.open()
    add_unmapped(document, "\x06\x0b\x09\x01 GHIJ \x11\x11\x16 4711")
    with pytest.raises(ParseError, match="characters without a meaning"):
        read(document)
    document.new_page().insert_text((72, 72), "words")
    parsed = read(document)
    assert parsed.warnings == (f"page 1: {pdf._UNKNOWN}",)
    assert parsed.text.endswith("words\n")
    assert not any(char.isalnum() for char in parsed.text[: parsed.page_starts[1]])


def test_codes_are_kept_where_they_read_like_a_language(read: Read) -> None:
    text = "the keeper of the ferry lives in lime street and leaves at nine"
    document = pymupdf.open()
    add_unmapped(document, text)
    parsed = read(document)
    assert parsed.text == text + "\n"
    assert parsed.warnings == (f"page 1: {pdf._GUESSED}",)


def test_codes_of_symbol_fonts_and_control_characters() -> None:
    def span(text: str) -> dict[str, object]:
        return {"text": text, "font": "F", "char_flags": 0}

    text = "the keeper of the ferry lives in lime street"
    symbols = [span("".join(chr(0xF000 + ord(char)) for char in text))]
    assert name_unknown(symbols) == (0, True)
    assert symbols[0]["text"] == text
    tex = [span("the \x0crst keeper of the ferry stays in his o\x0ece till nine"), span("plain")]
    assert name_unknown(tex) == (0, True)
    assert tex[0]["text"] == "the first keeper of the ferry stays in his office till nine"
    bullets = [span("\uf0b7"), span("\x01\x02 4")]
    assert name_unknown(bullets) == (2, False)
    assert [bullet["text"] for bullet in bullets] == ["\uf0b7", "\ufffd\ufffd 4"]


def make_running(headers: list[str], footers: list[str]) -> pymupdf.Document:
    document = pymupdf.open()
    for header, footer in zip(headers, footers, strict=True):
        page = document.new_page()
        page.insert_text((72, 40), header, fontsize=9)
        page.insert_text((72, 100), "goes on with words")
        page.insert_text((72, 120), "and the sentence does not end")
        page.insert_text((280, 810), footer, fontsize=9)
    return document


BODY = "goes on with words\nand the sentence does not end\n"


def test_running_headers_and_page_numbers_do_not_split_sentences(read: Read) -> None:
    parsed = read(make_running(["THE FERRY"] * 4, ["11", "12", "13", "14"]))
    assert parsed.text == "THE FERRY\n" + BODY * 4
    assert parsed.page_starts[1] == len("THE FERRY\n" + BODY)
    changing = read(make_running([f"Day {number}" for number in range(4)], ["- 1 -", "- 2 -", "- 3 -", "- 4 -"]))
    assert changing.text == "Day 0\n" + BODY * 4


def test_lines_that_do_not_repeat_are_kept(read: Read) -> None:
    twice = read(make_running(["THE FERRY"] * 2, ["7", "7"]))
    assert twice.text == f"THE FERRY\n{BODY}7\n" * 2
    years = read(make_running(["one", "two", "three"], ["1914", "1917", "1939"]))
    assert [line for line in years.text.splitlines() if line.isdigit()] == ["1914", "1917", "1939"]


def test_a_name_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    document, page = new_page()
    page.insert_text((72, 72), "words")
    path = os.fsencode(tmp_path) + b"/caf\xe9.pdf"
    try:
        with open(path, "wb") as file:
            file.write(document.tobytes())
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    assert parse_pdf(os.fsdecode(path), LIMITS).text == "words\n"


def test_a_protection_without_a_password_is_named(tmp_path: Path) -> None:
    document, page = new_page()
    page.insert_text((72, 72), "words")
    data = document.tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="", owner_pw="o")
    path = tmp_path / "x.pdf"
    path.write_bytes(data.replace(b"/Filter/Standard", b"/Filter/Adobe.PubSec"))
    with pytest.raises(ParseError, match="something else than a password"):
        parse_pdf(str(path), LIMITS)
