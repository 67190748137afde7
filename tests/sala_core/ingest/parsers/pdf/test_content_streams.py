"""PDF pages written in PDF syntax: the text is what a person sees on the page, whatever the syntax."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sala_core.ingest.parsers.pdf.reader import parse_pdf
from sala_core.ingest.parsers.result import Parsed, ParseLimits

LIMITS = ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20)
FONT = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"
Read = Callable[[bytes], Parsed]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_bytes(data: bytes) -> Parsed:
        path = tmp_path / "x.pdf"
        path.write_bytes(data)
        return parse_pdf(str(path), LIMITS)

    return read_bytes


def stream(content: str, entries: str = "") -> str:
    return f"<<{entries}/Length {len(content)}>>stream\n{content}\nendstream"


def make(objects: Sequence[str]) -> bytes:
    """A file of these objects, numbered from 1; the first is the catalog."""
    data, offsets = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    head = f"xref\n0 {size}\n0000000000 65535 f \n{table}"
    tail = f"trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n{len(data)}\n%%EOF"
    return data + (head + tail).encode("latin-1")


def page(
    content: str,
    *more: str,
    resources: str = "/Font<</F1 5 0 R>>",
    entries: str = "",
    catalog: str = "",
    font: str = FONT,
) -> bytes:
    """One page. Objects: 1 catalog, 2 page tree, 3 page, 4 content, 5 the font F1, from 6 on `more`."""
    return make(
        [
            f"<</Type/Catalog/Pages 2 0 R{catalog}>>",
            "<</Type/Pages/Kids[3 0 R]/Count 1>>",
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]{entries}/Contents 4 0 R/Resources<<{resources}>>>>",
            stream(content),
            font,
            *more,
        ]
    )


def at(y: int, text: str, *, x: int = 72, before: str = "") -> str:
    return f"BT {before} /F1 12 Tf {x} {y} Td ({text}) Tj ET "


SHOWN = at(700, "shown")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("BT /F1 12 Tf 72 700 Td [(The)-300(ferry)-280(leaves)] TJ ET", "The ferry leaves\n"),
        ("BT /F1 12 Tf 72 700 Td (price 12) Tj 60 0 Td (30) Tj 20 0 Td (40) Tj ET", "price 12 30 40\n"),
        ("BT /F1 12 Tf 72 700 Td (4) Tj 60 0 Td (7) Tj 60 0 Td (11) Tj ET", "4\t7\t11\n"),
        ("BT /F1 12 Tf 72 700 Td (10) Tj 5 Ts (6) Tj 0 Ts ( litres) Tj ET", "10⁶ litres\n"),
        ("BT 1 Tr /F1 30 Tf 72 700 Td (outline) Tj ET", "outline\n"),
        ("q BT 7 Tr /F1 30 Tf 72 700 Td (clip) Tj ET 1 0 0 rg 0 0 595 842 re f Q", "clip\n"),
        (SHOWN + at(-500, "far out"), "shown\n"),
        (SHOWN + at(600, "hidden", before="1 1 1 rg"), "shown\n"),
        ("0 g 60 590 300 40 re f " + SHOWN + at(600, "title", before="1 1 1 rg"), "shown\ntitle\n"),
        (SHOWN + "q 0 0 10 10 re W n " + at(500, "clipped") + "Q", "shown\n"),
        ("0.7 g BT /F1 20 Tf 74 698 Td (Shadow) Tj ET 0 g BT /F1 20 Tf 72 700 Td (Shadow) Tj ET", "Shadow\n"),
        ("/Span <</ActualText<FEFF00660069>>> BDC BT /F1 12 Tf 72 700 Td (x) Tj ET EMC", "fi\n"),
    ],
)  # fmt: skip
def test_text_is_what_the_page_shows(read: Read, content: str, text: str) -> None:
    assert read(page(content)).text == text


def test_text_that_nobody_sees_is_reported(read: Read) -> None:
    parsed = read(page(SHOWN + at(600, "hidden", before="1 1 1 rg")))
    assert parsed.warnings == ("page 1: text that nobody can see (white or transparent), left out",)
    transparent = page(SHOWN + "/G gs " + at(600, "hidden"), resources="/Font<</F1 5 0 R>>/ExtGState<</G<</ca 0>>>>")
    assert read(transparent).text == "shown\n"


@pytest.mark.parametrize(("state", "text"), [("ON", "shown\nlayer\n"), ("OFF", "shown\n")])
def test_layers_are_read_if_they_are_on(read: Read, state: str, text: str) -> None:
    data = page(
        SHOWN + "/OC /L BDC " + at(600, "layer") + "EMC",
        "<</Type/OCG/Name(L)>>",
        resources="/Font<</F1 5 0 R>>/Properties<</L 6 0 R>>",
        catalog=f"/OCProperties<</OCGs[6 0 R]/D<</{state}[6 0 R]>>>>",
    )
    assert read(data).text == text


@pytest.mark.parametrize(
    "entries", ["/UserUnit 10", "/CropBox[0 100 595 842]", "/Rotate 90", "/Rotate 180", "/Rotate 270"]
)
def test_page_sizes_and_rotations_keep_the_text(read: Read, entries: str) -> None:
    assert read(page(SHOWN, entries=entries)).text == "shown\n"


def test_text_outside_of_the_crop_box_is_not_read(read: Read) -> None:
    assert read(page(SHOWN + at(20, "cropped"), entries="/CropBox[0 100 595 842]")).text == "shown\n"


@pytest.mark.parametrize("resources", ["/Resources<</Font<</F1 5 0 R>>>>", ""])
def test_forms_inside_pages_are_read(read: Read, resources: str) -> None:
    form = stream(at(700, "in a form"), f"/Type/XObject/Subtype/Form/BBox[0 0 595 842]{resources}")
    data = page("/X Do", form, resources="/Font<</F1 5 0 R>>/XObject<</X 6 0 R>>")
    assert read(data).text == "in a form\n"


@pytest.mark.parametrize(
    ("font", "code", "text"),
    [
        ("ZapfDingbats", "l3n", "●✓■"),
        ("Wingdings-Regular", "l", "●"),
        ("Symbol", "abm", "αβµ"),
        ("Symbol", "\\322\\323\\324 \\352", "®©™ ⎢"),
    ],
)
def test_symbol_fonts_show_symbols_and_not_letters(read: Read, font: str, code: str, text: str) -> None:
    symbols = f"<</Type/Font/Subtype/Type1/BaseFont/{font}>>"
    content = f"BT /F2 12 Tf 72 700 Td ({code}) Tj /F1 12 Tf ( item) Tj ET"
    assert read(page(content, symbols, resources="/Font<</F1 5 0 R/F2 6 0 R>>")).text == f"{text} item\n"


def type3(names: str, *, unicode: str = "") -> list[str]:
    first, second = names.split()
    return [
        "<</Type/Font/Subtype/Type3/FontBBox[0 0 750 750]/FontMatrix[.001 0 0 .001 0 0]/FirstChar 97/LastChar 98"
        f"/CharProcs<</{first} 7 0 R/{second} 7 0 R>>/Encoding<</Type/Encoding/Differences[97/{first}/{second}]>>"
        f"/Widths[1000 1000]/Resources<<>>{'/ToUnicode 8 0 R' if unicode else ''}>>",
        stream("1000 0 0 0 750 750 d1 0 0 750 750 re f"),
        *([stream(f"1 begincodespacerange <00> <FF> endcodespacerange {unicode}")] if unicode else []),
    ]


def test_type_3_fonts_are_read_by_names_or_maps_and_reported_without(read: Read) -> None:
    content = "BT /F3 12 Tf 72 700 Td (abbaabab) Tj ET " + at(600, "words")
    resources = "/Font<</F1 5 0 R/F3 6 0 R>>"
    assert read(page(content, *type3("a b"), resources=resources)).text == "abbaabab\nwords\n"
    unicode = "2 beginbfchar <61> <0066> <62> <0065> endbfchar"
    assert read(page(content, *type3("g1 g2", unicode=unicode), resources=resources)).text == "feeffefe\nwords\n"
    parsed = read(page(content, *type3("g1 g2"), resources=resources))
    assert parsed.text == "\ufffd" * 8 + "\nwords\n"
    assert "does not say which letters" in parsed.warnings[0]


BROKEN: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("wrong offset of the table", lambda data: data[: data.rindex(b"startxref")] + b"startxref\n99999\n%%EOF"),
    ("no table", lambda data: data[: data.rindex(b"xref\n0")]),
    ("bytes after the end", lambda data: data + b"\0" * 3000),
    ("bytes before the start", lambda data: b"junk line\r\n" * 20 + data),
    ("no end of the stream", lambda data: data.replace(b"endstream", b"", 1)),
    ("no types", lambda data: data.replace(b"/Type/Page/", b"/").replace(b"/Type/Pages", b"")),
    ("no page size", lambda data: data.replace(b"/MediaBox[0 0 595 842]", b"")),
    ("corners of the page swapped", lambda data: data.replace(b"[0 0 595 842]", b"[595 842 0 0]")),
]


@pytest.mark.parametrize("damage", [damage for _, damage in BROKEN], ids=[name for name, _ in BROKEN])
def test_damaged_files_are_read_where_a_viewer_shows_them(read: Read, damage: Callable[[bytes], bytes]) -> None:
    assert read(damage(page(SHOWN))).text == "shown\n"


def widget(entries: str, *more: str) -> bytes:
    form = "/AcroForm<</Fields[6 0 R]/NeedAppearances true/DR<</Font<</Helv 5 0 R>>>>/DA(/Helv 0 Tf 0 g)>>"
    field = f"<</Type/Annot/Subtype/Widget/P 3 0 R/Rect[100 690 300 710]/DA(/Helv 10 Tf 0 g){entries}>>"
    return page(at(740, "Form"), field, *more, entries="/Annots[6 0 R]", catalog=form)


APPEARANCE = "/AP<</N<</{} 7 0 R/Off 7 0 R>>>>"


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        ("/FT/Tx/T(name)/V(Ferryman Ottokar)", "name: Ferryman Ottokar"),
        ("/FT/Tx/T(name)/V<FEFF0047007200FC00DF0065>", "name: Grüße"),
        ("/FT/Ch/Ff 131072/T(street)/V(L1)/Opt[[(L1)(Lime Street)][(O1)(Oak Street)]]", "street: Lime Street"),
        ("/FT/Btn/T(c1)/TU(Pier four)/V/Yes/AS/Yes" + APPEARANCE.format("Yes"), "[x] Pier four"),
        ("/FT/Btn/Ff 49152/T(boat)/V/seal/AS/seal" + APPEARANCE.format("seal"), "[x] boat: seal"),
        ("/F 2/FT/Tx/T(name)/V(hidden value)", None),
    ],
)
def test_fields_are_read_as_a_viewer_shows_them(read: Read, entries: str, line: str | None) -> None:
    text = read(widget(entries, stream("", "/Type/XObject/Subtype/Form/BBox[0 0 20 20]"))).text
    shown = text.splitlines()[1:]
    if line is None:
        assert "hidden" not in text
    else:
        assert shown[-1] == line


def test_runs_of_a_right_to_left_line_keep_their_spaces_and_brackets(read: Read) -> None:
    # glyphs from left to right, as a page shows them; codes are those of Unicode
    visual = ".14:30 הנכש Otter לצא (4711) בוחרב רג רמושה"
    unicode = stream(
        "1 begincodespacerange <0000> <FFFF> endcodespacerange 1 beginbfrange <0000> <FFFF> <0000> endbfrange"
    )
    font = "<</Type/Font/Subtype/Type0/BaseFont/A/Encoding/Identity-H/DescendantFonts[7 0 R]/ToUnicode 8 0 R>>"
    descriptor = "<</Type/FontDescriptor/FontName/A/Flags 4/FontBBox[0 0 1000 1000]/ItalicAngle 0/Ascent 800>>"
    descendant = (
        "<</Type/Font/Subtype/CIDFontType2/BaseFont/A/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>"
        f"/DW 500/FontDescriptor {descriptor}>>"
    )
    content = f"BT /F2 12 Tf 72 700 Td <{visual.encode('utf-16-be').hex()}> Tj ET"
    data = page(content, font, descendant, unicode, resources="/Font<</F2 6 0 R>>")
    assert read(data).text == "השומר גר ברחוב (4711) אצל Otter שכנה 14:30.\n"
