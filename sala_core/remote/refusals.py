"""What a server's refusal means to the user."""

import json
import re
from dataclasses import dataclass
from typing import Any

from sala_core.errors import (
    EngineChangedError,
    EngineContextError,
    EngineError,
    EngineFailedError,
    EngineRefusedError,
)

_MAX_SHOWN = 300
_CONTEXT_WORDS = re.compile(
    r"context_length_exceeded|exceed_context_size|context (?:length|size|window)|maximum context|longer than the model|"
    r"input is too long|too many tokens|n_ctx|max_model_len|token limit",
    re.IGNORECASE,
)
_CONTEXT_LIMIT = (
    re.compile(r"(?:maximum )?context (?:length|size|window)(?: of| is| \()?[^\d]{0,20}(\d[\d,]*)", re.IGNORECASE),
    re.compile(r'"n_ctx"\s*:\s*(\d+)'),
    re.compile(r"(?:max_model_len|n_ctx)\D{0,12}(\d[\d,]*)", re.IGNORECASE),
)
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_LARGE, _TOO_MANY = 401, 403, 404, 413, 429


@dataclass(frozen=True, kw_only=True)
class Head:
    """The beginning of a reply. text: the whole of it where it is no stream of events, or an error."""

    status: int
    retry_after: str
    location: str
    text: str | None


def refusal(head: Head, address: str, model: str) -> EngineError:
    """The error for a status that is not 200.

    Args:
        head: the reply.
        address: of the server.
        model: who was asked.
    """
    said = said_by(head.text or "")
    told = f": {said}" if said else ""
    status = head.status
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        return EngineRefusedError(
            f"{address} refuses the key ({status}{told}); give a valid one by --engine-key-file, or in “Models”"
        )
    if status == _TOO_LARGE:
        return EngineRefusedError(
            f"the request is larger than {address} accepts ({status}{told}); raise the limit of the server or of the "
            "proxy before it: a million tokens are 4 to 5 MB"
        )
    if status == _TOO_MANY:
        wait = f" in {head.retry_after} s" if head.retry_after.isdigit() else " in a while"
        return EngineRefusedError(f"{address} has too many requests ({status}{told}); ask again{wait}")
    if is_about_context(head.text or ""):
        return context_error(head.text or "", address, model)
    if status == _NOT_FOUND:
        return EngineChangedError(
            f"{address} does not serve {model!r} ({status}{told}); `engines` lists what it serves, choose "
            "one in “Models” or by --engine-model"
        )
    if 300 <= status < 400:
        return EngineRefusedError(
            f"{address} sends on to {head.location or 'another address'} ({status}), which is not followed: text and "
            "key would go there; give that address yourself if you trust it"
        )
    if status < 500:
        return EngineRefusedError(f"{address} refuses the request ({status}{told}); look at the server's own log")
    return EngineFailedError(f"{address} failed ({status}{told}); look at the server's own log, then ask again")


def stream_error(event: dict[str, Any], address: str, model: str) -> EngineError:
    """The error that a server reports inside a stream."""
    text = json.dumps(event)
    if is_about_context(text):
        return context_error(text, address, model)
    return EngineFailedError(f"{address} reports an error: {said_by(text) or text[:_MAX_SHOWN]}")


def is_about_context(text: str) -> bool:
    """Whether a refusal says that the request is longer than the context."""
    return _CONTEXT_WORDS.search(text) is not None


def context_error(text: str, address: str, model: str) -> EngineContextError:
    """The refusal of a request that is longer than the context, with the limit where the server names it."""
    found = next((match for pattern in _CONTEXT_LIMIT if (match := pattern.search(text))), None)
    limit = int(found[1].replace(",", "")) if found else None
    known = f" of {limit:,} tokens" if limit else ""
    return EngineContextError(
        f"the request is longer than the context{known} of {model!r} at {address}: {said_by(text)}; give its length by "
        "--engine-context, or start the engine with a longer one",
        limit,
    )


def said_by(text: str) -> str:
    """The message in an error's body, short and on one line."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raw = text if "<html" not in text[:200].lower() else ""
    for key in ("error", "detail", "message"):
        if isinstance(raw, dict) and key in raw:
            raw = raw[key]
    if isinstance(raw, dict):
        raw = raw.get("message", "")
    shown = " ".join(str(raw or "").split())
    return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 1] + "…"
