"""The fields of a request: read, checked, or refused aloud. Nothing that would change the answer is passed over."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.server.api.errors import ApiError, unsupported
from sala_core.session.served.conversation import Said, clean

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_TEXT_PARTS = ("text", "input_text", "output_text")
WITHOUT_EFFECT = frozenset(
    (
        "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
        "parallel_tool_calls", "verbosity", "cache_prompt", "model", "messages", "stream", "stream_options",
        "return_progress",
    )
)  # fmt: skip
"""Fields that are read elsewhere, or that mean nothing here: they change no answer."""

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "text": ({"format": {"type": "text"}}, {}),
    "truncation": ("disabled",),
    "background": (False,),
    "include": ([],),
}
"""Fields that are not supported -> the values that ask for nothing."""

_SAMPLING: Mapping[str, tuple[str, type | tuple[type, ...]]] = {
    "max_tokens": ("max_tokens", int),
    "max_completion_tokens": ("max_tokens", int),
    "max_output_tokens": ("max_tokens", int),
    "temperature": ("temperature", (int, float)),
    "top_p": ("top_p", (int, float)),
    "top_k": ("top_k", int),
    "min_p": ("min_p", (int, float)),
    "repetition_penalty": ("repetition_penalty", (int, float)),
    "seed": ("seed", int),
    "verbatim": ("verbatim", bool),
}
"""Field of a request -> field of SamplingParams, and its type."""

_EFFORTS = {"none": False, "minimal": False, "low": True, "medium": True, "high": True, "xhigh": True}
_MAX_STOPS = 16


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body, without the fields that are null. Raises ApiError."""
    body = await request.body()
    try:
        raw = await run_in_threadpool(json.loads, body)
    except (ValueError, RecursionError) as error:
        raise ApiError(f"the body is no JSON: {error}"[:300]) from error
    if not isinstance(raw, dict):
        raise ApiError("the body is no JSON object")
    return {name: value for name, value in raw.items() if value is not None}


def check_fields(raw: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise ApiError for a field that is unknown here, or that asks for something that this server does not do.

    known: fields that the caller reads itself.
    """
    for name, value in raw.items():
        if name in known or name in WITHOUT_EFFECT or name in _SAMPLING or name in ("stop", "reasoning_effort"):
            continue
        if name not in _NEUTRAL:
            raise ApiError(f"unknown field {name!r}", code="unknown_parameter", param=name)
        if value not in _NEUTRAL[name]:
            shown = json.dumps(value)[:80]
            raise unsupported(name, f"{shown} is not supported here; leave it out")


def sampling_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling that a request asks for, as fields of SamplingParams. Raises ApiError for a wrong type."""
    changes: dict[str, Any] = {}
    for name, (field, kind) in _SAMPLING.items():
        if name not in raw:
            continue
        if not isinstance(raw[name], kind) or (isinstance(raw[name], bool) and kind is not bool):
            raise ApiError(f"{name}: {json.dumps(raw[name])[:80]} is no valid value", param=name)
        changes[field] = raw[name]
    if changes.get("seed", 0) < 0:
        changes.pop("seed")  # -1 asks for a random one, as elsewhere
    if "stop" in raw:
        changes["stop"] = _stops(raw["stop"])
    if "reasoning_effort" in raw:
        changes["think"] = _choice(raw, "reasoning_effort", _EFFORTS)
    return changes


def flag(raw: Mapping[str, Any], name: str) -> bool:
    """A field that is true or false; false where it is missing. Raises ApiError."""
    value = raw.get(name, False)
    if not isinstance(value, bool):
        raise ApiError(f"{name}: true or false is expected", param=name)
    return value


def text_field(raw: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A field that is a text. Raises ApiError where it is missing without a default, or no text."""
    value = raw.get(name, default)
    if not isinstance(value, str):
        raise ApiError(f"{name}: a text is expected" + ("" if name in raw else ", and it is missing"), param=name)
    return clean(value)


def messages_of(raw: object, param: str = "messages") -> list[Said]:
    """The messages of a chat. Raises ApiError for an unknown role, and for parts that are no text."""
    if not isinstance(raw, list) or not raw:
        raise ApiError(f"{param}: a list of messages is expected, and it has to have one", param=param)
    return [message_of(item, f"{param}[{index}]") for index, item in enumerate(raw)]


def message_of(item: object, param: str) -> Said:
    """One message. Raises ApiError."""
    if not isinstance(item, dict):
        raise ApiError(f"{param}: an object is expected", param=param)
    role = item.get("role")
    if role not in _ROLES:
        supported = ", ".join(_ROLES)
        raise unsupported(f"{param}.role", f"{role!r} is not supported here; messages are of {supported}")
    for name in ("tool_calls", "function_call", "audio"):
        if item.get(name):
            raise unsupported(f"{param}.{name}", "the model has no tools and no sound; leave it out")
    content = item.get("content")
    text = "" if content is None and role == "assistant" else content_of(content, f"{param}.content")
    return Said(role=_ROLES[role], text=text)  # type: ignore[arg-type]


def content_of(content: object, param: str) -> str:
    """The text of a message: a string, or a list of parts of text. Raises ApiError for pictures, sound and files."""
    if isinstance(content, str):
        return clean(content)
    if not isinstance(content, list):
        raise ApiError(f"{param}: a text, or a list of parts, is expected", param=param)
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            raise unsupported(f"{param}[{index}]", f"a part of type {kind!r} is not supported here; only text is read")
        texts.append(part["text"])
    return clean("\n\n".join(texts) if len(texts) > 1 else "".join(texts))


def effort_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The field `reasoning` of a response, as sampling. Raises ApiError."""
    reasoning = raw.get("reasoning") or {}
    if not isinstance(reasoning, dict):
        raise ApiError("reasoning: an object is expected", param="reasoning")
    given = {name: value for name, value in reasoning.items() if value is not None}
    if set(given) - {"effort"}:
        raise unsupported("reasoning", f"{sorted(set(given) - {'effort'})[0]!r} is not supported here; leave it out")
    return {"think": _choice(given, "effort", _EFFORTS)} if given else {}


def _choice(raw: Mapping[str, Any], name: str, choices: Mapping[str, bool]) -> bool:
    if raw[name] not in choices:
        raise ApiError(f"{name}: one of {', '.join(choices)} is expected", param=name)
    return choices[raw[name]]


def _stops(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(each, str) and each for each in stops):
        raise ApiError("stop: a text, or a list of texts that are not empty, is expected", param="stop")
    if len(stops) > _MAX_STOPS:
        raise ApiError(f"stop: {len(stops)} texts were given, {_MAX_STOPS} are the most", param="stop")
    return tuple(stops)
