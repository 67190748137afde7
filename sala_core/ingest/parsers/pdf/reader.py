"""PDF to text with PyMuPDF. Keeps page starts, and reports missing text by page."""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pymupdf

from ..ocr.pages import PageRecognizer
from ..ocr.tesseract import install_advice
from ..result import Parsed, ParseError, ParseLimits, name_pages, normalize_text
from .forms import NO_COMMENT, attached_files, read_comments, read_fields, read_xfa
from .hyphens import join_words
from .line_numbers import without_line_numbers
from .lines import Line, PageLines, read_lines, turned
from .order import in_reading_order, without_blank_lines
from .quick import FontNames
from .repeats import MarginLine, margin_lines, repeated_lines
from .tables import TableReader

_ERRORS = (RuntimeError, ValueError, pymupdf.mupdf.FzErrorBase)
# words in MuPDF's warnings that mean lost content, not merely unusual content
_DAMAGE = ("error", "invalid", "corrupt", "truncated", "premature", "cannot", "ignoring", "failed", "broken")
_MAX_TABLES_S = 20.0  # for all pages of a file; find_tables takes some 50 ms a page
_TRAILER_BYTES = 1 << 16
_MAX_STAMP_CHARS = 300  # of text on a page that is nevertheless a scan
_SCAN_AREA = 0.7  # of the page, covered by pictures

_UNKNOWN = "characters without a meaning (the font does not say which letters they are)"
_GUESSED = "letters read by their codes (the font does not say which letters they are)"
_HIDDEN = "text that nobody can see (white or transparent), left out"
_MIN_UNKNOWN = 3  # characters on a page: fewer are marks of lists
_SCANNED = "no text (scanned?)"
_LOCKED = "an encrypted PDF, no page can be read without its password"
_WRONG_PASSWORD = "an encrypted PDF that this password does not open"
_OVER_LIMIT = "over a limit of the PDF reader, not read"
_SYSTEM_CODE, _LIMIT_CODE = "code=2:", "code=5:"  # how MuPDF's messages begin (FZ_ERROR_SYSTEM, FZ_ERROR_LIMIT)
_STAMPED = "a picture of the whole page with little text beside it (scanned?): what the picture shows is not read"


@dataclass(kw_only=True)
class _Reading:
    """What has been read of a file. pages: the lines of each page. problems: problem -> page numbers from 1."""

    fonts: FontNames
    pages: list[list[str]] = field(default_factory=list)
    margins: list[MarginLine] = field(default_factory=list)
    problems: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    files: list[str] = field(default_factory=list)
    tables: TableReader = field(default_factory=lambda: TableReader(_MAX_TABLES_S))


def parse_pdf(path: str, limits: ParseLimits, password: str = "") -> Parsed:
    """Return the text of every page in the order of the file, with form fields and comments after each page.

    Warnings name pages without text, damaged pages and fonts, a repaired file, attached files and XFA forms. Raises
    ParseError for a PDF that `password` does not open, or that is encrypted in another way, damaged beyond repair or
    without any text.
    """
    try:
        document = _open(path)
    except _ERRORS as error:
        _raise_memory(error)
        if _declares_encryption(path):
            raise ParseError(
                "an encrypted PDF that cannot be opened: it is protected with something else than a password "
                "(a certificate, or digital rights management); save a copy without protection"
            ) from error
        raise ParseError("a damaged PDF: it cannot be opened") from error
    with document:
        if document.needs_pass and not document.authenticate(password):
            raise ParseError(_WRONG_PASSWORD if password else _LOCKED, is_locked=True)
        if not (num_pages := _num_pages(document)):
            raise ParseError("a damaged PDF: no page can be found in it")
        return _read_pages(document, num_pages, limits)


def _open(path: str) -> pymupdf.Document:
    """Open a file. MuPDF takes names in UTF-8 only: a file with another name is opened by its bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        with open(path, "rb") as file:
            return pymupdf.open(stream=file.read(), filetype="pdf")
    return pymupdf.open(path, filetype="pdf")


def _declares_encryption(path: str) -> bool:
    """Whether the trailer of a file, near its end or its beginning, names an encryption."""
    with open(path, "rb") as file:
        head = file.read(_TRAILER_BYTES)
        file.seek(max(0, os.path.getsize(path) - _TRAILER_BYTES))
        return b"/Encrypt" in head or b"/Encrypt" in file.read()


def _num_pages(document: pymupdf.Document) -> int:
    """Number of pages that the file declares, 0 if it cannot be read."""
    try:
        return int(document.page_count)
    except _ERRORS as error:
        _raise_memory(error)
        return 0


def _read_pages(document: pymupdf.Document, num_pages: int, limits: ParseLimits) -> Parsed:
    """Text, page starts and warnings of all pages. Raises ParseError if there is no text, or too much."""
    reading = _Reading(fonts=FontNames(document))
    num_bytes = 0
    for index in range(num_pages):
        lines = _read_page(document, index, reading)
        num_bytes += len("\n".join(lines).encode()) + 1
        if num_bytes > limits.max_text_bytes:
            raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of text")
        reading.pages.append(lines)
    recognizer = PageRecognizer(limits.max_ocr_s, limits.on_progress)
    _recognize_scans(document, reading, recognizer)
    left_out = repeated_lines(reading.pages, reading.margins)
    for page, numbers in left_out.items():
        reading.pages[page] = [line for number, line in enumerate(reading.pages[page]) if number not in numbers]
    join_words(reading.pages)
    notes = _document_notes(document, reading)
    texts = ["".join(line + "\n" for line in lines).replace("\u00ad", "-") for lines in reading.pages]
    starts = [0]
    for text in texts[:-1]:
        starts.append(starts[-1] + len(text))
    warnings = [f"{name_pages(pages)}: {problem}" for problem, pages in reading.problems.items()]
    if document.is_repaired:
        warnings.insert(0, "a damaged PDF, repaired while reading: text may be missing")
    warnings += recognizer.notes() + notes
    if not recognizer.is_possible and {_SCANNED, _STAMPED} & reading.problems.keys():
        warnings.append(f"scanned pages can be read once Tesseract (OCR) is installed: {install_advice()}")
    if not any(text.strip(" \n\ufffd") for text in texts):
        raise ParseError(_no_text_reason(num_pages, warnings))
    return Parsed(text="".join(texts), page_starts=tuple(starts), warnings=tuple(warnings))


def _recognize_scans(document: pymupdf.Document, reading: _Reading, recognizer: PageRecognizer) -> None:
    """Give scanned pages the text that is recognized in them, after their own lines that it does not repeat."""
    if not recognizer.is_possible:
        return
    for problem in (_SCANNED, _STAMPED):
        for number in reading.problems.pop(problem, []):
            lines: tuple[str, ...] | None = None
            with _contained(reading, "a scan that cannot be drawn", number):
                lines = recognizer.read(document.load_page(number - 1), number)
            if lines is not None:
                shown = "".join("".join(lines).split())
                own = [line for line in reading.pages[number - 1] if "".join(line.split()) not in shown]
                reading.pages[number - 1] = [*own, *map(normalize_text, lines)]


def _document_notes(document: pymupdf.Document, reading: _Reading) -> list[str]:
    """Notes on attached files and an XFA form, whose text is added to the last page."""
    notes: list[str] = []
    found: tuple[list[str], list[str] | None] | None = None
    with _contained():
        found = [*attached_files(document), *reading.files], read_xfa(document)
    if found is None:
        return ["attached files and forms of the document cannot be read"]
    files, xfa = found
    if files:
        notes.append(f"{len(files)} attached file{'s' * (len(files) > 1)}, not read: {', '.join(files)}")
    if xfa is None:
        return notes
    if not xfa:
        return [*notes, "an XFA form: its pages are made by a viewer, and its contents cannot be read"]
    shown = "\n".join(line for page in reading.pages for line in page)
    added = [line for line in map(normalize_text, xfa) if line not in shown]
    reading.pages[-1] += added
    return [*notes, "an XFA form: its texts and values stand at the end, not as a viewer arranges them"]


def _no_text_reason(num_pages: int, warnings: list[str]) -> str:
    pages = "its only page" if num_pages == 1 else f"any of its {num_pages} pages"
    if any("scanned" in warning for warning in warnings):
        advice = f"it can be read once Tesseract (OCR) is installed: {install_advice()}"
        return f"a scanned PDF, no text on {pages}: {advice}"
    if any(_OVER_LIMIT in warning for warning in warnings):
        return "; ".join(["a PDF of which no page gives text", *warnings])
    return "; ".join([f"a PDF with no text on {pages}", *warnings])


def _read_page(document: pymupdf.Document, index: int, reading: _Reading) -> list[str]:
    """The lines of one page. Adds its problem, its margins and its files to `reading`."""
    pymupdf.TOOLS.reset_mupdf_warnings()
    found: tuple[list[str], str | None] | None = None
    with _contained(reading, "damaged, cannot be read", index + 1):
        page = document.load_page(index)
        texts, problem = _page_texts(page, index, reading)
        if not problem and sum(map(len, texts)) <= _MAX_STAMP_CHARS:
            problem = _scan_problem(page, texts)
        found = texts, problem
    if found is None:
        return []
    texts, problem = found
    messages = pymupdf.TOOLS.mupdf_warnings().lower()
    if any(word in messages for word in _DAMAGE):
        problem = "damaged, text may be missing"
    if problem:
        reading.problems[problem].append(index + 1)
    return texts


def _page_texts(page: pymupdf.Page, index: int, reading: _Reading) -> tuple[list[str], str | None]:
    """(lines in the order of reading, then fields and comments; problem with characters or None)."""
    found = read_lines(page, fonts=reading.fonts)
    if found.turn:
        found = read_lines(page, turn=found.turn)
    lines = found.lines
    if found.num_hidden:
        reading.problems[_HIDDEN].append(index + 1)
    if reading.tables.may_have_tables(found):
        if reading.tables.is_out_of_time:
            reading.problems["read without a search for tables, which took too long on earlier pages"].append(index + 1)
        else:
            lines = _with_tables(page, found, reading)
    fields: list[str] = []
    kinds = {kind for _, kind, *_ in page.annot_xrefs()}
    if pymupdf.mupdf.PDF_ANNOT_WIDGET in kinds:
        if found.is_in_order:
            lines = read_lines(page).lines
        lines, fields = _with_fields(page, lines, found.turn, reading)
    if found.is_in_order:
        lines = without_blank_lines(lines)
    else:
        lines, num_line_numbers = without_line_numbers(lines)
        if num_line_numbers:
            reading.problems["numbers of lines in the margin, left out"].append(index + 1)
        lines = in_reading_order(lines)
    reading.margins += margin_lines(index, lines, found.height)
    texts = [*(line.text for line in lines), *fields]
    if kinds - NO_COMMENT:
        texts += _comments(page, texts, reading)
    if normalize_text(shown := "".join(texts)) != shown:
        texts = [normalize_text(text) for text in texts]
    if found.num_unknown >= _MIN_UNKNOWN:
        return texts, _UNKNOWN
    return texts, _GUESSED if found.is_guessed else None


def _with_tables(page: pymupdf.Page, found: PageLines, reading: _Reading) -> list[Line]:
    """The lines with the rows of tables joined; unchanged if the search fails."""
    with _contained():
        return reading.tables.join_rows(page, read_lines(page, turn=found.turn, with_characters=True))
    return found.lines


def _with_fields(page: pymupdf.Page, lines: list[Line], turn: int, reading: _Reading) -> tuple[list[Line], list[str]]:
    """(lines without the values of fields, the fields); the lines as they are if the fields cannot be read."""
    with _contained(reading, "form fields cannot be read", page.number + 1):
        return read_fields(page, lines, turned(page, turn)[0])
    return lines, []


def _comments(page: pymupdf.Page, texts: list[str], reading: _Reading) -> list[str]:
    """The comments of a page. Adds its attached files to `reading`."""
    with _contained(reading, "comments cannot be read", page.number + 1):
        comments, files = read_comments(page, "".join(texts))
        reading.files += files
        return comments
    return []


def _scan_problem(page: pymupdf.Page, texts: list[str]) -> str | None:
    """What to report about a page with little text: pictures that cover it, or anything drawn if there is no text."""
    has_text = any(text.strip() for text in texts)
    if has_text and not page.get_images():
        return None
    drawn = page.get_bboxlog()
    if not has_text:
        return _SCANNED if any(kind.startswith("fill-") for kind, *_ in drawn) else None
    if any(kind == "ignore-text" for kind, *_ in drawn):  # the invisible text of a recognized scan
        return None
    page_box = page.rect
    covered = sum(abs(pymupdf.Rect(box) & page_box) for kind, box, *_ in drawn if kind == "fill-image")
    return _STAMPED if covered >= _SCAN_AREA * abs(page_box) else None


@contextmanager
def _contained(reading: _Reading | None = None, problem: str = "", page: int = 0) -> Iterator[None]:
    """Let an error cost only what is read in the block; with `reading`, the problem is noted for the page, from 1.

    PyMuPDF raises even Exception itself for odd objects.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a part of a file, in a process of its own: the rest must be read
        _raise_memory(error)
        if reading is not None:
            is_limit = str(error).startswith(_LIMIT_CODE)
            shown = f"{_OVER_LIMIT}: {str(error).removeprefix(_LIMIT_CODE).strip()}" if is_limit else problem
            reading.problems[shown].append(page)


def _raise_memory(error: Exception) -> None:
    """Raise MemoryError if that is the cause: MuPDF reports a failed allocation as a system error."""
    is_allocation = str(error).startswith(_SYSTEM_CODE) and "alloc" in str(error)
    if is_allocation or isinstance(error, MemoryError):
        raise MemoryError from error
