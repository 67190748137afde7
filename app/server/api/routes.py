"""All routes of the API, as one application behind the key."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from app.server.api import chat, completions, listing, responses
from app.server.api.access import Access
from app.server.api.answering import Answering
from app.server.api.errors import ApiError
from app.server.api.key import api_key
from app.server.api.stores import Stores
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from sala_core.session.workspace import Workspace

PATHS = ("/v1", "/tokenize", "/health", "/metrics")
"""Paths that belong to the API, with all that is below them."""
_HEARD = ("GET", "POST", "DELETE")
Handler = Callable[[Request], Awaitable[Response]]


def api_mount(workspace: Workspace, library: Path, *, hosts: Collection[str], origins: Collection[str] = ()) -> ASGIApp:
    """The API of a workspace, behind its key.

    Args:
        workspace: answers.
        library: its folder, which holds the key.
        hosts: the program's own names with its port.
        origins: of web pages that may use the API too.

    Raises LibraryError if the key cannot be kept.
    """
    key = api_key(library)
    return Access(api_routes(workspace), key=lambda: key, hosts=hosts, origins=origins)


def api_routes(workspace: Workspace) -> Starlette:
    """The routes themselves."""
    from sala_core.session.served.desk import Desk

    serving = Answering(workspace=workspace, desk=Desk(workspace))
    stores = Stores(serving)
    store = "/v1/vector_stores/{store_id}"
    table: list[tuple[str, Handler, tuple[str, ...]]] = [
        ("/v1/models", partial(listing.models, serving=serving), ("GET",)),
        ("/v1/models/{model_id:path}", partial(listing.model, serving=serving), ("GET",)),
        ("/v1/chat/completions", partial(chat.chat, serving=serving), ("POST",)),
        ("/v1/completions", partial(completions.complete, serving=serving), ("POST",)),
        ("/v1/responses", partial(responses.respond, serving=serving), ("POST",)),
        ("/v1/responses/{response_id}", partial(responses.stored, serving=serving), ("GET", "DELETE")),
        ("/v1/files", stores.files, ("GET", "POST")),
        ("/v1/files/{file_id}", stores.file, ("GET", "DELETE")),
        ("/v1/files/{file_id}/content", stores.content, ("GET",)),
        ("/v1/vector_stores", stores.stores, ("GET", "POST")),
        (store, stores.store, _HEARD),
        (f"{store}/files", stores.store_files, ("GET", "POST")),
        (f"{store}/files/{{file_id}}", stores.store_file, ("GET", "DELETE")),
        (f"{store}/file_batches", stores.batches, ("POST",)),
        (f"{store}/file_batches/{{batch_id}}", stores.batch, ("GET",)),
        (f"{store}/file_batches/{{batch_id}}/files", stores.batch_files, ("GET",)),
        (f"{store}/search", stores.search, ("POST",)),
        ("/v1/tokenize", partial(listing.tokenize, serving=serving), ("POST",)),
        ("/tokenize", partial(listing.tokenize, serving=serving), ("POST",)),
        ("/health", partial(listing.health, serving=serving), ("GET",)),
        ("/metrics", partial(listing.metrics, serving=serving), ("GET",)),
    ]
    routes = [Route(path, _answered(path, handler, serving), methods=list(verbs)) for path, handler, verbs in table]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


def _answered(path: str, handler: Handler, serving: Answering) -> Handler:
    """A handler whose errors become responses. This is the outermost boundary: a client gets no traceback."""

    async def answer(request: Request) -> Response:
        try:
            response = await handler(request)
        except (ApiError, SalaError) as error:
            response = ApiError.of(error).response()
        except (ClientDisconnect, HTTPException):
            raise
        except Exception as error:
            logging.getLogger("uvicorn.error").exception("the API failed at %s", path)
            response = ApiError.of(error).response()
        serving.counters.add_request(path, response.status_code)
        return response

    return answer


async def _http_error(request: Request, error: Exception) -> Response:
    """The response to a path or a method that is not there."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}; this server does not have it"
    return ApiError(message, status=error.status_code, code="not_found").response()
