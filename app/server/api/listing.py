"""What there is and how it stands: `/v1/models`, `/tokenize`, `/health`, `/metrics`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.server.api.answering import SESSION_START, Answering
from app.server.api.errors import ApiError
from app.server.api.fields import read_object, text_field
from app.server.api.stores import page

if TYPE_CHECKING:
    from starlette.requests import Request

_OWNER = "sala"
_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


async def models(request: Request, serving: Answering) -> Response:
    """The model, and one for each session: `sala/NAME`."""
    return page(request, await run_in_threadpool(_models, serving))


async def model(request: Request, serving: Answering) -> Response:
    """One of them. Raises ApiError."""
    model_id = request.path_params["model_id"]
    row = await run_in_threadpool(serving.session, model_id)
    if row is None:
        return JSONResponse(_models(serving)[0])
    return JSONResponse(_session(model_id, row.created_at, serving) | {"num_tokens": row.num_tokens})


async def tokenize(request: Request, serving: Answering) -> Response:
    """The tokens of a text, which is called `content`, `prompt` or `text`. Raises ApiError."""
    raw = await read_object(request)
    await serving.wait_until_ready()
    name = next((each for each in ("content", "prompt", "text") if each in raw), "content")
    text = text_field(raw, name)
    unknown = set(raw) - {name, "model", "add_special", "add_special_tokens", "with_pieces"}
    if unknown or raw.get("with_pieces"):
        raise ApiError(f"{min(unknown, default='with_pieces')} is not supported here; leave it out")
    ids = await run_in_threadpool(serving.workspace.engine.tokenizer.encode_content, text)
    limit = serving.workspace.model_info().max_tokens
    return JSONResponse({"tokens": ids.tolist(), "count": len(ids), "max_model_len": limit})


async def health(request: Request, serving: Answering) -> Response:
    """Whether the model is ready. Needs no key, and tells nothing else."""
    status = serving.workspace.model_info().status
    word = {"ready": "ok", "loading": "loading model", "failed": "error"}[status]
    return JSONResponse({"status": word}, status_code=200 if status == "ready" else 503)


async def metrics(request: Request, serving: Answering) -> Response:
    """Counters for Prometheus."""
    return PlainTextResponse(await run_in_threadpool(_metrics, serving), media_type=_TEXT_FORMAT)


def _models(serving: Answering) -> list[dict[str, Any]]:
    info = serving.workspace.model_info()
    own = {
        "id": serving.model_id,
        "object": "model",
        "created": int(serving.counters.began),
        "owned_by": _OWNER,
        "max_model_len": info.max_tokens,
    }
    sessions = [
        _session(SESSION_START + row.name, row.created_at, serving) | {"num_tokens": row.num_tokens}
        for row in serving.workspace.library.sessions()
    ]
    return [own, *sessions]


def _session(model_id: str, created_at: float, serving: Answering) -> dict[str, Any]:
    return {
        "id": model_id,
        "object": "model",
        "created": int(created_at),
        "owned_by": _OWNER,
        "max_model_len": serving.workspace.model_info().max_tokens,
        "root": serving.model_id,
    }


def _metrics(serving: Answering) -> str:
    library = serving.workspace.library
    waiting = len(library.jobs(status="queued"))
    running = len(library.jobs(status="running"))
    gauges = (
        ("sala_jobs_waiting", "Readings and questions that wait.", waiting),
        ("sala_jobs_running", "Readings and questions at work.", running),
        ("sala_state_bytes", "Bytes of saved states.", library.usage().states_bytes),
        ("sala_sessions", "Sessions of the user.", len(library.sessions())),
        ("sala_served_sessions", "Conversations of other programs that are kept.", len(library.served_sessions())),
        ("sala_uptime_seconds", "Seconds since the program started.", round(time.time() - serving.counters.began, 1)),
    )
    lines = serving.counters.lines()
    for name, text, value in gauges:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value}"]
    return "\n".join(lines) + "\n"
