"""A document's text in rows that can be sent and shown a few at a time, its headings, and a search in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sala_core.ingest import EncodedDocument, SourceMap
from sala_core.ingest.folded import FoldedText
from sala_core.ingest.sniff import OFFICE_KINDS, Kind

MAX_ROW_CHARS = 1000
"""A longer line is shown in several rows."""
MAX_ROWS = 400
"""Most rows of one answer."""
MAX_HITS = 1000
"""Hits of a search whose places are given; those beyond them are only counted."""
MAX_COUNTED_HITS = 100_000
MAX_HEADINGS = 2000
MAX_QUERY_CHARS = 200
_HEADED_KINDS = {
    kind.value for kind in (Kind.MARKDOWN, Kind.HTML, Kind.EPUB, Kind.FB2, Kind.MHTML, Kind.NOTEBOOK, *OFFICE_KINDS)
}
_HEADING = re.compile(r"^(#{1,6}) (\S.*)$", re.MULTILINE)
_VARIANTS = {"'": "['’‘]", '"': '["“”]', "-": "[-‐‑–—]"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a document, or a piece of a long one. line: from 1; start: character offset of `text`."""

    line: int
    is_first: bool
    start: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading of the text. row: from 0; level: 1 to 6."""

    row: int
    level: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Span:
    """A range of characters with the rows and pages that it touches. Rows count from 0, pages from 1, None without."""

    char_start: int
    char_end: int
    row_start: int
    row_end: int
    page_start: int | None
    page_end: int | None


class DocumentText:
    """One stored document."""

    def __init__(self, encoded: EncodedDocument) -> None:
        document = encoded.document
        self.document, self.text, self.page_starts = document, document.text, document.page_starts
        self.map = SourceMap.of(encoded)
        self.num_bytes = 4 * len(document.text) + 16 * len(encoded.token_starts)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self._row_starts)

    @property
    def num_lines(self) -> int:
        """Number of lines; a newline at the very end begins no line."""
        starts = self.map.line_starts
        return len(starts) - (len(starts) > 1 and int(starts[-1]) == len(self.text))

    @property
    def has_headings(self) -> bool:
        """Whether lines that begin with # are headings in this format."""
        return self.document.media_type in _HEADED_KINDS

    def rows(self, first: int, count: int) -> list[Row]:
        """Rows from `first` on, at most `count` and at most MAX_ROWS. Rows count from 0."""
        starts, lines = self._row_starts, self.map.line_starts
        found = []
        for index in range(max(0, first), min(len(starts), first + min(count, MAX_ROWS))):
            start = int(starts[index])
            end = int(starts[index + 1]) if index + 1 < len(starts) else len(self.text)
            line = int(np.searchsorted(lines, start, side="right"))
            text = self.text[start:end].removesuffix("\n")
            found.append(Row(line=line, is_first=int(lines[line - 1]) == start, start=start, text=text))
        return found

    def row_of(self, char: int) -> int:
        """The row that holds a character."""
        return max(0, int(np.searchsorted(self._row_starts, char, side="right")) - 1)

    def page_of(self, char: int) -> int | None:
        """The page of a character, from 1; None without pages."""
        if not self.page_starts:
            return None
        return max(1, int(np.searchsorted(self.page_starts, char, side="right")))

    def page_range(self, page: int) -> tuple[int, int]:
        """The characters of a page, from 1. Raises IndexError for a page that is not there."""
        if not 1 <= page <= len(self.page_starts):
            raise IndexError(f"page {page} of a document of {len(self.page_starts)} pages")
        end = self.page_starts[page] if page < len(self.page_starts) else len(self.text)
        return self.page_starts[page - 1], end

    def page_rows(self) -> list[int]:
        """The first row of each page."""
        return [self.row_of(start) for start in self.page_starts]

    def span(self, start: int, end: int) -> Span:
        """Rows and pages of a range of characters."""
        last = max(start, end - 1)
        return Span(
            char_start=start,
            char_end=end,
            row_start=self.row_of(start),
            row_end=self.row_of(last),
            page_start=self.page_of(start),
            page_end=self.page_of(last),
        )

    def passage(self, line_start: int, line_end: int, text: str) -> Span | None:
        """Where a passage stands that was found in these lines, counted from 1; None if it does not stand there."""
        starts = self.map.line_starts
        if not 1 <= line_start <= line_end <= len(starts):
            return None
        first = int(starts[line_start - 1])
        end = int(starts[line_end]) - 1 if line_end < len(starts) else len(self.text)
        lines = self.text[first:end]
        if lines.strip() == text.strip():
            return self.span(first, end)
        at = lines.find(text)
        if at >= 0 and text:
            return self.span(first + at, first + at + len(text))
        for spelling in dict.fromkeys((text, text.rstrip(",.;:…"))):
            for is_joined in (False, True):
                if (found := FoldedText(lines, join_divided_words=is_joined).find(spelling)) is not None:
                    return self.span(first + found[0], first + found[1])
        return None

    @cached_property
    def headings(self) -> list[Heading]:
        """The first headings of the text, in order."""
        if not self.has_headings:
            return []
        found = []
        for match in _HEADING.finditer(self.text):
            found.append(Heading(row=self.row_of(match.start()), level=len(match[1]), text=match[2].strip()[:200]))
            if len(found) == MAX_HEADINGS:
                break
        return found

    def search(self, query: str) -> tuple[list[Span], int]:
        """The first MAX_HITS places of a text, and the number of all, counted up to MAX_COUNTED_HITS.

        Upper and lower case are equal, and so are kinds of white space, quotation marks and dashes.
        """
        words = query[:MAX_QUERY_CHARS].split()
        if not words:
            return [], 0
        pattern = re.compile(r"\s+".join(map(_pattern_of, words)), re.IGNORECASE)
        hits: list[Span] = []
        total = 0
        for start, end in _matches(pattern, self.text):
            total += 1
            if len(hits) < MAX_HITS:
                hits.append(self.span(start, end))
        return hits, total

    @cached_property
    def _row_starts(self) -> NDArray[np.int64]:
        """Character offset of each row, int64 [rows]."""
        starts = self.map.line_starts[: self.num_lines]
        ends = np.append(starts[1:], len(self.text))
        (long,) = np.nonzero(ends - starts > MAX_ROW_CHARS + 1)
        if not len(long):
            return starts
        cuts = [np.arange(starts[i] + MAX_ROW_CHARS, ends[i] - 1, MAX_ROW_CHARS) for i in long.tolist()]
        return np.sort(np.concatenate([starts, *cuts]))


def _pattern_of(word: str) -> str:
    return "".join(_VARIANTS.get(char, re.escape(char)) for char in word)


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    for number, match in enumerate(pattern.finditer(text)):
        if number == MAX_COUNTED_HITS:
            return
        yield match.span()
