"""Which server answers at an address, which models it serves, and how long a text each of them takes."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sala_core.errors import EngineChangedError, EngineFailedError, EngineRefusedError
from sala_core.remote.engine import EngineInfo, EngineKind
from sala_core.remote.refusals import context_error
from sala_core.remote.server import CONNECT_S, Reply, Server

MODELS = "/v1/models"
_CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx")
_OWNERS: Mapping[str, EngineKind] = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp"}
_DEFAULT_TOKENS = 4096
"""With which Ollama and LM Studio load a model if nothing else is set."""
_MAX_OLLAMA_MODELS = 40
_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)", re.MULTILINE)
_NOT_FOR_CHAT = ("embedding", "embeddings")
_PROBE_CHARS = 4_000_000
_PROBE_S = 30.0
_DENIED = (401, 403)


def served(server: Server, *, timeout_s: float = CONNECT_S) -> tuple[EngineInfo, ...]:
    """All models that a server offers for conversation.

    Raises EngineRefusedError where it wants a key, EngineFailedError where it is no engine, EngineUnreachableError.
    """
    entries = _entries(server, timeout_s)
    return tuple(_DESCRIBED[_kind(server, entries, timeout_s)](server, entries, timeout_s))


def chosen(server: Server, model: str, *, timeout_s: float = CONNECT_S) -> EngineInfo:
    """The model that is asked: the one of this name, or the only one there is. model: "" for that.

    Raises EngineChangedError where there is no such model, or several and none is named; and as `served`.
    """
    entries = _entries(server, timeout_s)
    address, names = server.access.address, [entry["id"] for entry in entries]
    if model and not (named := [entry for entry in entries if entry["id"] in (model, f"{model}:latest")]):
        offered = f"but {_listed(names)}; choose one by --engine-model, or in “Models”" if names else "nor any other"
        raise EngineChangedError(f"{address} does not serve {model!r}, {offered}")
    wanted = named if model else entries
    found = tuple(_DESCRIBED[_kind(server, entries, timeout_s)](server, wanted, timeout_s))
    if not found:
        raise EngineChangedError(f"{address} serves no model for conversations; load one there first")
    if len(found) > 1:
        names = [info.model for info in found]
        raise EngineChangedError(f"{address} serves {_listed(names)}; choose one by --engine-model, or in “Models”")
    return found[0]


def _entries(server: Server, timeout_s: float) -> list[Mapping[str, Any]]:
    """The rows of the list of models."""
    reply = server.ask("GET", MODELS, timeout_s=timeout_s)
    if reply.status in _DENIED:
        raise EngineRefusedError(
            f"{server.access.address} wants a key ({reply.status}); give one by --engine-key-file, or in “Models”"
        )
    rows = reply.fields.get("data")
    if not isinstance(rows, list):
        raise EngineFailedError(
            f"{server.access.address} is no server with an OpenAI-compatible API: {MODELS} answers {reply.status}; "
            "look at the address and the port"
        )
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]


def probed_context(server: Server, model: str) -> int | None:
    """The context of a llama-cpp-python server, which names it only where it refuses a text: one far too long.

    It counts that text and refuses it; nothing is computed. For no other server.
    """
    body = {"model": model, "prompt": "a " * (_PROBE_CHARS // 2), "max_tokens": 1}
    reply = server.ask("POST", "/v1/completions", body, timeout_s=_PROBE_S)
    return context_error(str(reply.value), server.access.address, model).context_tokens


def _kind(server: Server, entries: Sequence[Mapping[str, Any]], timeout_s: float) -> EngineKind:
    """Which server it is: by the owner of its models, or by a path that only it has."""
    owners = {str(entry.get("owned_by", "")).lower() for entry in entries}
    for owner, kind in _OWNERS.items():
        if owner in owners:
            return kind

    def get(path: str) -> Mapping[str, Any]:
        return server.ask("GET", path, timeout_s=timeout_s).fields

    if "version" in get("/api/version"):
        return "ollama"
    if _lm_studio_rows(server, timeout_s):
        return "lm-studio"
    if "default_generation_settings" in get("/props"):
        return "llama.cpp"
    if "disable_radix_cache" in get("/get_server_info"):
        return "sglang"
    is_python = "llama.cpp Python API" in str(get("/openapi.json").get("info", ""))
    return "llama-cpp-python" if is_python else "openai"


def _plain(server: Server, entries: Sequence[Mapping[str, Any]], timeout_s: float) -> Iterator[EngineInfo]:
    for entry in entries:
        context = _first_number(entry, _CONTEXT_KEYS)
        yield EngineInfo(kind="openai", url=server.access.url, model=entry["id"], context_tokens=context)


def _python(server: Server, entries: Sequence[Mapping[str, Any]], timeout_s: float) -> Iterator[EngineInfo]:
    for entry in entries:
        yield EngineInfo(kind="llama-cpp-python", url=server.access.url, model=entry["id"])


def _vllm(server: Server, entries: Sequence[Mapping[str, Any]], timeout_s: float) -> Iterator[EngineInfo]:
    for entry in entries:
        context = _first_number(entry, _CONTEXT_KEYS)
        yield EngineInfo(kind="vllm", url=server.access.url, model=entry["id"], context_tokens=context)


def _sglang(server: Server, entries: Sequence[Mapping[str, Any]], timeout_s: float) -> Iterator[EngineInfo]:
    told = server.ask("GET", "/get_server_info", timeout_s=timeout_s).fields
    room = _first_number(told, ("max_total_num_tokens",))  # what its memory holds, whatever the model could
    for entry in entries:
        limits = [_first_number(entry, _CONTEXT_KEYS) or _first_number(told, ("context_length",)), room]
        known = [limit for limit in limits if limit]
        yield EngineInfo(
            kind="sglang",
            url=server.access.url,
            model=entry["id"],
            context_tokens=min(known) if known else None,
            keeps_state=not told["disable_radix_cache"] if "disable_radix_cache" in told else None,
            has_sessions=told.get("enable_streaming_session") is True,
        )


def _llama_cpp(server: Server, entries: Sequence[Mapping[str, Any]], timeout_s: float) -> Iterator[EngineInfo]:
    told = server.ask("GET", "/props", timeout_s=timeout_s).fields
    settings = told.get("default_generation_settings")
    context = _first_number(settings, ("n_ctx",)) if isinstance(settings, dict) else None
    for entry in entries:
        meta = entry.get("meta")
        named = _first_number(meta, ("n_ctx",)) if isinstance(meta, dict) else None
        yield EngineInfo(kind="llama.cpp", url=server.access.url, model=entry["id"], context_tokens=context or named)


def _ollama(server: Server, entries: Sequence[Mapping[str, Any]], timeout_s: float) -> Iterator[EngineInfo]:
    """The context is the one with which the model is loaded. One that is not loaded yet is given its own `num_ctx`, or
    the default, if nothing else is set there: what is longer Ollama cuts without a word."""
    loaded = {
        str(row.get("name")): _first_number(row, ("context_length",))
        for row in _rows(server.ask("GET", "/api/ps", timeout_s=timeout_s), "models")
    }
    for entry in entries[:_MAX_OLLAMA_MODELS]:
        name = entry["id"]
        told = server.ask("POST", "/api/show", {"model": name}, timeout_s=timeout_s).fields
        abilities = told.get("capabilities")
        if isinstance(abilities, list) and "completion" not in abilities:
            continue
        trained = next(
            (number for key, number in dict(told.get("model_info") or {}).items() if key.endswith(".context_length")),
            None,
        )
        set_there = _NUM_CTX.search(str(told.get("parameters") or ""))
        context = loaded.get(name) or (int(set_there[1]) if set_there else _DEFAULT_TOKENS)
        if isinstance(trained, int):
            context = min(context, trained)
        yield EngineInfo(kind="ollama", url=server.access.url, model=name, context_tokens=context)


def _lm_studio(server: Server, entries: Sequence[Mapping[str, Any]], timeout_s: float) -> Iterator[EngineInfo]:
    rows = {str(row.get("id")): row for row in _lm_studio_rows(server, timeout_s)}
    for entry in entries:
        row = rows.get(entry["id"], {})
        if row.get("type") in _NOT_FOR_CHAT:
            continue
        longest = _first_number(row, ("max_context_length",)) or _DEFAULT_TOKENS
        context = _first_number(row, ("loaded_context_length",)) or min(longest, _DEFAULT_TOKENS)
        yield EngineInfo(kind="lm-studio", url=server.access.url, model=entry["id"], context_tokens=context)


_DESCRIBED: Mapping[EngineKind, Callable[[Server, Sequence[Mapping[str, Any]], float], Iterator[EngineInfo]]] = {
    "openai": _plain,
    "vllm": _vllm,
    "sglang": _sglang,
    "llama.cpp": _llama_cpp,
    "llama-cpp-python": _python,
    "ollama": _ollama,
    "lm-studio": _lm_studio,
}


def _lm_studio_rows(server: Server, timeout_s: float) -> list[Mapping[str, Any]]:
    rows = _rows(server.ask("GET", "/api/v0/models", timeout_s=timeout_s), "data")
    return [row for row in rows if "max_context_length" in row or "state" in row]


def _rows(reply: Reply, key: str) -> list[Mapping[str, Any]]:
    found = reply.fields.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _first_number(raw: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    """The first positive number under one of some keys."""
    numbers = (raw.get(key) for key in keys)
    return next((value for value in numbers if type(value) is int and value > 0), None)


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
