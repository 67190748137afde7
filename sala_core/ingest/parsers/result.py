"""What a parser gives back, and how it says that a file cannot be read."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


class ParseError(Exception):
    """The file cannot be read; the message is the reason shown to the reader."""


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """Text of a file; `page_starts` holds the character offset of each page, () without pages."""

    text: str
    page_starts: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ParseLimits:
    """Bounds that a parser checks itself."""

    max_text_bytes: int
    max_unpacked_bytes: int


def clean(text: str) -> str:
    """`\\n` newlines, no NUL, no lone surrogate; as long as the text without carriage returns."""
    text = re.sub("\r\n?", "\n", text)
    return re.sub("[\0\ud800-\udfff]", "\ufffd", text)


def name_pages(pages: Iterable[int]) -> str:
    """Page numbers as a reader writes them: `page 3`, `pages 3, 7-9`."""
    runs: list[list[int]] = []
    for page in sorted(pages):
        if runs and page == runs[-1][1] + 1:
            runs[-1][1] = page
        else:
            runs.append([page, page])
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"page{'s' if len(runs) > 1 or runs[0][0] != runs[0][1] else ''} {shown}"
