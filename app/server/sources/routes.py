"""The source viewer's routes, below /api/sources. Texts travel as JSON and pages as pictures: nothing of a document is
ever HTML, and a file is named by the id of its document, never by its path."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse

from app import wording
from app.server.sources.colored_rows import layout_of, rows_json
from app.server.sources.opener import open_original
from sala_core.errors import IngestError, SalaError
from sala_core.viewing.document_text import MAX_QUERY_CHARS, MAX_ROWS, Span
from sala_core.viewing.viewer import MapCell, Viewer

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace
    from sala_core.viewing.turn_places import TurnPlace

_MAX = 2**40
_Id = Annotated[str, Path(max_length=64)]
_Key = Annotated[str, Path(max_length=12)]
_Session = Annotated[str, Query(max_length=64)]
_Number = Annotated[int, Query(ge=0, le=_MAX)]
_Page = Annotated[int, Path(ge=1, le=_MAX)]


def sources_router(workspace: Workspace) -> APIRouter:
    """Return the routes: places of an answer, texts in rows, a search, pages as pictures, and the original."""
    router = APIRouter(prefix="/api/sources")
    viewer = Viewer(workspace.library)
    _add_turn_routes(router, viewer)
    _add_document_routes(router, viewer)
    _add_page_routes(router, viewer)
    return router


def _add_turn_routes(router: APIRouter, viewer: Viewer) -> None:
    @router.get("/turns/{session_id}/{message_id}")
    def turn(session_id: _Id, message_id: _Id) -> Any:
        def answer() -> dict[str, Any]:
            found = viewer.turn(session_id, message_id)
            cells = viewer.map_cells(found)
            return {"places": [_place_json(place) for place in found.places], "map": _map_json(cells)}

        return _attempt(answer)

    @router.get("/turns/{session_id}/{message_id}/places/{key}")
    def place(session_id: _Id, message_id: _Id, key: _Key) -> Any:
        def answer() -> dict[str, Any]:
            found = viewer.turn(session_id, message_id)
            one = found.place(key)
            span = viewer.span(one)
            return {"span": _span_json(span), "cell": viewer.cell_of(found, one, span)}

        return _attempt(answer)


def _add_document_routes(router: APIRouter, viewer: Viewer) -> None:
    @router.get("/documents/{document_id}")
    def document(document_id: _Id, session: _Session) -> Any:
        def answer() -> dict[str, Any]:
            text, original = viewer.text(document_id), viewer.original(session, document_id)
            return {
                "id": document_id,
                "name": text.document.name,
                "layout": layout_of(text),
                "num_rows": text.num_rows,
                "num_lines": text.num_lines,
                "num_chars": len(text.text),
                "page_word": wording.page_word(text.document.name),
                "page_rows": text.page_rows(),
                "headings": [[one.row, one.level, one.text] for one in text.headings],
                "has_pictures": viewer.has_pages(document_id) and original.is_there,
                "can_open": original.state == "unchanged",
                "note": original.note,
            }

        return _attempt(answer)

    @router.get("/documents/{document_id}/rows")
    def rows(document_id: _Id, first: _Number, count: Annotated[int, Query(ge=1, le=MAX_ROWS)]) -> Any:
        return _attempt(lambda: {"rows": rows_json(viewer.text(document_id), first, count)})

    @router.get("/documents/{document_id}/tokens/{token}")
    def token_place(document_id: _Id, token: Annotated[int, Path(ge=0, le=_MAX)]) -> Any:
        return _attempt(lambda: {"span": _span_json(viewer.token_span(document_id, token))})

    @router.get("/documents/{document_id}/search")
    def search(document_id: _Id, query: Annotated[str, Query(max_length=MAX_QUERY_CHARS)]) -> Any:
        def answer() -> dict[str, Any]:
            hits, total = viewer.text(document_id).search(query)
            return {"hits": [_span_json(hit) for hit in hits], "total": total}

        return _attempt(answer)

    @router.post("/documents/{document_id}/open")
    def open_document(document_id: _Id, session: _Session) -> Any:
        def answer() -> dict[str, Any]:
            original = viewer.original(session, document_id)
            if original.state != "unchanged":
                raise IngestError(original.note or "Its file is not known.")
            return {"done": open_original(original.path)}

        return _attempt(answer)


def _add_page_routes(router: APIRouter, viewer: Viewer) -> None:
    @router.get("/documents/{document_id}/pages/{page}")
    def picture(
        document_id: _Id, page: _Page, session: _Session, width: Annotated[int, Query(ge=1, le=4096)] = 1200
    ) -> Response:
        try:
            drawn = viewer.draw_page(session, document_id, page, width)
        except SalaError as error:
            return JSONResponse({"error": str(error)})
        return Response(drawn, media_type="image/png")

    @router.get("/documents/{document_id}/pages/{page}/boxes")
    def boxes(document_id: _Id, page: _Page, session: _Session, start: _Number, end: _Number) -> Any:
        def answer() -> dict[str, Any]:
            found = viewer.place_on_page(session, document_id, page, start, end)
            return {"boxes": found.boxes, "num_places": found.num_places, "is_whole": found.is_whole}

        return _attempt(answer)


def _attempt(answer: Callable[[], dict[str, Any]]) -> Response:
    """The answer as JSON; {"error": words} for what the user can meet: a text that is gone, a page that is damaged."""
    try:
        return JSONResponse(answer())
    except SalaError as error:
        return JSONResponse({"error": str(error)})


def _place_json(place: TurnPlace) -> dict[str, Any]:
    where = wording.place(place.page, place.line_start, place.line_end, place.rows, place.document)
    return {
        "key": place.key,
        "kind": place.kind,
        "rank": place.rank,
        "document_id": place.document_id,
        "document": place.document,
        "where": where,
    }


def _span_json(span: Span | None) -> dict[str, Any] | None:
    if span is None:
        return None
    return {
        "start": span.char_start,
        "end": span.char_end,
        "row_start": span.row_start,
        "row_end": span.row_end,
        "page_start": span.page_start,
        "page_end": span.page_end,
    }


def _map_json(cells: list[MapCell]) -> list[dict[str, Any]] | None:
    """The cells with their places in words; None without a map."""
    if not cells:
        return None
    return [
        {
            "document_id": cell.document_id,
            "document": cell.document,
            "token": cell.token,
            "where": "" if cell.line is None else wording.place(cell.page, cell.line, cell.line, None, cell.document),
            "share": round(cell.share, 5),
        }
        for cell in cells
    ]
