"""Locate a token, a range of characters or a quotation in its document: page, lines, characters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sala_core.ingest.document import SHEET_MEDIA_TYPES, TABLE_MEDIA_TYPE, EncodedDocument
from sala_core.ingest.folded import FoldedText, find_by_word
from sala_core.ingest.rows import TableRows, sheet_header, table_rows

_BLOCK_CHARS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Place:
    """A range of characters of a document.

    page: 1-based, of the first character; None in a document without pages. line_start, line_end: 1-based in the
    whole document, inclusive. char_start, char_end: offsets in the text, end exclusive. rows: first and last row of a
    table, counted from 1 with the header; None in other documents. header: the names of its columns.
    """

    page: int | None
    line_start: int
    line_end: int
    char_start: int
    char_end: int
    rows: tuple[int, int] | None = None
    header: str = ""


class SourceMap:
    """Maps tokens and characters of one document to places. It keeps only arrays; a lookup is a binary search."""

    def __init__(
        self, text: str, page_starts: Sequence[int], token_starts: NDArray[np.int64], *, media_type: str = ""
    ) -> None:
        """Take what `EncodedDocument` and its document hold.

        Args:
            text: of the document.
            page_starts: character offsets, () without pages.
            token_starts: int64 [T].
            media_type: of the document; places in a table also have rows.
        """
        self._is_table = media_type == TABLE_MEDIA_TYPE
        self._is_sheets = media_type in SHEET_MEDIA_TYPES
        self._text = text
        self._page_starts = np.asarray(page_starts, np.int64)
        self._token_starts = np.asarray(token_starts, np.int64)

    @classmethod
    def of(cls, encoded: EncodedDocument) -> "SourceMap":
        """The map of a prepared document."""
        document = encoded.document
        return cls(document.text, document.page_starts, encoded.token_starts, media_type=document.media_type)

    @property
    def num_chars(self) -> int:
        """Number of characters of the text."""
        return len(self._text)

    @property
    def line_starts(self) -> NDArray[np.int64]:
        """Character offset of each line, int64 [lines]; the first is 0."""
        return self._line_starts

    def place(self, first_token: int, last_token: int) -> Place:
        """Return the place of the tokens `first_token` to `last_token` (inclusive) of the body.

        Raises IndexError if they are not tokens of this document.
        """
        num_tokens = len(self._token_starts)
        if not 0 <= first_token <= last_token < num_tokens:
            raise IndexError(f"tokens {first_token} to {last_token} of a document of {num_tokens} tokens")
        start = int(self._token_starts[first_token])
        # if several tokens share a character, it ends where the token of the next character begins
        after = int(np.searchsorted(self._token_starts, self._token_starts[last_token], side="right"))
        end = int(self._token_starts[after]) if after < num_tokens else len(self._text)
        return self.place_of_chars(start, end)

    def place_of_chars(self, start: int, end: int) -> Place:
        """Return the place of `text[start:end]`. Raises IndexError for a range outside the text."""
        if not 0 <= start <= end <= len(self._text):
            raise IndexError(f"characters {start} to {end} of a text of {len(self._text)}")
        page = int(np.searchsorted(self._page_starts, start, side="right")) if len(self._page_starts) else None
        line_start, line_end = self._line(start), self._line(max(start, end - 1))
        return Place(
            page=page and max(page, 1),
            line_start=line_start,
            line_end=line_end,
            char_start=start,
            char_end=end,
            rows=self._table.at(line_start, line_end) if self._is_table else None,
            header=self._header(page),
        )

    def text(self, place: Place) -> str:
        """Return the characters of a place."""
        return self._text[place.char_start : place.char_end]

    def whole_lines(self, place: Place) -> str:
        """Return the whole lines that a place overlaps."""
        start = int(self._line_starts[place.line_start - 1])
        ends = self._line_starts[place.line_end] - 1 if place.line_end < len(self._line_starts) else len(self._text)
        return self._text[start : int(ends)]

    def tokens_of_chars(self, start: int, end: int) -> tuple[int, int]:
        """Return the (first, last) tokens, inclusive, that cover `text[start:end]`: the inverse of `place`.

        Raises IndexError for a range outside the text, or a document without tokens.
        """
        if not 0 <= start <= end <= len(self._text) or not len(self._token_starts):
            raise IndexError(f"characters {start} to {end} of a text of {len(self._text)}")
        holder = int(np.searchsorted(self._token_starts, start, side="right")) - 1
        first = int(np.searchsorted(self._token_starts, self._token_starts[holder], side="left"))
        last = int(np.searchsorted(self._token_starts, max(start, end - 1), side="right")) - 1
        return first, last

    def find(self, quotation: str) -> Place | None:
        """Return the first place where a quotation occurs word for word, or None.

        The search ignores differences in white space, quotation marks, dashes and ligatures. It also finds words
        that are hyphenated at the end of a line.
        """
        span = find_by_word(self._text, quotation) or self._folded.find(quotation)
        if span is None and self._has_divided_words:
            span = self._joined.find(quotation)
        return self.place_of_chars(*span) if span else None

    def find_all(self, quotation: str) -> Iterator[Place]:
        """Yield every place where a quotation occurs word for word, in order; otherwise as `find`."""
        spans = self._folded.find_all(quotation)
        if self._has_divided_words:
            spans = iter(sorted({*spans, *self._joined.find_all(quotation)}))
        return (self.place_of_chars(*span) for span in spans)

    def _line(self, char: int) -> int:
        """The 1-based line of the character at offset `char`."""
        return int(np.searchsorted(self._line_starts, char, side="right"))

    @cached_property
    def _line_starts(self) -> NDArray[np.int64]:
        """Character offset of each line, int64 [lines]; the first is 0."""
        starts = [np.zeros(1, np.int64)]
        for begin in range(0, len(self._text), _BLOCK_CHARS):
            block = self._text[begin : begin + _BLOCK_CHARS].encode("utf-32-le", "surrogatepass")
            newlines = np.flatnonzero(np.frombuffer(block, "<u4") == ord("\n"))
            starts.append(newlines + (begin + 1))
        return np.concatenate(starts)

    def _header(self, page: int | None) -> str:
        """The names of the columns at a place: of the table, or of the sheet that is the page."""
        if self._is_sheets and page is not None:
            return sheet_header(self._text, int(self._page_starts[max(page, 1) - 1]))
        return self._table.header if self._is_table else ""

    @cached_property
    def _table(self) -> TableRows:
        return table_rows(self._text, self._line_starts)

    @cached_property
    def _has_divided_words(self) -> bool:
        return "-\n" in self._text or "\u00ad" in self._text or "\u2010\n" in self._text

    @cached_property
    def _folded(self) -> FoldedText:
        return FoldedText(self._text)

    @cached_property
    def _joined(self) -> FoldedText:
        return FoldedText(self._text, join_divided_words=True)
