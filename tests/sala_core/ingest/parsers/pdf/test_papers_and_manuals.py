"""What papers, manuals and forms have: signs of formulas, code, underscores that are drawn, cells, boxes to tick."""

from collections.abc import Callable
from typing import Any

import pymupdf
import pytest

from sala_core.ingest.parsers.pdf.hyphens import join_words
from sala_core.ingest.parsers.pdf.raised import spans_text
from sala_core.ingest.parsers.pdf.symbols import name_symbols, name_underscores
from sala_core.ingest.parsers.result import Parsed, ParseLimits

LIMITS = ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20)
Read = Callable[[pymupdf.Document], Parsed]


def new_page() -> tuple[pymupdf.Document, pymupdf.Page]:
    document = pymupdf.open()
    return document, document.new_page()


def make_span(
    text: str, font: str = "CMR10", *, flags: int = 16, size: float = 10, foot: float = 100
) -> dict[str, Any]:
    """A span whose characters stand on `foot`, as PyMuPDF's `dict` gives it."""
    box = (0.0, foot - 0.8 * size, 10.0, foot + 0.2 * size)
    return {
        "text": text, "font": font, "char_flags": flags, "size": size, "origin": (0.0, foot), "bbox": box,
        "descender": -0.2,
    }  # fmt: skip


def test_marks_of_authors_stay_together() -> None:
    marks = [make_span(text, font, size=7, foot=96) for text, font in zip("a,b,*", "RSRSS", strict=True)]
    assert spans_text([make_span("Özen"), *marks], is_level=True) == "Özen^a,b,*"
    assert spans_text([make_span("Özen "), *marks], is_level=True) == "Özen a,b,*"
    indices = [make_span("value"), make_span("i", "CMMI7", size=7, foot=102), make_span("+1", size=7, foot=102)]
    assert spans_text(indices, is_level=True) == "value_i₊₁"


@pytest.mark.parametrize(
    ("font", "flags", "codes", "shown"),
    [
        ("CMEX10", 144, "PRp\x10\x11", "∑∫√()"),
        ("CMEX10", 16, "P", "P"),  # a font that names its characters
        ("AdvMacMthSyN", 16, "¼ þ", "= +"),
        ("AdvMacMthSyN", 144, "\x03", "×"),
        ("AdvEls-ent5", 16, " 1", " °"),
        ("AdvOT863180fb", 16, "þ1", "þ1"),  # letters and digits
    ],
)
def test_signs_of_mathematical_fonts(font: str, flags: int, codes: str, shown: str) -> None:
    spans = [make_span(codes, font, flags=flags)]
    name_symbols(spans, {font})
    assert spans[0]["text"] == shown
    assert not spans[0]["char_flags"] & 128 or flags == 16


def test_an_exponent_behind_a_sign_that_hangs_lower_is_raised() -> None:
    # the sign of a sum has a height of its own, above that of the letters
    spans = [
        make_span("∑", "CMEX10", foot=92),
        make_span(" (", foot=92),
        make_span("y − m)"),
        make_span("2", size=7, foot=95),
    ]
    spans[1]["bbox"] = (0.0, 92.0, 10.0, 102.0)  # of the bracket, behind the space at the height of the sign
    assert spans_text(spans, is_level=True) == "∑ (y − m)²"
    assert spans_text([*spans[:1], {**spans[1], "text": " y"}, spans[3]], is_level=True) == "∑ y²"


def test_exponents_that_are_longer_than_their_base_or_stand_before_it_are_raised(read: Read) -> None:
    assert spans_text([make_span("10"), make_span("−24", size=7, foot=96)], is_level=True) == "10⁻²⁴"
    behind = {**make_span(" cm", foot=95), "bbox": (0.0, 90.0, 10.0, 102.0)}  # the space is raised, the word is not
    assert spans_text([make_span("-1", size=6, foot=95), behind], is_level=True) == "⁻¹ cm"
    document, page = new_page()
    for x, text, size, rise in ((72, "zepto", 10, 0), (150, "10", 10, 0), (161.5, "-21", 7, 4), (250, "end", 10, 0)):
        page.insert_text((x, 100 - rise), text, fontsize=size)
    assert read(document).text == "zepto\t10⁻²¹\tend\n"


def test_underscores_that_are_drawn_as_rules_are_read() -> None:
    def make_line(*spans: tuple[str, float, float]) -> dict[str, Any]:
        made = [{**make_span(text), "bbox": (x0, 92.0, x1, 102.0)} for text, x0, x1 in spans]
        return {"spans": made, "dir": (1.0, 0.0), "bbox": (spans[0][1], 92.0, spans[-1][2], 102.0)}

    between = make_line(("asn1", 72, 92), (" ", 92, 95.6), ("copy", 95.6, 115), (" ", 115, 122), ("x", 122, 127))
    behind = make_line(("asn1", 200, 220))
    fraction = make_line(("a", 300, 305), (" ", 305, 308.6), ("b", 308.6, 313))
    rules = [(92.3, 99.6, 95.7, 100.0), (118.5, 99.6, 121.9, 100.0), (220.3, 99.6, 223.7, 100.0)]
    rules += [(305.2, 97.3, 308.6, 97.7), (72.0, 101.0, 127.0, 101.4)]  # the bar of a fraction, an underlined line
    name_underscores([between, behind, fraction], rules)
    assert ["".join(span["text"] for span in line["spans"]) for line in (between, behind, fraction)] == [
        "asn1_copy _x", "asn1_", "a b",
    ]  # fmt: skip
    assert behind["bbox"][2] == 223.7


def test_code_keeps_its_indentation_in_a_font_that_only_its_name_calls_monospaced(read: Read) -> None:
    document, page = new_page()
    page.insert_font(fontname="F9", fontbuffer=pymupdf.Font("helv").buffer)
    for number, (indent, text) in enumerate([(0, "%:"), (8, "dh $@"), (0, "clean:"), (8, "rm -f out")]):
        width = pymupdf.get_text_length(text, fontsize=10) / len(text)
        page.insert_text((72 + indent * width, 100 + 14 * number), text, fontname="F9", fontsize=10)
    for xref in range(1, document.xref_length()):
        for key in ("BaseFont", "FontName"):
            if document.xref_get_key(xref, key)[0] == "name":
                document.xref_set_key(xref, key, "/LiberationMono")
        if document.xref_get_key(xref, "Flags")[0] == "int":
            document.xref_set_key(xref, "Flags", "4")
    assert read(document).text == "%:\n        dh $@\nclean:\n        rm -f out\n"


def test_comments_stay_beside_their_code(read: Read) -> None:
    rows = [("mov edx, ebx", "// load primes from the record"), ("mov edi, edx", "// store primes to the stack"),
            ("and eax, -4", "// mask the tag of the class"), ("jmp the epilog", "// go to the statement")]  # fmt: skip
    document, page = new_page()
    for number, (code, comment) in enumerate(rows):
        page.insert_text((72, 100 + 14 * number), code, fontname="cour", fontsize=10)
        page.insert_text((260, 100 + 14 * number), comment, fontname="cour", fontsize=10)
    assert read(document).text == "".join(f"{code}\t{comment}\n" for code, comment in rows)


def test_words_that_are_divided_in_a_cell_are_joined(read: Read) -> None:
    document, page = new_page()
    rows = [["apt show", "Paketinforma-\ntionen anzeigen"], ["--compare-\nversions", "Ein- und\nhttps:\n//a.org"]]
    for number in range(3):
        page.draw_line((60, 80 + number * 40), (300, 80 + number * 40))
        page.draw_line((60 + number * 120, 80), (60 + number * 120, 160))
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            for line, text in enumerate(cell.splitlines()):
                page.insert_text((65 + x * 120, 95 + y * 40 + line * 12), text, fontsize=10)
    page.insert_text((60, 250), "Die Paketinformationen stehen hier.")
    assert read(document).text.splitlines()[:2] == [
        "apt show | Paketinformationen anzeigen", "--compare-versions | Ein- und https://a.org",
    ]  # fmt: skip
    pages = [["a | update\u00adlists", "b | Vor\u00adund Nachteile", "Vor und nach und vor"]]
    join_words(pages)
    assert pages[0][:2] == ["a | update\u00adlists".replace("\u00ad", "-"), "b | Vor- und Nachteile"]


def test_lines_of_a_chinese_or_japanese_cell_have_no_space_between(read: Read) -> None:
    document, page = new_page()
    for number in range(3):
        page.draw_line((60, 80 + number * 40), (300, 80 + number * 40))
        page.draw_line((60 + number * 120, 80), (60 + number * 120, 160))
    cells = [
        (65, 95, "コマンド"),
        (185, 95, "全てがここで見つかり"),
        (185, 108, "ます。"),
        (65, 135, "apt"),
        (185, 135, "表"),
    ]
    for x, y, text in cells:
        page.insert_text((x, y), text, fontname="japan", fontsize=10)
    assert read(document).text == "コマンド | 全てがここで見つかります。\napt | 表\n"


def test_a_ticked_box_whose_drawing_has_another_name_is_ticked(read: Read) -> None:
    document, page = new_page()
    for number, name in enumerate(("member", "letter")):
        widget = pymupdf.Widget()
        widget.field_type, widget.field_name = pymupdf.PDF_WIDGET_TYPE_CHECKBOX, name
        widget.rect = pymupdf.Rect(72, 100 + 30 * number, 84, 112 + 30 * number)
        widget.field_value = number == 0
        page.add_widget(widget)
    page.insert_text((90, 110), "Member")
    ticked = next(page.widgets())
    document.xref_set_key(ticked.xref, "V", "/Ja")
    document.xref_set_key(ticked.xref, "AS", "/Ja")
    assert read(document).text == "Member\n[x] member\n[ ] letter\n"
