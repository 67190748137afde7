"""Engines on this machine: the well-known loopback ports are asked, all at once."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from sala_core.errors import EngineError, EngineRefusedError
from sala_core.remote.access import Access
from sala_core.remote.describe import served
from sala_core.remote.engine import EngineInfo
from sala_core.remote.server import Server

PORTS: Mapping[int, str] = {
    11434: "Ollama",
    1234: "LM Studio",
    8080: "llama.cpp",
    8000: "vLLM",
    30000: "SGLang",
}
"""Port -> the program that listens there by default."""

KIND_NAMES: Mapping[str, str] = {
    "ollama": "Ollama",
    "lm-studio": "LM Studio",
    "llama.cpp": "llama.cpp",
    "llama-cpp-python": "llama-cpp-python",
    "vllm": "vLLM",
    "sglang": "SGLang",
    "openai": "OpenAI-compatible server",
    "sala": "Sala",
}
"""Kind of an engine -> its name as people know it."""

_TIMEOUT_S = 1.0


@dataclass(frozen=True, kw_only=True)
class FoundServer:
    """An engine's server on this machine. problem: why its models are not known, "" if they are."""

    url: str
    expected: str
    engines: tuple[EngineInfo, ...]
    problem: str = ""


def engines_here(ports: Mapping[int, str] = PORTS) -> tuple[FoundServer, ...]:
    """The servers that answer on this machine. Takes about as long as the slowest of them, seconds at most.

    A port on which no engine listens is left out. No key is sent, and nothing but lists is asked for.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(ports)), thread_name_prefix="find-engines") as pool:
        found = pool.map(_ask, ports, ports.values())
        return tuple(server for server in found if server is not None)


def _ask(port: int, expected: str) -> FoundServer | None:
    access = Access.of(f"http://127.0.0.1:{port}")
    with closing(Server(access)) as server:
        try:
            return FoundServer(url=access.url, expected=expected, engines=served(server, timeout_s=_TIMEOUT_S))
        except EngineRefusedError as error:
            return FoundServer(url=access.url, expected=expected, engines=(), problem=str(error))
        except EngineError:
            return None
