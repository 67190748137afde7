"""Odd EPUBs, as they are in real libraries: no word is lost, and what cannot be read is named."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sala_core.ingest.parsers.ebook.epub import parse_epub
from sala_core.ingest.parsers.result import Parsed, ParseError, ParseLimits

CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/content.opf"/></rootfiles></container>'
ITEM = '<item id="i{0}" href="{0}.xhtml" media-type="application/xhtml+xml"/>'
ONE = "<html><body><h1>One</h1><p>The ferry leaves at nine.</p></body></html>"
TWO = "<html><body><h1>Two</h1><p>The lamp number is 4711.</p></body></html>"
BOTH = "# One\n\nThe ferry leaves at nine.\n\n# Two\n\nThe lamp number is 4711.\n"
ENCRYPTED = (
    '<enc:EncryptedData xmlns:enc="e"><enc:EncryptionMethod Algorithm="{algorithm}"/><enc:CipherData>'
    '<enc:CipherReference URI="{uri}"/></enc:CipherData></enc:EncryptedData>'
)
GARBLED = bytes(range(256)) * 4


def package(
    manifest: str = ITEM.format(1) + ITEM.format(2), spine: tuple[str, ...] = ("i1", "i2"), more: str = ""
) -> str:
    refs = "".join(f'<itemref idref="{name}"/>' for name in spine)
    return (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf"><metadata/>'
        f"<manifest>{manifest}</manifest><spine>{refs}</spine>{more}</package>"
    )


def book(opf: str | bytes | None = None, **replaced: str | bytes | None) -> dict[str, str | bytes]:
    """The members of a book of two chapters; None leaves a member out. `c1` and `c2` are the chapters."""
    members: dict[str, str | bytes | None] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": replaced.pop("container", CONTAINER),
        "OEBPS/content.opf": package() if opf is None else opf,
        "OEBPS/1.xhtml": replaced.pop("c1", ONE),
        "OEBPS/2.xhtml": replaced.pop("c2", TWO),
    }
    return {name: data for name, data in (members | replaced).items() if data is not None}


def pack(members: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def parse(tmp_path: Path) -> Callable[[dict[str, str | bytes] | bytes], Parsed]:
    def parse_book(members: dict[str, str | bytes] | bytes) -> Parsed:
        path = tmp_path / "book.epub"
        path.write_bytes(members if isinstance(members, bytes) else pack(members))
        return parse_epub(str(path), ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20))

    return parse_book


OPF = package()
ODD_PACKAGES: dict[str, str | bytes] = {
    "a byte order mark and a line before the declaration": b"\xef\xbb\xbf\n" + OPF.encode(),
    "UTF-16": OPF.replace("1.0", '1.0" encoding="utf-16').encode("utf-16"),
    "two declarations": '<?xml version="1.0"?>' + OPF,
    "an ampersand": OPF.replace("<metadata/>", "<metadata><title>Ferry & Lamp < Co</title></metadata>"),
    "an HTML entity": OPF.replace("<metadata/>", "<metadata><title>caf&eacute;</title></metadata>"),
    "a prefix without its namespace": OPF.replace(
        "<metadata/>", '<metadata><dc:title opf:x="y">A</dc:title></metadata>'
    ),
    "prefixed elements": OPF.replace("<item", "<opf:item").replace("<manifest", "<opf:manifest"),
    "another namespace": OPF.replace(
        "http://www.idpf.org/2007/opf", "http://openebook.org/namespaces/oeb-package/1.0/"
    ),
    "upper case": OPF.replace("item ", "ITEM ").replace("itemref", "itemRef").replace("href", "HREF"),
    "an end that is missing": OPF.partition("</spine>")[0],
    "attributes without quotation marks": OPF.replace('id="i1"', "id=i1"),
    "a comment with tags": OPF.replace("<manifest>", '<manifest><!-- <item id="i1" href="old.xhtml"/> -->'),
    "ids in another case": OPF.replace('idref="i1"', 'idref="I1"'),
}


@pytest.mark.parametrize("opf", ODD_PACKAGES.values(), ids=ODD_PACKAGES)
def test_a_package_that_is_not_well_formed_is_read(opf: str | bytes, parse: Callable[..., Parsed]) -> None:
    assert parse(book(opf)) == Parsed(text=BOTH)


@pytest.mark.parametrize(
    "media_type",
    [
        "text/xml", "text/html", "application/xml", "text/x-oeb1-document", "", "APPLICATION/XHTML+XML",
        "application/xhtml+xml; charset=utf-8", "image/jpeg", "application/octet-stream", "text/css",
    ],
)  # fmt: skip
def test_a_chapter_is_known_by_its_content(media_type: str, parse: Callable[..., Parsed]) -> None:
    assert parse(book(OPF.replace("application/xhtml+xml", media_type))) == Parsed(text=BOTH)


@pytest.mark.parametrize(
    ("href", "member"),
    [
        ("Text%5C1.xhtml", "OEBPS/Text/1.xhtml"),
        ("Text\\1.xhtml", "OEBPS/Text/1.xhtml"),
        ("Text/1.xhtml", "OEBPS\\Text\\1.xhtml"),
        ("/OEBPS/text/1.XHTML", "OEBPS/Text/1.xhtml"),
        ("./a/../Text/1.xhtml#start", "OEBPS/Text/1.xhtml"),
        ("../../OEBPS/Text/1.xhtml", "OEBPS/Text/1.xhtml"),
        ("1%20a.xhtml", "OEBPS/1 a.xhtml"),
        ("1 a.xhtml", "OEBPS/1%20a.xhtml"),
        ("caf%C3%A9.xhtml", "OEBPS/cafe\u0301.xhtml"),
        ("%B5%DA%D2%BB%D5%C2.xhtml", "OEBPS/第一章.xhtml"),
        ("第一章.xhtml", "OEBPS/" + "第一章.xhtml".encode("gbk").decode("cp437")),
        ("глава.xhtml", "OEBPS/" + "глава.xhtml".encode("cp866").decode("cp437")),
        ("été.xhtml", "OEBPS/" + "été.xhtml".encode().decode("cp437")),
        ("Text/one.xhtml", "elsewhere/one.xhtml"),
    ],
)
def test_a_reference_finds_its_file(href: str, member: str, parse: Callable[..., Parsed]) -> None:
    opf = package(ITEM.format(2) + f'<item id="i1" href="{href}"/>')
    assert parse(book(opf, c1=None, **{member: ONE})) == Parsed(text=BOTH)


def test_a_book_without_container_or_below_a_folder_is_found(parse: Callable[..., Parsed], tmp_path: Path) -> None:
    assert parse(book(container=None)).text == BOTH
    assert parse(book(container="<container>" + GARBLED.decode("latin-1"))).text == BOTH
    assert parse(book(container=CONTAINER.replace("OEBPS/content", "oebps\\Content"))).text == BOTH
    nested = {f"My Book/{name}": data for name, data in book().items()}
    assert parse(nested | {"__MACOSX/My Book/._content.opf": b"\0\5\x16\7"}).text == BOTH
    for name, data in book().items():
        path = tmp_path / "Book.epub" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    (tmp_path / "Book.epub/OEBPS/2.xhtml").unlink()
    (tmp_path / "secret.html").write_text("<p>secret</p>")
    (tmp_path / "Book.epub/OEBPS/2.xhtml").symlink_to(tmp_path / "secret.html")
    limits = ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20)
    parsed = parse_epub(str(tmp_path / "Book.epub"), limits)
    assert parsed.text == "# One\n\nThe ferry leaves at nine.\n"
    assert parsed.warnings == ("chapter 2.xhtml is missing: the book lists it and does not have it",)


def test_without_a_spine_or_a_package_chapters_are_read_in_another_order(parse: Callable[..., Parsed]) -> None:
    parsed = parse(book(package(spine=())))
    assert parsed.text == BOTH
    assert "reading order is missing" in parsed.warnings[0]
    members = book(c1=None, c2=None) | {"OEBPS/ch10.xhtml": TWO, "OEBPS/ch9.xhtml": ONE}
    del members["OEBPS/content.opf"]
    parsed = parse(members)
    assert parsed.text == BOTH
    assert "in the order of their names" in parsed.warnings[0]


def test_a_package_that_is_cut_off_costs_no_chapter(parse: Callable[..., Parsed]) -> None:
    for end in ('<item id="i2"', "<spine", '<itemref idref="i2"'):
        assert parse(book(OPF.partition(end)[0])).text == BOTH


def test_entities_that_a_file_declares_are_resolved(parse: Callable[..., Parsed]) -> None:
    doctype = """<?xml version="1.0"?><!DOCTYPE html [<!ENTITY who "the keeper"><!ENTITY a '&who;'>]>"""
    assert parse(book(c1=doctype + ONE.replace("ferry", "ferry of &who; &mdash;"))).text == BOTH.replace(
        "ferry", "ferry of the keeper —"
    )
    bomb = doctype.replace("the keeper", "x" * 1000) + ONE.replace("ferry", "&who;" * 100_000)
    assert "ferry" not in parse(book(c1=bomb)).text


def test_pages_that_the_spine_leaves_out_are_read_at_the_end(parse: Callable[..., Parsed]) -> None:
    assert parse(book(package(spine=("i1",)))).text == BOTH
    assert parse(book(OPF.replace('idref="i1"', 'idref="i1" linear="no"'))).text == BOTH
    # a file that the manifest names wrongly, and that nothing else names
    parsed = parse(book(package(ITEM.format(1) + '<item id="i2" href="gone.xhtml"/>')))
    assert parsed.text == BOTH
    assert parsed.warnings == ("chapter gone.xhtml is missing: the book lists it and does not have it",)


def test_a_table_of_contents_is_not_read_twice(parse: Callable[..., Parsed]) -> None:
    contents = '<html><body><h1>Contents</h1>{}<ol><li><a href="1.xhtml">One</a> 1</li></ol>{}</body></html>'
    nav = '<item id="n" href="nav.xhtml" properties="nav"/>'
    listed = {"OEBPS/nav.xhtml": contents.format("<nav>", "</nav>")}
    assert parse(book(package(nav + ITEM.format(1) + ITEM.format(2))) | listed).text == BOTH
    assert parse(book(package(nav + ITEM.format(1) + ITEM.format(2), spine=("n", "i1", "i2"))) | listed).text == BOTH
    parts = contents.replace("<ol>", "<ol><li><span>Part the First</span></li>")
    listed = {"OEBPS/nav.xhtml": parts.format("<nav>", "</nav>")}
    assert parse(book(package(nav + ITEM.format(1) + ITEM.format(2), spine=("n", "i1", "i2"))) | listed).text == BOTH
    foreword = {"OEBPS/nav.xhtml": contents.format("<p>For Ann, who waited.</p><nav>", "</nav>")}
    parsed = parse(book(package(nav + ITEM.format(1), spine=("n", "i1"))) | foreword)
    assert "For Ann, who waited." in parsed.text
    guide = '<guide><reference type="toc" href="toc.xhtml"/></guide>'
    old = package(
        '<item id="t" href="toc.xhtml"/>' + ITEM.format(1) + ITEM.format(2), spine=("t", "i1", "i2"), more=guide
    )
    assert parse(book(old) | {"OEBPS/toc.xhtml": contents.format("", "")}).text == BOTH


def test_a_drawing_and_a_plain_text_in_the_spine_are_read(parse: Callable[..., Parsed]) -> None:
    drawing = (
        '<?xml version="1.0"?><svg:svg xmlns:svg="s"><svg:style>a{}</svg:style>'
        "<svg:text>pier <svg:tspan>four</svg:tspan></svg:text>"
        '<svg:text><svg:tspan y="1">in the</svg:tspan><svg:tspan y="2">north</svg:tspan></svg:text></svg:svg>'
    )
    opf = package(
        '<item id="i1" href="d.svg" media-type="image/svg+xml"/><item id="i2" href="n.txt" media-type="text/plain"/>'
    )
    parsed = parse(book(opf, **{"OEBPS/d.svg": drawing, "OEBPS/n.txt": "1 < 2\n\nThe keeper."}))
    assert parsed.text == "pier four\nin the\nnorth\n\n1 < 2\n\nThe keeper.\n"


def test_a_picture_in_the_spine_is_named_or_its_fallback_read(parse: Callable[..., Parsed]) -> None:
    picture = '<item id="i1" href="map.jpg" media-type="image/jpeg"{}/>'
    members = {"OEBPS/map.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + GARBLED}
    parsed = parse(book(package(picture.format("") + ITEM.format(2)), c1=None) | members)
    assert parsed.text == "# Two\n\nThe lamp number is 4711.\n"
    assert parsed.warnings == ("chapter OEBPS/map.jpg is a picture: it is not read",)
    fallback = package(picture.format(' fallback="f"') + ITEM.format(2) + '<item id="f" href="1.xhtml"/>')
    assert parse(book(fallback) | members) == Parsed(text=BOTH)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "gb18030", "shift_jis", "windows-1251", "utf-8-sig"])
def test_chapters_are_decoded_as_they_declare(encoding: str, parse: Callable[..., Parsed]) -> None:
    words = {"gb18030": "渡船九点开", "shift_jis": "渡し船は九時に出る", "windows-1251": "Паром уходит в девять"}.get(
        encoding, "café"
    )
    label = encoding.removesuffix("-sig").removesuffix("-le")
    page = f'<?xml version="1.0" encoding="{label}"?><html><body><p>{words}</p></body></html>'
    assert words in parse(book(c1=page.encode(encoding))).text


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, "copy protection"),
        ({"META-INF/license.lcpl": "{}"}, "Readium LCP"),
        ({"META-INF/rights.xml": '<rights xmlns="http://ns.adobe.com/adept"/>'}, "Adobe ADEPT"),
        ({"META-INF/sinf.xml": "<fairplay/>"}, "Apple FairPlay"),
    ],
)
def test_copy_protection_is_named(more: dict[str, str], reason: str, parse: Callable[..., Parsed]) -> None:
    both = "".join(
        ENCRYPTED.format(algorithm="http://www.w3.org/2001/04/xmlenc#aes256-cbc", uri=f"OEBPS/{n}.xhtml")
        for n in (1, 2)
    )
    locked = {"META-INF/encryption.xml": f"\ufeff <encryption>& {both}</encryption>"} | more
    with pytest.raises(ParseError, match=reason):
        parse(book(c1=GARBLED, c2=GARBLED) | locked)


@pytest.mark.parametrize("algorithm", ["http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"])
def test_obfuscated_fonts_are_no_copy_protection(algorithm: str, parse: Callable[..., Parsed]) -> None:
    fonts = ENCRYPTED.format(algorithm=algorithm, uri="OEBPS/f.otf") + ENCRYPTED.format(
        algorithm=algorithm, uri="OEBPS/1.xhtml"
    )
    members = book() | {"META-INF/encryption.xml": f"<encryption>{fonts}</encryption>", "OEBPS/f.otf": GARBLED}
    assert parse(members) == Parsed(text=BOTH)


def test_one_encrypted_page_does_not_cost_the_others(parse: Callable[..., Parsed]) -> None:
    opf = package("".join(ITEM.format(n) for n in (1, 2, 3)), spine=("i1", "i2", "i3"))
    locked = f"<encryption>{ENCRYPTED.format(algorithm='aes', uri='OEBPS/3.xhtml')}</encryption>"
    parsed = parse(book(opf) | {"OEBPS/3.xhtml": GARBLED, "META-INF/encryption.xml": locked})
    assert parsed.text == BOTH
    assert parsed.warnings == ("chapter OEBPS/3.xhtml is encrypted (copy protection): it is not read",)


def test_a_chapter_that_breaks_the_parser_is_named(
    parse: Callable[..., Parsed], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sala_core.ingest.parsers.ebook import epub

    convert = epub.html_to_text

    def fails_for_one(markup: str, **options: Any) -> str:
        if "ferry" in markup:
            raise AssertionError("we should not get here!")
        return convert(markup, **options)

    monkeypatch.setattr(epub, "html_to_text", fails_for_one)
    parsed = parse(book())
    assert parsed.text == "# Two\n\nThe lamp number is 4711.\n"
    assert parsed.warnings == (
        "chapter OEBPS/1.xhtml could not be read: the reader failed on it (AssertionError: we should not get here!)",
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_is_left_of_a_cut_archive_is_read(method: int, parse: Callable[..., Parsed]) -> None:
    whole = pack(book(c2=TWO.replace("4711.", "4711. " + " ".join(map(str, range(2000))))), method)
    without_list = whole[: whole.index(b"PK\x01\x02") + 10]
    parsed = parse(without_list)
    assert parsed.text.startswith(BOTH[:-1])
    assert parsed.warnings == ("the archive is damaged or cut off: only what is left of it is read",)
    parsed = parse(whole[: whole.index(b"PK\x01\x02") - 1000])
    assert parsed.text.startswith(BOTH[:-1])
    assert "chapter OEBPS/2.xhtml is damaged: only what is left of it is read" in parsed.warnings


def test_a_wrong_checksum_does_not_cost_the_chapter(parse: Callable[..., Parsed]) -> None:
    damaged = pack(book(), zipfile.ZIP_STORED).replace(b"leaves at nine", b"leaves at mine")
    parsed = parse(damaged)
    assert parsed.text == BOTH.replace("nine", "mine")
    assert parsed.warnings == ("chapter OEBPS/1.xhtml is damaged: only what is left of it is read",)


def test_no_size_in_a_cut_archive_passes_the_limit(tmp_path: Path) -> None:
    whole = pack(book(c1="x" * (4 << 20)))
    path = tmp_path / "book.epub"
    path.write_bytes(whole[: whole.index(b"PK\x01\x02")])
    with pytest.raises(ParseError, match="unpacks to more than"):
        parse_epub(str(path), ParseLimits(max_text_bytes=1 << 30, max_unpacked_bytes=1 << 20))


def test_an_undeclared_encoding_is_guessed_once_for_a_book(
    parse: Callable[..., Parsed], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sala_core.ingest.parsers.ebook import chapter_encoding

    words = "Паром уходит в девять утра, а зимой в десять. Смотритель живёт на берегу у старой пристани. "
    page = f"<html><body><p>{words * 60}</p></body></html>".encode("cp1251")
    guesses: list[str] = []
    guess = chapter_encoding.guess_codec
    monkeypatch.setattr(
        chapter_encoding, "guess_codec", lambda *args, **options: guesses.append("") or guess(*args, **options)
    )
    short = "<p>Девять утра.</p>".encode("cp1251")
    opf = package("".join(ITEM.format(n) for n in (1, 2, 3)), spine=("i1", "i2", "i3"))
    parsed = parse(book(opf, c1=page, c2=page) | {"OEBPS/3.xhtml": short})
    assert parsed.text.count("Смотритель живёт") == 120
    assert parsed.text.endswith("\n\nДевять утра.\n")
    assert parsed.warnings == ("chapter OEBPS/1.xhtml and 2 more: read as windows-1251 (guessed)",)
    assert len(guesses) == 1


def test_a_password_is_the_reason(parse: Callable[..., Parsed]) -> None:
    data = bytearray(pack(book()))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = 0
        while (position := data.find(mark, position)) >= 0:
            name_at = position + (30 if offset == 6 else 46)
            if data[name_at:].startswith(b"OEBPS/") and not data[name_at:].startswith(b"OEBPS/content"):
                data[position + offset] |= 1
            position += 4
    with pytest.raises(ParseError, match="remove its password"):
        parse(bytes(data))
