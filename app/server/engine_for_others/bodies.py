"""The JSON bodies of requests, read with a limit and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import Request

from sala_core.remote.sala.order import StreamOrder

if TYPE_CHECKING:
    from sala_core.session.hosting.sessions import JobOrder

_JOB_ID = re.compile(r"[0-9a-f]{32}")
_CHANGES: Mapping[str, type | tuple[type, ...]] = {
    "temperature": (int, float),
    "top_p": (int, float),
    "max_tokens": int,
    "think": bool,
    "thinking_budget": int,
    "seed": int,
    "verbatim": bool,
}
"""Answer settings that a client may change -> their types. Their values are checked where they are used."""


class LimitError(Exception):
    """A body is longer than it may be. Becomes a response with status 413."""


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object in a request's body. Raises LimitError beyond `limit` bytes, ValueError for anything else."""
    body = bytearray()
    async for data in request.stream():
        body += data
        if len(body) > limit:
            raise LimitError(f"a request may have {limit:,} bytes at most")
    try:
        raw = json.loads(body)
    except RecursionError as error:
        raise ValueError("the body is nested too deeply") from error
    if not isinstance(raw, dict):
        raise ValueError("the body is no JSON object")
    return raw


def read_order(job_id: str, raw: Mapping[str, Any]) -> JobOrder:
    """The order in a body. Raises ValueError for one that cannot be."""
    from sala_core.engine.sampling import SamplingParams
    from sala_core.session.hosting.sessions import JobOrder

    session, fingerprint, question = (raw.get(name) for name in ("session", "fingerprint", "question"))
    changes = raw.get("changes") or {}
    if not _JOB_ID.fullmatch(job_id):
        raise ValueError("a job's id has 32 hexadecimal digits")
    if not isinstance(session, str) or not isinstance(fingerprint, str):
        raise ValueError("session and fingerprint must be texts")
    if question is not None and (not isinstance(question, str) or not question.strip()):
        raise ValueError("the question is empty")
    if not isinstance(changes, dict) or not all(_is_change(name, value) for name, value in changes.items()):
        raise ValueError(f"changes may hold {', '.join(_CHANGES)}, each of its type")
    SamplingParams(**changes)
    return JobOrder(
        id=job_id,
        session=session,
        fingerprint=fingerprint,
        stream=StreamOrder.from_json(raw.get("stream")),
        question=question,
        changes=changes,
    )


def _is_change(name: str, value: Any) -> bool:
    kind = _CHANGES.get(name)
    return kind is not None and isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
