"""PDF text with its pages, and every kind of damage reported by page."""

from collections.abc import Callable
from pathlib import Path

import pymupdf
import pytest

from sala_core.ingest.parsers.pdf.reader import parse_pdf
from sala_core.ingest.parsers.result import Parsed, ParseError, ParseLimits, name_pages


@pytest.fixture
def parse(tmp_path: Path) -> Callable[[bytes], Parsed]:
    def parse_bytes(data: bytes, max_text_bytes: int = 1 << 20) -> Parsed:
        path = tmp_path / "x.pdf"
        path.write_bytes(data)
        limits = ParseLimits(max_text_bytes=max_text_bytes, max_unpacked_bytes=1 << 20)
        return parse_pdf(str(path), limits)

    return parse_bytes


def test_page_starts_are_kept(make_pdf: Callable[..., bytes], parse: Callable[[bytes], Parsed]) -> None:
    parsed = parse(make_pdf(["first page", "", "third page"]))
    assert parsed.text == "first page\nthird page\n"
    assert parsed.page_starts == (0, 11, 11)
    assert parsed.warnings == ()


def test_scanned_pages_are_reported_and_blank_ones_are_not(
    make_pdf: Callable[..., bytes], parse: Callable[[bytes], Parsed]
) -> None:
    parsed = parse(make_pdf(["text", "scan", "", "scan", "scan", "scan", "text"]))
    assert parsed.warnings[0] == "pages 2, 4-6: no text (scanned?)"
    assert parsed.warnings[1].startswith("scanned pages can be read once Tesseract (OCR) is installed: ")


def test_an_all_scanned_pdf_is_refused(make_pdf: Callable[..., bytes], parse: Callable[[bytes], Parsed]) -> None:
    with pytest.raises(ParseError, match=r"a scanned PDF, no text on any of its 3 pages.*OCR"):
        parse(make_pdf(["scan"] * 3))
    with pytest.raises(ParseError, match="a PDF with no text on its only page"):
        parse(make_pdf([""]))


def test_an_encrypted_pdf_is_refused_unless_anyone_may_open_it(
    make_pdf: Callable[..., bytes], parse: Callable[[bytes], Parsed]
) -> None:
    aes = pymupdf.PDF_ENCRYPT_AES_256
    with pytest.raises(ParseError, match="encrypted PDF"):
        parse(make_pdf(["secret"], encryption=aes, user_pw="u", owner_pw="o"))
    assert parse(make_pdf(["open"], encryption=aes, user_pw="", owner_pw="o")).text == "open\n"


def test_a_truncated_pdf_reports_the_damaged_pages(
    make_pdf: Callable[..., bytes], parse: Callable[[bytes], Parsed]
) -> None:
    data = make_pdf([f"page number {number}" for number in range(1, 7)])
    parsed = parse(data[: len(data) // 2])
    assert parsed.text.startswith("page number 1\n")
    assert "page number 6" not in parsed.text
    assert parsed.warnings[0].startswith("a damaged PDF, repaired")
    assert any(warning.startswith("page") and "damaged" in warning for warning in parsed.warnings[1:])


def test_a_damaged_page_is_reported_and_the_others_are_read(
    parse: Callable[[bytes], Parsed],
) -> None:
    document = pymupdf.open()
    for number in range(3):
        document.new_page().insert_text((72, 72), f"page {number}")
    xref = document[1].get_contents()[0]
    document.update_stream(xref, b"BT /F0 nonsense ( unclosed string Tj ET", compress=False)
    parsed = parse(document.tobytes())
    assert "page 0" in parsed.text
    assert "page 2" in parsed.text
    assert [warning for warning in parsed.warnings if warning.startswith("page 2: damaged")]


def test_garbage_and_too_much_text_are_refused(make_pdf: Callable[..., bytes], parse: Callable[..., Parsed]) -> None:
    with pytest.raises(ParseError, match="damaged PDF"):
        parse(b"%PDF-1.4\n" + b"garbage" * 500)
    with pytest.raises(ParseError, match="MiB of text"):
        parse(make_pdf(["a page of words"] * 5), max_text_bytes=40)


def test_page_numbers_are_joined_to_ranges() -> None:
    assert name_pages([3]) == "page 3"
    assert name_pages([9, 3, 8, 7]) == "pages 3, 7-9"
    assert name_pages([4, 5]) == "pages 4-5"


def test_a_real_book(shared: Path) -> None:
    limits = ParseLimits(max_text_bytes=1 << 24, max_unpacked_bytes=1 << 24)
    parsed = parse_pdf(str(shared / "samples" / "pride-and-prejudice.pdf"), limits)
    assert len(parsed.page_starts) > 200
    assert list(parsed.page_starts) == sorted(parsed.page_starts)
    assert "It is a truth universally acknowledged" in " ".join(parsed.text.split())
