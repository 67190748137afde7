"""E-books of the kinds that readers have been reported to refuse or to read in part."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sala_core.ingest.parsers.ebook.epub import parse_epub
from sala_core.ingest.parsers.ebook.fb2 import parse_fb2
from sala_core.ingest.parsers.result import Parsed, ParseError, ParseLimits

LIMITS = ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20)
CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/content.opf"/></rootfiles></container>'
ITEM = '<item id="{0}" href="{1}" media-type="{2}" {3}/>'
PAGE = "<html><head>{}</head><body><h1>{}</h1><p>{}</p></body></html>"
ONE = PAGE.format("", "One", "The ferry leaves at nine.")
TWO = PAGE.format("", "Two", "The lamp number is 4711.")
BOTH = "# One\n\nThe ferry leaves at nine.\n\n# Two\n\nThe lamp number is 4711.\n"
GARBLED = bytes(range(256)) * 4
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + GARBLED
ENCRYPTED = '<encryption><EncryptedData><EncryptionMethod Algorithm="aes"/><CipherReference URI="{}"/></EncryptedData>'


def item(name: str, media_type: str = "application/xhtml+xml", more: str = "") -> str:
    return ITEM.format(name.partition(".")[0], name, media_type, more)


def named(name: str, href: str) -> str:
    return ITEM.format(name, href, "", "")


def package(items: str = item("1.xhtml") + item("2.xhtml"), spine: str = "1 2") -> str:
    refs = "".join(f'<itemref idref="{name}"/>' for name in spine.split())
    return f'<?xml version="1.0"?><package><metadata/><manifest>{items}</manifest><spine>{refs}</spine></package>'


def book(opf: str | bytes = package(), **replaced: str | bytes | None) -> dict[str, str | bytes]:
    members: dict[str, str | bytes | None] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/content.opf": opf,
        "OEBPS/1.xhtml": ONE,
        "OEBPS/2.xhtml": TWO,
    }
    return {name: data for name, data in (members | replaced).items() if data is not None}


def pack(members: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=method == zipfile.ZIP_BZIP2) as file:
                file.write(data.encode() if isinstance(data, str) else data)
    return buffer.getvalue()


@pytest.fixture
def parse(tmp_path: Path) -> Callable[[dict[str, str | bytes] | bytes], Parsed]:
    def parse_book(members: dict[str, str | bytes] | bytes) -> Parsed:
        (tmp_path / "book.epub").write_bytes(members if isinstance(members, bytes) else pack(members))
        return parse_epub(str(tmp_path / "book.epub"), LIMITS)

    return parse_book


OPF = package()
WHOLE: dict[str, dict[str, str | bytes] | bytes] = {
    "a comment with two dashes": book(OPF.replace("</package>", "<!-- -- bad -- --></package>")),
    "an item in a comment": book(OPF.replace("<spine>", '<spine><!--<itemref idref="2"/>-->')),
    "two files with one id": book(package(named("a", "1.xhtml") + named("a", "2.xhtml"), "a")),
    "spaces around ids and names": book(package(named(" 1 ", " 1.xhtml ") + item("2.xhtml"))),
    "single quotes": book(OPF.replace('"', "'")),
    "latin-1 without a declaration": book(OPF.replace("<metadata/>", "<metadata>café</metadata>").encode("latin-1")),
    "utf-16 declared, and utf-8": book(OPF.replace('"1.0"', '"1.0" encoding="utf-16"')),
    "control characters": book(OPF.replace("<metadata/>", "<metadata>\x0b\0</metadata>")),
    "a metadata element that is not closed": book(OPF.replace("<metadata/>", '<metadata><meta name="cover">')),
    "a spine in front of the manifest": book(
        '<package><spine><itemref idref="1"/><itemref idref="2"/></spine><manifest>'
        + item("1.xhtml")
        + item("2.xhtml")
        + "</manifest></package>"
    ),
    "references by name": book(package(spine="1.xhtml 2.xhtml")),
    "two references into one file": book(
        package(named("1", "1.xhtml#a") + named("b", "1.xhtml#b") + item("2.xhtml"), "1 b 2")
    ),
    "a plus sign for a space": book(
        package(named("1", "a+b.xhtml") + item("2.xhtml")), **{"OEBPS/1.xhtml": None, "OEBPS/a b.xhtml": ONE}
    ),
    "another suffix": book(package(named("1", "1.html") + item("2.xhtml"))),
    "percent signs twice": book(
        package(named("1", "a%2520b.xhtml") + item("2.xhtml")), **{"OEBPS/1.xhtml": None, "OEBPS/a%20b.xhtml": ONE}
    ),
    "a chain of fallbacks": book(
        package(
            item("p.pdf", "application/pdf", 'fallback="q"')
            + item("q.png", "image/png", 'fallback="1"')
            + item("1.xhtml")
            + item("2.xhtml"),
            "p 2",
        ),
        **{"OEBPS/p.pdf": b"%PDF-1.4 \0", "OEBPS/q.png": b"\x89PNG\r\n\x1a\n\0"},
    ),
    "a package by another name": book(
        **{"META-INF/container.xml": CONTAINER.replace("content.opf", "p.xml"), "OEBPS/p.xml": OPF}
    ),
    "a PDF as first root file": book(
        **{
            "META-INF/container.xml": CONTAINER.replace("<rootfiles>", '<rootfiles><rootfile full-path="a.pdf"/>'),
            "a.pdf": "%PDF",
        }
    ),
    "no mimetype": book(mimetype=None),
    "names from the top": {f"/{name}": data for name, data in book().items()},
    "names with a dot": {f"./{name}": data for name, data in book().items()},
    "bytes behind the archive": pack(book()) + b"\0" * 1000,
    "bytes in front of the archive": b"junk" * 9 + pack(book()),
    "zip64": pack(book(), zipfile.ZIP_BZIP2),
    "LZMA": pack(book(), zipfile.ZIP_LZMA),
    "obfuscated fonts that are missing": book(
        **{
            "META-INF/encryption.xml": ENCRYPTED.format("OEBPS/f.otf").replace(
                "aes", "http://www.idpf.org/2008/embedding"
            )
        }
    ),
    "a list of encrypted files that are not": book(**{"META-INF/encryption.xml": ENCRYPTED.format("OEBPS/1.xhtml")}),
    "upper case": book(**{"OEBPS/1.xhtml": ONE.replace("html", "HTML").replace("body", "BODY")}),
    "a second declaration of entities": book(
        **{"OEBPS/1.xhtml": '<!DOCTYPE html [<!ENTITY w "fe&#114;ry">]>' + ONE.replace("ferry", "&w;")}
    ),
}


@pytest.mark.parametrize("members", WHOLE.values(), ids=WHOLE)
def test_every_chapter_is_read_in_its_order(
    members: dict[str, str | bytes] | bytes, parse: Callable[..., Parsed]
) -> None:
    assert parse(members) == Parsed(text=BOTH)


@pytest.mark.parametrize(
    ("members", "note"),
    [
        (
            book(package(named("r", "https://example.org/x.xhtml") + item("1.xhtml") + item("2.xhtml"), "r 1 2")),
            "chapter https://example.org/x.xhtml is not in the book but on the network: it is not read",
        ),
        (
            book(
                **{
                    "META-INF/container.xml": CONTAINER.replace(
                        "</rootfiles>", '<rootfile full-path="alt.opf"/></rootfiles>'
                    ),
                    "alt.opf": package(item("z.txt"), "z"),
                    "z.txt": "another",
                }
            ),
            "a second form of the book (alt.opf, 1 pages) is not read",
        ),
        (
            book(
                package(item("m.mp3", "audio/mpeg") + item("1.xhtml") + item("2.xhtml"), "m 1 2"),
                **{"OEBPS/m.mp3": b"ID3\3\0"},
            ),
            "chapter OEBPS/m.mp3 is sound or video: it is not read",
        ),
        (
            book(
                package(item("e.xhtml") + item("1.xhtml") + item("2.xhtml"), "e 1 2"),
                **{
                    "OEBPS/e.xhtml": GARBLED,
                    "META-INF/encryption.xml": ENCRYPTED.format("OEBPS/e.xhtml"),
                    "META-INF/rights.xml": "<a x='http://ns.adobe.com/adept'/>",
                },
            ),
            "chapter OEBPS/e.xhtml is encrypted (copy protection, Adobe ADEPT): it is not read",
        ),
    ],
    ids=["on the network", "another rendition", "sound", "one chapter encrypted"],
)
def test_what_is_not_read_is_named_with_its_reason(
    members: dict[str, str | bytes], note: str, parse: Callable[..., Parsed]
) -> None:
    assert parse(members) == Parsed(text=BOTH, warnings=(note,))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (
            book(
                package(item("1.jpg", "image/jpeg"), "1"),
                **{"OEBPS/1.jpg": JPEG, "OEBPS/1.xhtml": None, "OEBPS/2.xhtml": None},
            ),
            "each of its pages is a picture",
        ),
        (
            book(**{"OEBPS/1.xhtml": "<img src='1.jpg'/>", "OEBPS/2.xhtml": "<p/>", "OEBPS/1.jpg": JPEG}),
            "its pages are pictures",
        ),
        (
            book(**{"OEBPS/1.xhtml": GARBLED, "OEBPS/2.xhtml": GARBLED, "rights.xml": "<kdrm/>"}),
            "copy protection, Kobo",
        ),
    ],
    ids=["pictures in the spine", "a comic", "Kobo"],
)
def test_a_book_without_text_is_refused_with_the_true_reason(
    members: dict[str, str | bytes], reason: str, parse: Callable[..., Parsed]
) -> None:
    with pytest.raises(ParseError, match=reason):
        parse(members)


def test_a_damaged_chapter_is_named_with_what_is_wrong(parse: Callable[..., Parsed]) -> None:
    data = pack(book(), zipfile.ZIP_STORED)
    place = data.index(
        b"PK\x01\x02", data.index(b"PK\x01\x02", data.index(b"OEBPS/2.xhtml", data.index(b"PK\x01\x02")) - 60)
    )
    unknown = data[: place + 10] + b"\x63\0" + data[place + 12 :]  # a method of compression that nobody has
    parsed = parse(unknown)
    assert parsed.text == BOTH[: BOTH.index("# Two") - 1]
    assert parsed.warnings[0].startswith("chapter OEBPS/2.xhtml could not be read: it is compressed in a way")


def test_style_sheets_of_a_book_say_what_its_classes_mean(parse: Callable[..., Parsed]) -> None:
    link = '<link rel="stylesheet" type="text/css" href="../css/a.css"/>'
    page = PAGE.format(link, "One", '10<span class="u">6</span> <span class="l">v1</span><span class="l">v2</span>')
    sheets = {
        "OEBPS/css/a.css": "@import 'b.css'; @import url(a.css);",
        "OEBPS/css/b.css": ".u{vertical-align:super} .l{display:block}",
    }
    opf = package(named("t", "text/t.xhtml") + item("2.xhtml"), "t 2")
    parsed = parse(book(opf, **{"OEBPS/1.xhtml": None, "OEBPS/text/t.xhtml": page}, **sheets))
    assert parsed.text == BOTH.replace("The ferry leaves at nine.", "10⁶\nv1\nv2")


def test_a_talking_book_is_read_with_its_structure(parse: Callable[..., Parsed]) -> None:
    chapter = (
        '<?xml version="1.0"?><dtbook xmlns="x"><head><title>no</title></head><book><frontmatter>'
        "<doctitle>Harbour</doctitle></frontmatter><bodymatter><level1><h1>One</h1>"
        '<p>The fer<pagenum id="p1">12</pagenum>ry leaves at nine.'
        '<noteref idref="#n">1</noteref></p><note id="n"><p>Never.</p></note><list type="ol" enum="a" start="3">'
        "<li>x</li>"
        "</list><linegroup><line>v1</line><line>v2</line></linegroup><list><li>y</li></list></level1></bodymatter>"
        "</book></dtbook>"
    )
    assert parse(book(**{"OEBPS/1.xhtml": chapter, "OEBPS/2.xhtml": "<p/>"})).text == (
        "# Harbour\n\n# One\n\nThe ferry leaves at nine.¹\n\nNever.\n\nc. x\n\nv1\nv2\n\n- y\n"
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('<p>in 2019<a l:href="#n3">3</a></p>', "in 2019³\n"),
        (
            "<p>a<br/>b <b>c</b></p><h2>H</h2><div>e</div><ul><li>1</li><li>2</li></ul>",
            "a\nb c\n\n## H\n\ne\n\n- 1\n- 2\n",
        ),
        ("<p>5 < 6 and a<b</p>", "5 < 6 and a<b\n"),
        ('<title><p>Chapter<a l:href="#n" type="note">1</a></p></title><p>x</p>', "## Chapter¹\n\nx\n"),
        ("<p><emphasis>О</emphasis>днажды tran\u00adsition</p>", "Однажды transition\n"),
    ],
)
def test_a_fiction_book_keeps_what_is_not_of_its_schema(body: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "a.fb2").write_text(
        f"<FictionBook><body><section>{body}</section></body></FictionBook>", encoding="utf-8"
    )
    assert parse_fb2(str(tmp_path / "a.fb2"), LIMITS).text == text


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["9", "a ", 'a="', "<item ", "<!--", "<!DOCTYPE ", "&", "<a:", "<link "])
def test_no_package_takes_quadratic_time(part: str, parse: Callable[..., Parsed]) -> None:
    opf = OPF.replace("<metadata/>", f"<metadata {part * (200_000 // len(part))}/>")
    assert "4711" in parse(book(opf)).text


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["{", "}", "a{", "@media print{", "@import ", "/*", "display:", ".u,", "a"])
def test_no_style_sheet_takes_quadratic_time(part: str, parse: Callable[..., Parsed]) -> None:
    page = PAGE.format('<link rel="stylesheet" href="a.css"/>', "One", "The ferry leaves at nine.")
    sheet = "p{display:block}" + part * (200_000 // len(part))
    assert parse(book(**{"OEBPS/1.xhtml": page, "OEBPS/a.css": sheet})).text == BOTH
