"""`/v1/responses`: answers that a later request can go on from."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from app.server.api.answering import SESSION_START, Answering
from app.server.api.chat import starter, streamed, whole
from app.server.api.errors import ApiError, unsupported
from app.server.api.fields import (
    check_fields,
    content_of,
    effort_of,
    flag,
    message_of,
    read_object,
    sampling_of,
    text_field,
)
from app.server.api.response_form import ResponseForm, stored_form
from app.server.api.stores import STORE_START
from sala_core.errors import SalaError
from sala_core.session.served.conversation import Said
from sala_core.store.sessions import is_served

if TYPE_CHECKING:
    from starlette.requests import Request

    from sala_core.session.served.request import Request as Asked

ID_START = "resp_"
_KNOWN = ("input", "instructions", "previous_response_id", "max_output_tokens", "reasoning", "tools", "include")
_INCLUDED = ("file_search_call.results",)


async def respond(request: Request, serving: Answering) -> Response:
    """Answer, and keep the answer for `previous_response_id`. Raises ApiError, SalaError."""
    raw = await read_object(request)
    check_fields(raw, _KNOWN)
    if set(raw.get("include") or ()) - set(_INCLUDED):
        raise unsupported("include", f"only {', '.join(_INCLUDED)} is known here")
    await serving.wait_until_ready()
    store = _store_of(raw.get("tools"))
    model = SESSION_START + store.removeprefix(STORE_START) if store else text_field(raw, "model")
    messages = _input(raw.get("input"))
    instructions = text_field(raw, "instructions", "")
    previous = raw.get("previous_response_id")
    if previous is not None:
        start = _behind(serving, text_field(raw, "previous_response_id"), model, messages, instructions)
    else:
        system = [Said(role="system", text=instructions)] if instructions else []
        start = starter(serving, model, [*system, *messages])
    sampling = sampling_of(raw) | effort_of(raw)
    is_stored = raw.get("store", True) is not False
    form = ResponseForm(ID_START + secrets.token_hex(16), raw, serving.finds, is_stored)
    form.on_finished = lambda finished: (
        _keep(serving, form.id, finished.session_id) if finished.is_kept and is_stored else None
    )
    if not flag(raw, "stream"):
        return await whole(serving.events(sampling, start, request.is_disconnected), form.whole)
    return await streamed(serving.events(sampling, start), form)


async def stored(request: Request, serving: Answering) -> Response:
    """A response that was given earlier, or its deletion. Raises ApiError."""
    response_id = request.path_params["response_id"]
    library = serving.workspace.library
    found = await run_in_threadpool(library.response, response_id)
    if found is None:
        raise _unknown(response_id)
    session_id, answer_id = found
    if request.method == "DELETE":
        library.forget_response(response_id)
        row = library.session(session_id)
        turns = library.turns(session_id)
        if is_served(row.name) and turns and turns[-1].answer_id == answer_id:
            with suppress(SalaError):  # it is in use
                await run_in_threadpool(serving.desk.forget, session_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})
    message = next(row for row in library.messages(session_id) if row.id == answer_id)
    return JSONResponse(stored_form(response_id, message))


def _behind(
    serving: Answering, previous: str, model: str, messages: list[Said], instructions: str
) -> Callable[[Asked], None]:
    """What asks behind an earlier response. Raises ApiError."""
    library = serving.workspace.library
    found = library.response(previous)
    if found is None:
        raise _unknown(previous)
    if instructions:
        message = "instructions belong to the first response of a conversation; they were read before its texts"
        raise ApiError(message, param="instructions")
    session = library.session(found[0])
    serving.session(model)  # an unknown model is refused
    if any(said.role != "user" for said in messages):
        raise ApiError("input: behind an earlier response, only messages of the user can follow", param="input")
    question = "\n\n".join(said.text for said in messages)
    if not question.strip():
        raise ApiError("input: the question is empty", param="input")
    return lambda asked: serving.desk.go_on(session, found[1], question, asked)


def _keep(serving: Answering, response_id: str, session_id: str) -> None:
    """Note which answer a response is: the last one of its session."""
    library = serving.workspace.library
    turns = library.turns(session_id)
    if turns:
        library.note_response(response_id, session_id, turns[-1].answer_id)


def _unknown(response_id: str) -> ApiError:
    message = f"the response {response_id!r} is not known, or not kept any more; send the whole conversation"
    return ApiError(message, status=404, code="response_not_found", param="previous_response_id")


def _input(value: object) -> list[Said]:
    """The messages of a request. Raises ApiError for items that are no messages."""
    if isinstance(value, str):
        return [Said(role="user", text=content_of(value, "input"))]
    if not isinstance(value, list) or not value:
        raise ApiError("input: a text, or a list of messages, is expected", param="input")
    messages = []
    for index, item in enumerate(value):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        if kind != "message":
            raise unsupported(f"input[{index}]", f"an item of type {kind!r} is not supported here; only messages are")
        messages.append(message_of(item, f"input[{index}]"))
    return messages


def _store_of(tools: object) -> str:
    """The vector store that a request searches; "" for none. Raises ApiError for any other tool."""
    if tools in (None, []):
        return ""
    if isinstance(tools, list) and len(tools) == 1 and isinstance(tools[0], dict):
        stores = tools[0].get("vector_store_ids")
        if tools[0].get("type") == "file_search" and isinstance(stores, list) and len(stores) == 1:
            return str(stores[0])
    raise unsupported("tools", "the only tool here is one file_search with one vector store: its session is asked")
