"""EPUB chapters in spine order; dangerous archives are refused."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sala_core.ingest.parsers.ebook.epub import parse_epub
from sala_core.ingest.parsers.result import Parsed, ParseError, ParseLimits

MIB = 1 << 20


def parse(path: Path, max_unpacked_bytes: int = 8 * MIB, max_text_bytes: int = 8 * MIB) -> Parsed:
    limits = ParseLimits(max_text_bytes=max_text_bytes, max_unpacked_bytes=max_unpacked_bytes)
    return parse_epub(str(path), limits)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[bytes], Path]:
    def save_book(data: bytes) -> Path:
        path = tmp_path / "book.epub"
        path.write_bytes(data)
        return path

    return save_book


def test_chapters_come_in_spine_order(make_epub: Callable[..., bytes], save: Callable[[bytes], Path]) -> None:
    chapters = {"a%20b.xhtml": "<h1>Two</h1>", "z.xhtml": "<h1>One</h1><p>caf&#233;</p><nav>kept</nav>"}
    data = make_epub(chapters, spine=["z.xhtml", "a%20b.xhtml"], extra={"OEBPS/a b.xhtml": b"<h1>Two</h1>"})
    assert parse(save(data)).text == "# One\n\ncafé\n\nkept\n\n# Two\n"
    assert parse(save(data)).page_starts == ()


def test_a_missing_chapter_is_a_warning(make_epub: Callable[..., bytes], save: Callable[[bytes], Path]) -> None:
    parsed = parse(save(make_epub({"a.xhtml": "<p>a</p>"}, spine=["a.xhtml", "gone"])))
    assert parsed.text == "a\n"
    assert parsed.warnings == ("chapter gone is missing: the book lists it and does not have it",)


def test_a_path_out_of_the_archive_is_a_missing_chapter(
    make_epub: Callable[..., bytes], save: Callable[[bytes], Path], tmp_path: Path
) -> None:
    (tmp_path / "outside.xhtml").write_text("<p>secret</p>")
    chapters = {"../../outside.xhtml": "", "../../../../../../etc/passwd": "", "a.xhtml": "<p>a</p>"}
    parsed = parse(save(make_epub(chapters)))
    assert parsed.text == "a\n"
    assert len(parsed.warnings) == 2


def test_a_zip_bomb_is_refused_by_the_bytes_unpacked(
    make_epub: Callable[..., bytes], save: Callable[[bytes], Path]
) -> None:
    data = make_epub({"a.xhtml": "x" * (4 * MIB)})
    assert len(data) < 64 * 1024
    with pytest.raises(ParseError, match=r"unpacks to more than 1\.0 MiB"):
        parse(save(data), max_unpacked_bytes=MIB)


def test_a_chapter_that_the_spine_repeats_is_read_once(
    make_epub: Callable[..., bytes], save: Callable[[bytes], Path]
) -> None:
    data = make_epub({"a.xhtml": "<p>a</p>"}, spine=["a.xhtml"] * 1000)
    assert parse(save(data)).text == "a\n"


def test_copy_protection_is_reported_but_obfuscated_fonts_are_not(
    make_epub: Callable[..., bytes], save: Callable[[bytes], Path]
) -> None:
    encryption = (
        '<encryption xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:CipherData>'
        '<enc:CipherReference URI="{}"/></enc:CipherData></encryption>'
    )
    locked = {"META-INF/encryption.xml": encryption.format("OEBPS/a.xhtml").encode()}
    # the list of what is encrypted can be left of a protection that was removed
    assert parse(save(make_epub({"a.xhtml": "<p>a</p>"}, extra=locked))).text == "a\n"
    locked = {"META-INF/encryption.xml": encryption.format("a.xhtml").encode(), "a.xhtml": bytes(range(256))}
    with pytest.raises(ParseError, match="copy protection"):
        parse(save(make_epub({"../a.xhtml": ""}, extra=locked)))
    fonts = {"META-INF/encryption.xml": encryption.format("OEBPS/font.otf").encode()}
    assert parse(save(make_epub({"a.xhtml": "<p>a</p>"}, extra=fonts))).text == "a\n"


def test_damaged_books_have_a_reason(
    make_epub: Callable[..., bytes], save: Callable[[bytes], Path], tmp_path: Path
) -> None:
    data = make_epub({"a.xhtml": "<p>a</p>"})
    with pytest.raises(ParseError, match="damaged EPUB"):
        parse(save(data[: len(data) // 2]))
    with zipfile.ZipFile(tmp_path / "none.epub", "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
    with pytest.raises(ParseError, match="does not say where"):
        parse(tmp_path / "none.epub")
    with pytest.raises(ParseError, match="without any text"):
        parse(save(make_epub({"a.xhtml": '<img src="x.png"/>'})))
    with pytest.raises(ParseError, match="of text"):
        parse(save(make_epub({"a.xhtml": "word " * 100})), max_text_bytes=50)
