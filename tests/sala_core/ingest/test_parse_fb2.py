"""A FictionBook is read as a book: title, sections, notes, and no pictures."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sala_core.ingest import Limits, prepare
from sala_core.ingest.parsers.ebook.fb2 import parse_fb2
from sala_core.ingest.parsers.result import Parsed, ParseError, ParseLimits
from sala_core.ingest.sniff import Kind, identify

MIB = 1 << 20
BOOK = """<?xml version="1.0" encoding="{encoding}"?>
<FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0" xmlns:l="http://www.w3.org/1999/xlink">
<description><title-info><genre>prose</genre>
<author><first-name>Анна</first-name><last-name>Ли</last-name></author><author><nickname>Bo</nickname></author>
<book-title>Паром &amp; Co</book-title><annotation><p>About a ferry.</p></annotation></title-info>
<document-info><author><nickname>scanner</nickname></author><id>77-xx</id></document-info>
<publish-info><publisher>Pier</publisher><year>1911</year></publish-info></description>
<body><title><p>Паром</p></title><epigraph><p>Wait.</p><text-author>Ann</text-author></epigraph>
<section><title><p>Chapter 1</p><empty-line/><p>The pier</p></title>
<p>It holds 10<sup>6</sup> litres.<a l:href="#n1" type="note">[1]</a> <emphasis>R&D</emphasis> &mdash; caf&eacute;</p>
<subtitle>* * *</subtitle><image l:href="#c.png" alt="a map"/>
<poem><stanza><v>Leaves at nine,</v><v>never on Friday.</v></stanza></poem><subtitle>Scene</subtitle>
<section><title><p>Inner</p></title><p>The <style name="x">styled</style> keeper.
<table><tr><th>day</th><th>hour</th></tr><tr><td>Monday</td><td>9</td></tr></table></section></section>
<section><p>Unclosed <strong>words</p></section></body>
<body name="notes"><title><p>Notes</p></title>
<section id="n1"><title><p>1</p></title><p>In winter at ten.</p></section></body>
<binary id="c.png" content-type="image/png">iVBORw0KGgoAAAANSUhEUg</binary>
</FictionBook>"""


@pytest.fixture
def parse(tmp_path: Path) -> Callable[..., Parsed]:
    def parse_book(data: bytes, name: str = "book.fb2", max_text_bytes: int = MIB) -> Parsed:
        (tmp_path / name).write_bytes(data)
        return parse_fb2(str(tmp_path / name), ParseLimits(max_text_bytes=max_text_bytes, max_unpacked_bytes=MIB))

    return parse_book


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_book_is_read_in_its_order_without_markup_and_pictures(parse: Callable[..., Parsed]) -> None:
    parsed = parse(BOOK.format(encoding="utf-8").encode())
    assert parsed.warnings == ()
    assert parsed.page_starts == ()
    order = [
        "# Паром & Co\n", "Анна Ли, Bo\n", "About a ferry.", "Pier, 1911\n", "# Паром\n", "Wait.", "Ann\n",
        "## Chapter 1 The pier\n", "litres.", "R&D", "— café", "\n* * *\n", "Leaves at nine,\nnever on Friday.\n",
        "### Scene\n", "### Inner\n", "The styled keeper.", "day | hour\nMonday | 9\n", "Unclosed words",
        "# Notes\n", "## 1\n", "In winter at ten.\n",
    ]  # fmt: skip
    places = [parsed.text.find(words) for words in order]
    assert -1 not in places
    assert places == sorted(places)
    for never in ("iVBOR", "<", "106 litres", "scanner", "77-xx", "prose"):
        assert never not in parsed.text


@pytest.mark.parametrize("encoding", ["windows-1251", "koi8-r", "utf-16", "utf-8-sig"])
def test_encodings_are_those_that_are_declared(encoding: str, parse: Callable[..., Parsed]) -> None:
    data = BOOK.replace("—", "-").format(encoding=encoding.removesuffix("-sig")).encode(encoding)
    assert "# Паром & Co\n\nАнна Ли, Bo\n" in parse(data).text


def test_archives_of_books_are_read(parse: Callable[..., Parsed]) -> None:
    book = BOOK.format(encoding="utf-8").encode()
    data = zipped({"a.fb2": book, "cover.jpg": b"x", "b.FB2": book.replace(b"nine", b"eleven")})
    parsed = parse(data, "book.fb2.zip")
    assert "Leaves at nine," in parsed.text
    assert "Leaves at eleven," in parsed.text
    assert identify("book.fb2.zip", data[:8192]) is Kind.FB2
    assert identify("book.zip", data[:8192]) is Kind.FB2
    assert identify("book.fbz", data[:8192]) is Kind.FB2


def test_a_cut_book_is_read_to_its_end_and_noted(parse: Callable[..., Parsed]) -> None:
    book = BOOK.format(encoding="utf-8").encode()
    parsed = parse(book[: book.index(b"never on Friday")])
    assert parsed.text.endswith("Leaves at nine,\n")
    assert "cut off" in parsed.warnings[0]
    assert "iVBOR" not in parse(book[: book.index(b"</binary>")]).text


def test_what_is_no_book_has_a_reason(parse: Callable[..., Parsed]) -> None:
    with pytest.raises(ParseError, match="not a FictionBook"):
        parse(b"<html><p>x</p></html>")
    with pytest.raises(ParseError, match="without any text"):
        parse(b"<FictionBook><body/></FictionBook>")
    with pytest.raises(ParseError, match=r"without a FictionBook"):
        parse(zipped({"a.txt": b"x"}))
    with pytest.raises(ParseError, match="of text"):
        parse(BOOK.format(encoding="utf-8").encode(), max_text_bytes=50)
    with pytest.raises(ParseError, match="more than"):
        parse(zipped({"a.fb2": b" " * (2 * MIB)}))
    with pytest.raises(ParseError, match="more than"):
        parse(b"<FictionBook>" + b" " * (2 * MIB))


@pytest.mark.parametrize(
    ("name", "kind"), [("a.fb2", Kind.FB2), ("a.xml", Kind.FB2), ("a.txt", Kind.FB2), ("a.py", Kind.TEXT)]
)
def test_a_book_is_identified(name: str, kind: Kind) -> None:
    assert identify(name, BOOK.encode()) is kind
    assert identify("a.xml", b"<?xml version='1.0'?>" + b"<!-- x -->" * 200 + b"<Fiction/>") is Kind.TEXT


def test_books_and_unpacked_books_are_documents(tokenizer: object, write: Callable[..., Path], split: Callable) -> None:
    epub = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container><rootfile full-path="content.opf"/></container>',
        "content.opf": '<item id="b" href="z.xhtml"/><item id="c" href="a.xhtml"/><itemref idref="b"/>',
        "z.xhtml": "<p>First.</p>",
        "a.xhtml": "<p>Second.</p>",
    }
    root = write({f"Book.epub/{name}": data for name, data in epub.items()})
    write({f"plain/{name}": data for name, data in epub.items()})
    write({f"sources/{name}": data for name, data in epub.items()} | {"sources/build.py": "x = 1"})
    write({"b.fb2": BOOK.format(encoding="utf-8")})
    read, skipped = split(prepare([root], tokenizer, Limits()))
    assert not any("Book.epub" in name for name in skipped)
    assert read["root/Book.epub"].document.text == read["root/plain"].document.text == "First.\n\nSecond.\n"
    assert read["root/Book.epub"].document.media_type == "application/epub+zip"
    assert "root/sources/build.py" in read
    assert "root/sources/content.opf" in read
    assert read["root/b.fb2"].document.media_type == "application/x-fictionbook+xml"
    small, skipped = split(prepare([root / "Book.epub"], tokenizer, Limits(max_container_bytes=100)))
    assert small == {}
    assert "over the limit" in next(iter(skipped.values()))
