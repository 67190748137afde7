"""Scanned pages and pictures: their text where Tesseract is installed, otherwise the command that installs it."""

import os
from collections.abc import Callable
from pathlib import Path

import pymupdf
import pytest

from sala_core.ingest import Limits, SkippedFile, prepare
from sala_core.ingest.parsers.ocr import tesseract
from sala_core.ingest.parsers.ocr.pages import PageRecognizer, page_picture
from sala_core.ingest.parsers.ocr.picture import parse_picture
from sala_core.ingest.parsers.ocr.tesseract import LANGUAGES_VARIABLE, RecognitionError, recognize
from sala_core.ingest.parsers.pdf.reader import parse_pdf
from sala_core.ingest.parsers.result import ParseError, ParseLimits

needs_tesseract = pytest.mark.skipif(
    tesseract.find_tesseract() is None, reason="Tesseract is not installed: " + tesseract.install_advice()
)
WORDS = "The ferry leaves the pier at 9:40 and holds 1,260 passengers."
TABLE = "level\tpage\tblock\tpar\tline\tword\tleft\ttop\twidth\theight\tconf\ttext\n" + "".join(
    f"5\t1\t{block}\t1\t{line}\t1\t0\t0\t9\t9\t{confidence}\t{text}\n"
    for block, line, confidence, text in (
        (1, 1, 90, "The"), (1, 1, 80, "ferry"), (1, 2, 96, "waits"), (2, 1, 10, "|~'"), (3, 1, 70, "Fin"),
    )
)  # fmt: skip


def limits(on_progress: Callable[[], None] = lambda: None, max_ocr_s: float = 60) -> ParseLimits:
    return ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20, max_ocr_s=max_ocr_s, on_progress=on_progress)


def scan(*texts: str) -> bytes:
    """A PDF of pictures of pages."""
    document = pymupdf.open()
    for text in texts:
        source = pymupdf.open()
        page = source.new_page(width=420, height=200)
        page.insert_textbox((30, 40, 400, 180), text, fontsize=14)
        picture = page.get_pixmap(dpi=150, colorspace=pymupdf.csGRAY).tobytes("png")
        document.new_page(width=420, height=200).insert_image(pymupdf.Rect(0, 0, 420, 200), stream=picture)
    return document.tobytes()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LANGUAGES_VARIABLE, "eng")
    tesseract.choose_languages.cache_clear()


def test_lines_of_the_table_are_grouped_and_noise_is_left_out() -> None:
    found = tesseract._parsed(TABLE)
    assert found.lines == ("The ferry", "waits", "", "Fin")
    assert found.confidence == pytest.approx((3 * 0.9 + 5 * 0.8 + 5 * 0.96 + 3 * 0.7) / 16)


def test_without_tesseract_a_scan_and_a_picture_say_how_to_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LANGUAGES_VARIABLE, "off")
    (tmp_path / "scan.pdf").write_bytes(scan(WORDS))
    with pytest.raises(ParseError, match=r"scanned PDF.*Tesseract \(OCR\) is installed: \w+"):
        parse_pdf(str(tmp_path / "scan.pdf"), limits())
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ParseError, match="once Tesseract"):
        parse_picture(str(tmp_path / "a.png"), limits())


def test_only_pictures_that_are_added_alone_are_read(tmp_path: Path, tokenizer: object) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(50)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "alone.png", tmp_path / "folder" / "icon.png"):
        path.write_bytes(picture)
    items = list(prepare([tmp_path / "alone.png", tmp_path / "folder"], tokenizer, Limits()))  # type: ignore[arg-type]
    reasons = {item.name: item.reason for item in items if isinstance(item, SkippedFile)}
    assert "picture" in reasons["alone.png"]
    assert reasons["alone.png"] != "binary: a picture"
    assert reasons["folder/icon.png"] == "binary: a picture"


def test_grain_is_smoothed_and_clean_pages_are_not() -> None:
    import numpy as np

    grain = np.random.default_rng(1).integers(0, 255, (300, 300), np.uint8)
    document = pymupdf.open()
    page = document.new_page(width=72, height=72)
    pixmap = pymupdf.Pixmap(pymupdf.csGRAY, 300, 300, grain.tobytes(), False)
    page.insert_image(page.rect, pixmap=pixmap)
    smooth = pymupdf.Pixmap(page_picture(page))
    assert np.frombuffer(smooth.samples, np.uint8).std() < 0.5 * grain.std()
    page = document.new_page(width=72, height=72)
    page.insert_text((10, 30), "word")
    assert page_picture(page) == page.get_pixmap(dpi=300, colorspace=pymupdf.csGRAY).tobytes("png")


def test_pages_beyond_the_time_for_a_document_are_named() -> None:
    document = pymupdf.open(stream=scan(WORDS), filetype="pdf")
    recognizer = PageRecognizer(0.0, lambda: None)
    assert recognizer.read(document[0], 7) is None
    assert recognizer.notes() == ["page 7: not recognized: the time for this document was over"]


@needs_tesseract
@pytest.mark.usefixtures("installed")
def test_scanned_pages_get_their_text_and_a_note(tmp_path: Path) -> None:
    document = pymupdf.open(stream=scan(WORDS, "Second page of the scan."), filetype="pdf")
    document.new_page(width=420, height=200).insert_text((30, 50), "A page with text of its own, as all pages had.")
    document.save(tmp_path / "scan.pdf")
    calls: list[int] = []
    parsed = parse_pdf(str(tmp_path / "scan.pdf"), limits(lambda: calls.append(1)))
    pages = [parsed.text[a:b] for a, b in zip(parsed.page_starts, (*parsed.page_starts[1:], None), strict=True)]
    assert " ".join(pages[0].split()) == WORDS
    assert " ".join(pages[1].split()) == "Second page of the scan."
    assert pages[2].startswith("A page with text")
    assert len(calls) == 3
    (note,) = parsed.warnings
    assert note.startswith("pages 1-2 were recognized by OCR (Tesseract, eng; confidence 0.9")


@needs_tesseract
@pytest.mark.usefixtures("installed")
def test_a_picture_is_read_in_the_parser_process(tmp_path: Path, tokenizer: object) -> None:
    page = pymupdf.open(stream=scan(WORDS), filetype="pdf")[0]
    page.get_pixmap(dpi=200).save(tmp_path / "page.png")
    (item,) = prepare([tmp_path / "page.png"], tokenizer, Limits())  # type: ignore[arg-type]
    assert not isinstance(item, SkippedFile)
    assert " ".join(item.document.text.split()) == WORDS


@needs_tesseract
def test_a_language_without_data_and_a_page_that_takes_too_long_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LANGUAGES_VARIABLE, "tlh")
    tesseract.choose_languages.cache_clear()
    with pytest.raises(RecognitionError, match="no data for tlh"):
        recognize(b"")
    monkeypatch.setenv(LANGUAGES_VARIABLE, "eng")
    tesseract.choose_languages.cache_clear()
    with pytest.raises(RecognitionError, match="took more than"):
        recognize(page_picture(pymupdf.open(stream=scan(WORDS), filetype="pdf")[0]), 0.001)
    with pytest.raises(RecognitionError, match="Tesseract failed"):
        recognize(b"no picture")
    assert os.environ[LANGUAGES_VARIABLE] == "eng"
