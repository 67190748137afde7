"""The result of a parser, and the error for a file that cannot be read."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass


class ParseError(Exception):
    """The file cannot be read. The message is the reason shown to the user."""

    def __init__(self, message: str, *, is_locked: bool = False) -> None:
        """is_locked: the file is encrypted, and a password would open it."""
        super().__init__(message)
        self.is_locked = is_locked


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """The text of a file. page_starts: character offset of each page, () if the format has no pages."""

    text: str
    page_starts: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ParseLimits:
    """Limits that a parser checks itself: bytes of text (UTF-8) and bytes unpacked from an archive.

    max_ocr_s: seconds for the recognition of all scanned pages of a file. on_progress: called after each such page.
    """

    max_text_bytes: int
    max_unpacked_bytes: int
    max_ocr_s: float = 3600.0
    on_progress: Callable[[], None] = lambda: None


_CARRIAGE_RETURN = re.compile("\r\n?")
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


def normalize_text(text: str) -> str:
    """Return the text with `\\n` newlines, and U+FFFD for NUL and lone surrogates, which cannot be stored."""
    if "\r" in text:
        text = _CARRIAGE_RETURN.sub("\n", text)
    return _NOT_STORABLE.sub("\ufffd", text)


def name_pages(pages: Iterable[int]) -> str:
    """Return page numbers as people write them: `page 3`, `pages 3, 7-9`."""
    runs: list[list[int]] = []
    for page in sorted(pages):
        if runs and page == runs[-1][1] + 1:
            runs[-1][1] = page
        else:
            runs.append([page, page])
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"page{'s' if len(runs) > 1 or runs[0][0] != runs[0][1] else ''} {shown}"
