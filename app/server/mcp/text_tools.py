"""Tools over the texts of a session: search, quotations, passages. No model is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from app import wording
from app.server.mcp import places
from app.server.mcp.library_tools import READ_ONLY, Session
from app.server.mcp.records import PassageResult, Passages, QuotationResult, Stands

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from app.server.mcp.host import Host
    from sala_core.viewing.session_texts import PassageText, QuotationPlaces

MAX_TEXT_CHARS = 20_000
"""Longest question or quotation that is taken."""
_NEAREST = 3
_MAX_LINE = 2**40

Document = Annotated[
    str, Field(max_length=1000, description="name of a document, the end of its name, or its id; empty for all")
]


def add_text_tools(server: MCPServer, host: Host) -> None:
    """Add search_text, find_quotation and get_passage."""

    @server.tool(title="Search the texts", annotations=READ_ONLY)
    def search_text(
        session: Session,
        words: Annotated[str, Field(min_length=1, max_length=2000, description="a question, or some words")],
        limit: Annotated[int, Field(ge=1, le=20)] = 8,
    ) -> Passages:
        """Find the passages of a session that answer a question or fit some words, best first."""
        library = host.library
        row = library.session(session)
        found = host.texts.search(row.id, words, limit)
        message = wording.plural(len(found), "passage") if found else "no passage has any of these words; try others"
        return Passages(session=row.name, passages=places.passages(row.id, found), message=message)

    @server.tool(title="Find a quotation", annotations=READ_ONLY)
    def find_quotation(
        session: Session,
        text: Annotated[
            str, Field(min_length=1, max_length=MAX_TEXT_CHARS, description="the quotation, without marks")
        ],
        document: Document = "",
        limit: Annotated[int, Field(ge=1, le=50)] = 20,
    ) -> QuotationResult:
        """Check a quotation: every place where the text stands word for word, or that it stands nowhere.

        White space, kinds of quotation marks, dashes and ligatures do not count.
        """
        library = host.library
        row = library.session(session)
        document_id = host.texts.document(row.id, document).id if document else ""
        found = host.texts.quotation(row.id, text, limit, document_id=document_id)
        nearest = () if found.num_places else host.texts.search(row.id, text[:2000], _NEAREST)
        stands, message = _verdict(found)
        return QuotationResult(
            stands=stands,
            message=message,
            num_places=found.num_places,
            places=[places.quotation_place(row.id, each) for each in found.places],
            nearest=places.passages(row.id, nearest),
        )

    @server.tool(title="Get a passage", annotations=READ_ONLY)
    def get_passage(
        session: Session,
        document: Annotated[str, Field(min_length=1, max_length=1000, description="its name, its end, or its id")],
        line_start: Annotated[int | None, Field(ge=1, le=_MAX_LINE, description="first line, from 1")] = None,
        line_end: Annotated[int | None, Field(ge=1, le=_MAX_LINE, description="last line; empty for one line")] = None,
        page: Annotated[int | None, Field(ge=1, le=_MAX_LINE, description="a page instead of lines, from 1")] = None,
        char_start: Annotated[int | None, Field(ge=0, le=_MAX_LINE, description="go on here: next_char")] = None,
    ) -> PassageResult:
        """Read lines or a page of a document as they stand there, up to 20,000 characters at a time."""
        library = host.library
        row = library.session(session)
        texts, found = host.texts, host.texts.document(row.id, document)
        if sum(value is not None for value in (line_start, page, char_start)) != 1:
            raise ToolError("give one of line_start (with line_end), page and char_start")
        if line_end is not None and line_start is None:
            raise ToolError("line_end needs line_start")
        if page is not None:
            passage = texts.page(found, page)
        elif char_start is not None:
            passage = texts.characters(found, char_start, len(texts.text(found.id).text))
        else:
            assert line_start is not None
            passage = texts.passage(found, line_start, line_end or line_start)
        return passage_result(row.id, passage)


def passage_result(session_id: str, passage: PassageText) -> PassageResult:
    """A passage as a result."""
    row = passage.document
    return PassageResult(
        document=row.name,
        document_id=row.id,
        page=passage.page_start,
        line_start=passage.line_start,
        line_end=passage.line_end,
        place=wording.place(passage.page_start, passage.line_start, passage.line_end, document=row.name),
        uri=places.lines_uri(session_id, row.id, passage.line_start, passage.line_end),
        num_lines=passage.num_lines,
        num_pages=passage.num_pages,
        text=passage.text,
        is_cut=passage.is_cut,
        next_char=passage.next_char if passage.is_cut else None,
    )


def _verdict(found: QuotationPlaces) -> tuple[Stands, str]:
    searched = wording.plural(found.num_documents, "document")
    if not found.num_places:
        return "nowhere", f"It stands nowhere in {searched}, word for word; `nearest` has the passages nearest to it"
    more = found.num_places - len(found.places)
    shown = f"{wording.plural(found.num_places, 'place')} in {searched}" + (
        f", {more:,} of them not shown" if more else ""
    )
    if found.is_other_case:
        return "with other capitals", f"It stands nowhere with these capitals; with others: {shown}"
    return "word for word", f"It stands word for word: {shown}"
