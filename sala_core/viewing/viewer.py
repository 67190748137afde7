"""All that a source viewer asks for, over one library. Safe to call from any thread."""

from dataclasses import dataclass

from sala_core.errors import IngestError, LibraryError, SalaError
from sala_core.ingest.document import MIB
from sala_core.ingest.sniff import Kind
from sala_core.store import Library
from sala_core.viewing.byte_cache import ByteCache
from sala_core.viewing.document_text import DocumentText, Span
from sala_core.viewing.original import Original, Originals
from sala_core.viewing.pdf_pages import PassageBoxes, PdfPages
from sala_core.viewing.turn_places import TurnPlace, TurnPlaces, turn_places

_TEXT_CACHE_BYTES = 256 * MIB
_MAX_MAP_DOCUMENTS = 24
"""Documents of a map whose peaks are given with page and line. Others are loaded when one of their cells is opened."""


@dataclass(frozen=True, kw_only=True)
class MapCell:
    """One cell of an attention map. page, line: of its most attended token; None where the document is not loaded."""

    document_id: str
    document: str
    token: int
    page: int | None
    line: int | None
    share: float


class Viewer:
    """Texts, pages and places of a library's documents."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._originals = Originals(library)
        self._pages = PdfPages()
        self._texts: ByteCache[DocumentText] = ByteCache(_TEXT_CACHE_BYTES, lambda text: text.num_bytes)

    def text(self, document_id: str) -> DocumentText:
        """A document's text. Raises LibraryError if it is not in the library; CorruptStateError if it is damaged."""
        return self._texts.get(document_id, lambda: DocumentText(self._library.load_document(document_id)))

    def turn(self, session_id: str, message_id: str) -> TurnPlaces:
        """The places of an answer. Raises LibraryError."""
        return turn_places(self._library, session_id, message_id)

    def span(self, place: TurnPlace) -> Span | None:
        """Where a place of an answer stands in its document; None if it does not stand there. Raises LibraryError."""
        return self.text(place.document_id).passage(place.line_start, place.line_end, place.text)

    def token_span(self, document_id: str, token: int) -> Span:
        """The line of a token of a document. Raises LibraryError, also for a token that it does not have."""
        text = self.text(document_id)
        try:
            line = text.map.place(token, token).line_start
        except IndexError as error:
            raise LibraryError(f"{text.document.name} has no token {token}; reload the page") from error
        starts = text.map.line_starts
        end = int(starts[line]) - 1 if line < len(starts) else len(text.text)
        return text.span(int(starts[line - 1]), end)

    def original(self, session_id: str, document_id: str) -> Original:
        """The file that a document of a session was read from. Raises LibraryError."""
        return self._originals.find(session_id, self._library.document(document_id).content_hash)

    def has_pages(self, document_id: str) -> bool:
        """Whether the document's pages can be drawn from its file."""
        return self._library.document(document_id).media_type == Kind.PDF.value

    def draw_page(self, session_id: str, document_id: str, page: int, width: int) -> bytes:
        """A page of a PDF as PNG. Raises LibraryError; IngestError where the file is not the one that was read.

        Args:
            session_id: a session that has read it.
            document_id: which document.
            page: from 1.
            width: in pixels.
        """
        original = self._drawable(session_id, document_id)
        return self._pages.draw(original.path, original.file_hash, page, width)

    def place_on_page(self, session_id: str, document_id: str, page: int, start: int, end: int) -> PassageBoxes:
        """Where the part of a passage that lies on a page stands on it. Raises as `draw_page`.

        Args:
            session_id: a session that has read it.
            document_id: which document.
            page: from 1.
            start, end: characters of the document.
        """
        original, text = self._drawable(session_id, document_id), self.text(document_id)
        try:
            first, after = text.page_range(page)
        except IndexError as error:
            raise IngestError(str(error)) from error
        a, b = max(first, start), min(after, end)
        if a >= b:
            return PassageBoxes(boxes=(), num_places=0, is_whole=True)
        return self._pages.place(original.path, page, text.text[first:after], a - first, b - first)

    def map_cells(self, turn: TurnPlaces) -> list[MapCell]:
        """The cells of an answer's attention map, [] without one."""
        if turn.attention_map is None:
            return []
        places, shares = turn.attention_map.places(), turn.attention_map.shares().tolist()
        by_share = sorted(zip(shares, places, strict=True), key=lambda item: -item[0])
        loaded = list(dict.fromkeys(document_id for _, (document_id, _) in by_share))[:_MAX_MAP_DOCUMENTS]
        names: dict[str, str] = {}
        return [self._cell(*place, share, loaded, names) for place, share in zip(places, shares, strict=True)]

    def _cell(self, document_id: str, token: int, share: float, loaded: list[str], names: dict[str, str]) -> MapCell:
        page = line = None
        try:
            if document_id not in names:
                names[document_id] = self._library.document(document_id).name
            if document_id in loaded:
                place = self.text(document_id).map.place(token, token)
                page, line = place.page, place.line_start
        except (SalaError, IndexError):
            names.setdefault(document_id, "a document that is not here any more")
        name = names[document_id]
        return MapCell(document_id=document_id, document=name, token=token, page=page, line=line, share=share)

    def cell_of(self, turn: TurnPlaces, place: TurnPlace, span: Span | None) -> int | None:
        """The cell of the attention map in which a place begins."""
        if turn.attention_map is None or span is None:
            return None
        token, _ = self.text(place.document_id).map.tokens_of_chars(span.char_start, span.char_start)
        return turn.attention_map.cell_of(place.document_id, token)

    def close(self) -> None:
        """End the process that draws pages."""
        self._pages.close()

    def _drawable(self, session_id: str, document_id: str) -> Original:
        if not self.has_pages(document_id):
            raise IngestError("only pages of a PDF are drawn; the text of this document is shown")
        original = self.original(session_id, document_id)
        if not original.is_there:
            raise IngestError(original.note)
        return original
