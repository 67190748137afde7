"""PDF to text with PyMuPDF, in the order of the file. Keeps page starts and reports missing text by page."""

from collections import defaultdict

import pymupdf

from .result import Parsed, ParseError, ParseLimits, name_pages, normalize_text

# without ligatures: the vocabulary of a model has "fi", not U+FB01
_FLAGS = pymupdf.TEXTFLAGS_TEXT & ~pymupdf.TEXT_PRESERVE_LIGATURES
_ERRORS = (RuntimeError, ValueError, pymupdf.mupdf.FzErrorBase)
# words in MuPDF's warnings that mean lost content, not merely unusual content
_DAMAGE = ("error", "invalid", "corrupt", "truncated", "premature", "cannot", "ignoring", "failed", "broken")


def parse_pdf(path: str, limits: ParseLimits) -> Parsed:
    """Return the text of every page in the order of the file.

    Warnings name pages without text, damaged pages and a repaired file. Raises ParseError for a PDF that is
    encrypted, damaged beyond repair or without any text.
    """
    try:
        document = pymupdf.open(path, filetype="pdf")
    except _ERRORS as error:
        _raise_memory(error)
        raise ParseError("a damaged PDF: it cannot be opened") from error
    with document:
        if document.needs_pass:
            raise ParseError("an encrypted PDF, no page can be read: remove its password and add it again")
        if not (num_pages := _num_pages(document)):
            raise ParseError("a damaged PDF: no page can be found in it")
        return _read_pages(document, num_pages, limits)


def _num_pages(document: pymupdf.Document) -> int:
    """Number of pages that the file declares, 0 if it cannot be read."""
    try:
        return int(document.page_count)
    except _ERRORS as error:
        _raise_memory(error)
        return 0


def _read_pages(document: pymupdf.Document, num_pages: int, limits: ParseLimits) -> Parsed:
    """Text, page starts and warnings of all pages. Raises ParseError if there is no text, or too much."""
    texts: list[str] = []
    starts: list[int] = []
    offset = num_bytes = 0
    problems: dict[str, list[int]] = defaultdict(list)
    for index in range(num_pages):
        starts.append(offset)
        text, problem = _read_page(document, index)
        if problem:
            problems[problem].append(index + 1)
        num_bytes += len(text.encode())
        if num_bytes > limits.max_text_bytes:
            raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of text")
        texts.append(text)
        offset += len(text)
    warnings = [f"{name_pages(pages)}: {problem}" for problem, pages in problems.items()]
    if document.is_repaired:
        warnings.insert(0, "a damaged PDF, repaired while reading: text may be missing")
    if not any(text.strip() for text in texts):
        raise ParseError(_no_text_reason(num_pages, warnings))
    return Parsed(text="".join(texts), page_starts=tuple(starts), warnings=tuple(warnings))


def _no_text_reason(num_pages: int, warnings: list[str]) -> str:
    pages = "its only page" if num_pages == 1 else f"any of its {num_pages} pages"
    if any("scanned" in warning for warning in warnings):
        return f"a scanned PDF, no text on {pages}: run a text recognition program (OCR) on it first"
    return "; ".join([f"a PDF with no text on {pages}", *warnings])


def _read_page(document: pymupdf.Document, index: int) -> tuple[str, str | None]:
    """(text that ends in a newline, problem with the page or None)."""
    pymupdf.TOOLS.reset_mupdf_warnings()
    try:
        page = document.load_page(index)
        text = normalize_text(page.get_text(flags=_FLAGS))
        is_drawn = bool(text.strip()) or any(kind.startswith("fill-") for kind, *_ in page.get_bboxlog())
    except _ERRORS as error:
        _raise_memory(error)
        return "", "damaged, cannot be read"
    messages = pymupdf.TOOLS.mupdf_warnings().lower()
    if any(word in messages for word in _DAMAGE):
        return _ended(text), "damaged, text may be missing"
    if not text.strip():
        return "", "no text (scanned?)" if is_drawn else None
    if text.count("\ufffd") * 5 > len(text):
        return _ended(text), "characters without a meaning (the font does not say which letters they are)"
    return _ended(text), None


def _raise_memory(error: Exception) -> None:
    """Raise MemoryError if that is the cause: MuPDF reports a failed allocation as a system error."""
    if isinstance(error, pymupdf.mupdf.FzErrorSystem) and "alloc" in str(error):
        raise MemoryError from error


def _ended(text: str) -> str:
    """The text with a newline at its end, unless it is empty."""
    return text if not text or text.endswith("\n") else text + "\n"
