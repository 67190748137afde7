"""The routes of first questions, templates, question lists and exports. The guard lets only the page use them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from app.page.answer_settings import load_settings
from app.page.export.gather import FORMATS, MEDIA_TYPES, disposition, gather, write_export
from app.page.question_lists.first_questions import FirstQuestions
from app.page.question_lists.table import csv_table, markdown_table, place_of
from app.page.question_lists.templates import BUILT_IN, MAX_CHARS, add_template, own_templates, remove_template
from sala_core.errors import QuestionListError, SalaError
from sala_core.session.lists.question_file import decode_list, parse_questions

if TYPE_CHECKING:
    from sala_core.session.lists.list_runs import ListView
    from sala_core.session.workspace import Workspace

MAX_FILE_CHARS = 4 << 20
"""Of a list in base64."""
_Id = Annotated[str, Path(max_length=64, pattern=r"^[0-9a-zA-Z_-]+$")]


class ListBody(BaseModel):
    """A file with questions: its name, and its bytes in base64."""

    name: str = Field(max_length=255)
    data: str = Field(max_length=MAX_FILE_CHARS)


class TemplateBody(BaseModel):
    """A template of the user."""

    text: str = Field(max_length=4 * MAX_CHARS)


def questions_router(workspace: Workspace) -> APIRouter:
    """Return the routes under /api/sessions/ID (first-questions, lists, export) and /api/question-templates."""
    router = APIRouter(prefix="/api")
    first = FirstQuestions(workspace)

    @router.get("/sessions/{session_id}/first-questions")
    def first_questions(session_id: _Id) -> Any:
        return _attempt(lambda: {"questions": first.of(session_id)})

    @router.get("/sessions/{session_id}/export/{form}")
    def export(session_id: _Id, form: str) -> Any:
        if form not in FORMATS:
            return JSONResponse({"detail": f"there is no format {form}; choose md, html or json"}, status_code=404)

        def answer() -> Response:
            found = gather(workspace.library, session_id)
            return _file(write_export(found, form), found.row.name, form)

        return _attempt(answer)

    _add_template_routes(router, workspace)
    _add_list_routes(router, workspace)
    return router


def _add_template_routes(router: APIRouter, workspace: Workspace) -> None:
    folder = workspace.library.folder

    def known() -> dict[str, Any]:
        only_finds = workspace.model_info().is_demonstration
        return {
            "own": own_templates(folder),
            "built_in": [{"text": one.text, "fits": not (one.needs_writing and only_finds)} for one in BUILT_IN],
        }

    @router.get("/question-templates")
    def templates() -> Any:
        return _attempt(known)

    @router.post("/question-templates")
    def add(body: TemplateBody) -> Any:
        def answer() -> dict[str, Any]:
            add_template(folder, body.text)
            return known()

        return _attempt(answer)

    @router.post("/question-templates/remove")
    def remove(body: TemplateBody) -> Any:
        def answer() -> dict[str, Any]:
            remove_template(folder, body.text)
            return known()

        return _attempt(answer)


def _add_list_routes(router: APIRouter, workspace: Workspace) -> None:
    prefix = "/sessions/{session_id}/lists"

    @router.get(prefix)
    def views(session_id: _Id) -> dict[str, Any]:
        return {"lists": [_view_json(view) for view in workspace.lists.views(session_id)]}

    @router.post(prefix)
    def start(session_id: _Id, body: ListBody) -> Any:
        def answer() -> dict[str, Any]:
            row = workspace.library.session(session_id)
            if not row.num_documents:
                raise QuestionListError("nothing was read in this session yet; give it something to read first")
            questions = parse_questions(decode_list(_bytes(body.data), body.name), body.name)
            thinks = workspace.model_info().thinks_by_default is not None
            changes = load_settings(workspace.library.folder).for_model(thinks=thinks).changes
            return {"id": workspace.lists.start(row.id, body.name, questions, changes)}

        return _attempt(answer)

    @router.get(prefix + "/{list_id}")
    def rows(session_id: _Id, list_id: _Id) -> Any:
        def answer() -> dict[str, Any]:
            found = workspace.lists.rows(list_id, session_id)
            return {**_view_json(workspace.lists.view(list_id, session_id)), "rows": [_row_json(row) for row in found]}

        return _attempt(answer)

    @router.post(prefix + "/{list_id}/{action}")
    def act(session_id: _Id, list_id: _Id, action: str) -> Any:
        def answer() -> dict[str, Any]:
            lists = workspace.lists
            if action == "stop":
                lists.stop(list_id)
            elif action == "resume":
                lists.resume(list_id, session_id)
            elif action == "delete":
                lists.delete(list_id, session_id)
            else:
                raise QuestionListError(f"a list can be stopped, resumed and deleted; {action} is none of these")
            return {}

        return _attempt(answer)

    @router.get(prefix + "/{list_id}/answers.{form}")
    def answers(session_id: _Id, list_id: _Id, form: str) -> Any:
        def answer() -> Response:
            lists = workspace.lists
            view, found = lists.view(list_id, session_id), lists.rows(list_id, session_id)
            name = view.name.rpartition(".")[0] or view.name
            if form == "csv":
                return _file("\ufeff" + csv_table(found), f"{name} answers", "csv")
            if form == "jsonl":
                lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in found)
                return _file("".join(lines), f"{name} answers", "jsonl")
            return _file(markdown_table(found, name), f"{name} answers", "md")

        return _attempt(answer)


def _view_json(view: ListView) -> dict[str, Any]:
    return {
        "id": view.id,
        "name": view.name,
        "status": view.status,
        "answered": view.num_answered,
        "total": len(view.questions),
        "current": view.current,
        "error": view.error,
    }


def _row_json(row: dict[str, Any]) -> dict[str, Any]:
    """What the page's table shows of a row."""
    places = [place_of(each) for each in (*(row.get("quotations") or ()), *(row.get("evidence") or ()))]
    return {"question": row["question"], "answer": row["answer"], "places": list(dict.fromkeys(places))[:5]}


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise QuestionListError("the list did not arrive whole; choose the file again") from error


def _file(text: str, name: str, form: str) -> Response:
    """A file that the browser saves."""
    media_type = MEDIA_TYPES.get(form, "text/csv" if form == "csv" else "application/x-ndjson")
    headers = {"content-disposition": disposition(name, form)}
    return Response(text.encode("utf-8", "replace"), media_type=f"{media_type}; charset=utf-8", headers=headers)


def _attempt(action: Callable[[], Any]) -> Any:
    """What the action returns. A refusal is an answer too: a browser reports every status above 399 as a fault."""
    try:
        return action()
    except SalaError as error:
        return JSONResponse({"refused": str(error)})
