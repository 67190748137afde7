"""The documents of a session by name, what stands in them word for word, and their lines. No model is needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice

from sala_core.errors import LibraryError
from sala_core.events import Evidence
from sala_core.evidence.finding import DocumentFinder
from sala_core.evidence.searched import SearchedDocument
from sala_core.ingest import Place, SourceMap
from sala_core.store import DocumentRow, Library
from sala_core.viewing.document_text import MAX_QUERY_CHARS, DocumentText
from sala_core.viewing.viewer import Viewer

MAX_PASSAGE_CHARS = 20_000
_MAX_COUNTED = 1000
_MAX_NAMES = 8
_CACHED_MAPS = 32


@dataclass(frozen=True, kw_only=True)
class QuotationPlace:
    """Where a quotation stands. lines: the whole lines that it touches, as they stand there."""

    document: DocumentRow
    place: Place
    lines: str


@dataclass(frozen=True, kw_only=True)
class QuotationPlaces:
    """What a search for a quotation found.

    places: the first ones. num_places: of all, counted up to a thousand. is_other_case: it stands nowhere as it is
    spelled, and `places` are those with other capitals. num_documents: of those that were searched.
    """

    places: tuple[QuotationPlace, ...]
    num_places: int
    is_other_case: bool
    num_documents: int


@dataclass(frozen=True, kw_only=True)
class PassageText:
    """Lines of a document, or a part of a very long line. Lines and pages count from 1, characters from 0.

    is_cut: more was asked for than MAX_PASSAGE_CHARS. next_char: where the rest of what was asked for begins.
    """

    document: DocumentRow
    line_start: int
    line_end: int
    page_start: int | None
    page_end: int | None
    num_lines: int
    num_pages: int
    text: str
    is_cut: bool
    next_char: int


def session_finder(library: Library, session_id: str) -> DocumentFinder:
    """The finder over all documents of a session. Raises SessionNotFoundError; CorruptStateError at its first use."""

    @lru_cache(_CACHED_MAPS)
    def load(document_id: str) -> SourceMap:
        return SourceMap.of(library.load_document(document_id))

    return DocumentFinder(
        [
            SearchedDocument(document_id=row.id, name=row.name, num_tokens=row.num_tokens, lines=partial(load, row.id))
            for row in library.documents(session_id)
        ]
    )


class SessionTexts:
    """The texts of one library's sessions. Safe to call from any thread."""

    def __init__(self, library: Library) -> None:
        """Nothing is loaded until it is asked for."""
        self._library, self._viewer = library, Viewer(library)

    def document(self, session_id: str, name: str) -> DocumentRow:
        """A document of a session by its id, its name, or the end of its name if only one ends so.

        Raises LibraryError if there is none, or several.
        """
        rows = self._library.documents(session_id)
        for matches in (lambda row: row.id == name, lambda row: row.name == name, lambda row: row.name.endswith(name)):
            found = [row for row in rows if matches(row)] if name else []
            if len(found) == 1:
                return found[0]
            if found:
                names = ", ".join(repr(row.name) for row in found[:_MAX_NAMES])
                raise LibraryError(f"{len(found)} documents end with {name!r}: {names}; give the whole name or the id")
        names = ", ".join(repr(row.name) for row in rows[:_MAX_NAMES]) or "none"
        more = f" and {len(rows) - _MAX_NAMES:,} more" if len(rows) > _MAX_NAMES else ""
        raise LibraryError(f"no document of this session is called {name[:200]!r}; its documents: {names}{more}")

    def text(self, document_id: str) -> DocumentText:
        """The text of a document. Raises as `Viewer.text`."""
        return self._viewer.text(document_id)

    def search(self, session_id: str, words: str, limit: int) -> tuple[Evidence, ...]:
        """The places that answer a question, or fit some words, best first. Raises as `session_finder`."""
        return session_finder(self._library, session_id).passages(words, limit)

    def quotation(self, session_id: str, quotation: str, limit: int, *, document_id: str = "") -> QuotationPlaces:
        """Where a text stands word for word; white space, quotation marks, dashes and ligatures may differ.

        Args:
            session_id: whose documents are searched, in their order.
            quotation: the text.
            limit: how many places are given.
            document_id: search this one only.

        Raises LibraryError, CorruptStateError.
        """
        rows = [row for row in self._library.documents(session_id) if document_id in ("", row.id)]
        found = list(islice(self._exact(rows, quotation), _MAX_COUNTED))
        is_other_case = not found
        if not found and len(quotation) <= MAX_QUERY_CHARS:  # a longer one would be cut there
            found = list(islice(self._any_case(rows, quotation), _MAX_COUNTED))
        return QuotationPlaces(
            places=tuple(
                QuotationPlace(document=row, place=place, lines=self.text(row.id).map.whole_lines(place))
                for row, place in found[:limit]
            ),
            num_places=len(found),
            is_other_case=is_other_case and bool(found),
            num_documents=len(rows),
        )

    def passage(self, row: DocumentRow, line_start: int, line_end: int) -> PassageText:
        """Lines of a document, up to MAX_PASSAGE_CHARS. line_start, line_end: from 1, inclusive.

        Raises LibraryError for lines that it does not have.
        """
        text = self.text(row.id)
        if not 1 <= line_start <= line_end or line_start > text.num_lines:
            raise LibraryError(
                f"{row.name!r} has the lines 1 to {text.num_lines:,}, not {line_start:,} to {line_end:,}"
            )
        starts = text.map.line_starts
        end = int(starts[line_end]) - 1 if line_end < min(text.num_lines, len(starts)) else len(text.text)
        return self.characters(row, int(starts[line_start - 1]), end)

    def page(self, row: DocumentRow, page: int) -> PassageText:
        """The text of one page, from 1, up to MAX_PASSAGE_CHARS. Raises LibraryError for one that is not there."""
        text = self.text(row.id)
        if not text.page_starts:
            raise LibraryError(f"{row.name!r} has no pages; ask for its lines, 1 to {text.num_lines:,}")
        try:
            return self.characters(row, *text.page_range(page))
        except IndexError as error:
            raise LibraryError(f"{row.name!r} has the pages 1 to {len(text.page_starts):,}, not {page:,}") from error

    def characters(self, row: DocumentRow, start: int, end: int) -> PassageText:
        """A range of characters, up to MAX_PASSAGE_CHARS, cut behind a line or a word. Raises LibraryError."""
        text = self.text(row.id)
        if not 0 <= start <= end <= len(text.text):
            raise LibraryError(f"{row.name!r} has the characters 0 to {len(text.text):,}, not {start:,} to {end:,}")
        stop = end
        if end - start > MAX_PASSAGE_CHARS:
            last = start + MAX_PASSAGE_CHARS
            cuts = (text.text.rfind(mark, start + 1, last) + 1 for mark in "\n ")
            stop = next((cut for cut in cuts if cut > start), last)
        place = text.map.place_of_chars(start, stop)
        span = text.span(start, stop)
        return PassageText(
            document=row,
            line_start=place.line_start,
            line_end=place.line_end,
            page_start=span.page_start,
            page_end=span.page_end,
            num_lines=text.num_lines,
            num_pages=len(text.page_starts),
            text=text.text[start:stop],
            is_cut=stop < end,
            next_char=stop,
        )

    def close(self) -> None:
        """End what draws pages."""
        self._viewer.close()

    def _exact(self, rows: list[DocumentRow], quotation: str) -> Iterator[tuple[DocumentRow, Place]]:
        for row in rows:
            yield from ((row, place) for place in self.text(row.id).map.find_all(quotation))

    def _any_case(self, rows: list[DocumentRow], quotation: str) -> Iterator[tuple[DocumentRow, Place]]:
        for row in rows:
            text = self.text(row.id)
            for span in text.search(quotation)[0]:
                yield row, text.map.place_of_chars(span.char_start, span.char_end)
