"""Servers of engines on 127.0.0.1, small and real: an OpenAI-compatible one with faults on request, and one that does
what SGLang's released session calls do. The latter is simulated: no model runs behind it, and it counts words."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ("It ", "says ", '"never rows at night" ', "[1].")
DONE = "data: [DONE]\n\n"


def chunk(text: str = "", *, reason: str | None = None, model: str = "toy", **more: Any) -> str:
    """One event of a streamed answer."""
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason}
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'model': model, 'choices': [choice], **more})}\n\n"


def usage(prompt: int, written: int, cached: int | None = None) -> str:
    """The event with the counts."""
    told: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": written}
    if cached is not None:
        told["prompt_tokens_details"] = {"cached_tokens": cached}
    return f"data: {json.dumps({'choices': [], 'usage': told})}\n\n"


def words(model: str = "toy", *, prompt: int = 900, cached: int | None = None) -> list[str]:
    """A whole answer."""
    pieces = [chunk(word, model=model) for word in WORDS]
    return [*pieces, chunk(reason="stop", model=model), usage(prompt, len(WORDS), cached), DONE]


@dataclass
class EngineServer:
    """A running server. Tests change its fields between requests."""

    port: int = 0
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "toy", "max_model_len": 2048}])
    pages: dict[str, Any] = field(default_factory=dict)
    """Answers to GET, by path; and to POST, by path, where they do not stream."""
    events: list[str] = field(default_factory=words)
    """Of the next answers."""
    whole: dict[str, Any] | None = None
    """An answer that is not streamed, although it was asked to be."""
    status: int = 200
    body: str = '{"error": {"message": "no"}}'
    headers: dict[str, str] = field(default_factory=dict)
    """Of answers with another status."""
    max_chars: int | None = None
    """Longer questions are refused with `body`."""
    key: str = ""
    cut_after: int | None = None
    """Events after which the connection is closed."""
    pause_s: float = 0.0
    """Before each event."""
    hang: threading.Event | None = None
    """If set, the answer's first byte waits for it."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the questions."""
    sizes: list[int] = field(default_factory=list)
    """Bytes of these bodies."""
    paths: list[str] = field(default_factory=list)
    gone: int = 0
    """Questions whose client left before the end."""
    on_post: Callable[["EngineServer", str, dict[str, Any]], Any] | None = None
    """Answers every POST but a question: a JSON value, a list of events, or None."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def handler(server: EngineServer) -> type[BaseHTTPRequestHandler]:
    """The class that answers the requests."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            return

        def do_GET(self) -> None:
            server.paths.append(self.path)
            if not self._is_allowed():
                self._json(401, {"error": {"message": "bad key"}})
            elif self.path == "/v1/models":
                self._json(200, {"object": "list", "data": server.models})
            elif self.path in server.pages:
                self._json(200, server.pages[self.path])
            else:
                self._json(404, {"error": "Not Found"})

        def do_POST(self) -> None:
            server.paths.append(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(raw)
            if not self._is_allowed():
                self._json(401, {"error": {"message": "bad key"}})
                return
            if self.path != "/v1/chat/completions":
                made = server.on_post(server, self.path, body) if server.on_post else server.pages.get(self.path)
                if isinstance(made, list):
                    self._stream(made)
                else:
                    status, value = made if isinstance(made, tuple) else (200, made)
                    self._json(status if made is not None else 404, value)
                return
            server.asked.append(body)
            server.sizes.append(len(raw))
            if server.max_chars is not None and len(raw) > server.max_chars:
                self._send(400, server.body.encode(), "application/json", {})
            elif server.whole is not None:
                self._json(200, server.whole)
            elif server.status != 200:
                self._send(server.status, server.body.encode(), "application/json", server.headers)
            else:
                self._stream(server.events)

        def _is_allowed(self) -> bool:
            return not server.key or self.headers.get("Authorization") == f"Bearer {server.key}"

        def _stream(self, events: list[str]) -> None:
            try:
                if server.hang is not None:
                    server.hang.wait(20)
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                self.end_headers()
                for number, event in enumerate(events):
                    if number == server.cut_after:
                        return
                    time.sleep(server.pause_s)
                    self.wfile.write(event.encode())
                    self.wfile.flush()
            except OSError:
                server.gone += 1

        def _json(self, status: int, value: Any) -> None:
            self._send(status, json.dumps(value).encode(), "application/json", {})

        def _send(self, status: int, raw: bytes, kind: str, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(raw)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

    return Handler


@contextmanager
def running(server: EngineServer | None = None) -> Iterator[EngineServer]:
    """Run a server until the block ends, on its port or on a free one."""
    state = server or EngineServer()

    class _Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

    http = _Server(("127.0.0.1", state.port), handler(state))
    state.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@dataclass
class SimulatedSglang:
    """SGLang's session calls as its released code has them (`srt/session/session_controller.py`), on words for tokens.

    A streaming session takes plain appends only, one request at a time. A request that is cut off leaves it as it was.
    It lives in memory: `forget` is a restart of the server.
    """

    sessions: dict[str, list[str]] = field(default_factory=dict)
    reads_all_again: bool = False
    """Sessions that keep nothing, as with a server that has them switched off behind its flag."""
    answer: str = 'He "never rows at night".'
    cut_after: int | None = None
    lengths: list[tuple[int, int]] = field(default_factory=list)
    """(tokens of the prompt, of them cached) of every request."""
    told: dict[str, Any] = field(
        default_factory=lambda: {
            "disable_radix_cache": True,
            "enable_streaming_session": True,
            "context_length": 1_000_000,
            "max_total_num_tokens": 2_000_000,
        }
    )

    def serve(self) -> EngineServer:
        """A server that is to be run."""
        model = {"id": "openbmb/MiniCPM-SALA", "owned_by": "sglang", "max_model_len": 1_000_000}
        return EngineServer(models=[model], pages={"/get_server_info": self.told}, on_post=self._post)

    def forget(self) -> None:
        self.sessions.clear()

    def _post(self, server: EngineServer, path: str, body: dict[str, Any]) -> Any:
        if path == "/tokenize":
            return {"count": len(body["prompt"].split())}
        if path == "/open_session":
            name = body["session_id"]
            if name in self.sessions:
                return 400, {"error": {"message": "Failed to open the session."}}
            self.sessions[name] = []
            return name
        if path == "/close_session":
            self.sessions.pop(body["session_id"], None)
            return None
        return self._generate(server, body) if path == "/generate" else None

    def _generate(self, server: EngineServer, body: dict[str, Any]) -> Any:
        name = body["session_params"]["id"]
        if name not in self.sessions:
            end = {"type": "abort", "message": f"Invalid request: session id {name} does not exist", "status_code": 400}
            return self._made(body, [("", end)], prompt=1, cached=0)
        held, new = self.sessions[name], body["text"].split()
        prompt, cached = len(held) + len(new), 0 if self.reads_all_again else len(held)
        self.lengths.append((prompt, cached))
        is_written = body["sampling_params"]["max_new_tokens"] > 0
        answer = self.answer if is_written else ""
        end = {"type": "stop", "matched": 2} if is_written else {"type": "length", "length": 0}
        steps = [(answer[: n + 1], None) for n in range(0, len(answer), 8)] + [(answer, end)]
        server.cut_after = self.cut_after if is_written else None
        if server.cut_after is None:
            self.sessions[name] = held + new + answer.split()
        return self._made(body, steps, prompt=prompt, cached=cached)

    def _made(self, body: dict[str, Any], steps: list[tuple[str, Any]], *, prompt: int, cached: int) -> Any:
        made = []
        for text, end in steps:
            counts = {"prompt_tokens": prompt, "completion_tokens": len(text.split()), "finish_reason": end}
            if cached:
                counts["cached_tokens"] = cached  # zero is left out
            made.append({"text": text, "meta_info": counts})
        if body.get("stream"):
            return [*(f"data: {json.dumps(event)}\n\n" for event in made), DONE]
        return made[-1]
