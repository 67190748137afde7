"""A running server with the API over a workspace with the embedded model. One for each module of tests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import uvicorn

from app.grammar.parser import parse
from app.server.app import listening_socket
from app.server.connections import limited_protocol
from app.server.program import mounts_of, without_page
from sala_core.session.workspace import Workspace

STORY = "The ship was called Argo. Captain Mirelle carried the brass key.\n" + "Nothing happened on the sea.\n" * 60
ORIGIN = "http://localhost:3000"


class Served(SimpleNamespace):
    """workspace: it. client: an httpx client with the key. url, key: for others."""


@contextmanager
def running(library: Path) -> Iterator[Served]:
    """The API over a library, at a port of its own."""
    listener = listening_socket(None)
    port = listener.getsockname()[1]
    workspace = Workspace(library, "embedded", "cpu")
    mounts = mounts_of(workspace, library, parse(["serve", "--allow-origin", ORIGIN]), port)
    config = uvicorn.Config(
        without_page(mounts),
        log_level="warning",
        access_log=False,
        server_header=False,
        http=limited_protocol(),
        ws="none",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url, key = f"http://127.0.0.1:{port}", (library / "page" / "api-key").read_text().strip()
    try:
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=120) as client:
            yield Served(workspace=workspace, client=client, url=url, key=key, port=port)
    finally:
        server.should_exit = True
        thread.join()
        workspace.close()


def chat(served: Served, *messages: tuple[str, str], **fields: object) -> dict:
    """The answer to a chat."""
    body = {"model": "embedded", "messages": [{"role": role, "content": text} for role, text in messages], **fields}
    response = served.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def text_of(raw: dict) -> str:
    """What was answered."""
    return raw["choices"][0]["message"]["content"]


def num_read(raw: dict) -> int:
    """Tokens of the prompt that were read for this request."""
    return raw["usage"]["prompt_tokens"] - raw["usage"]["prompt_tokens_details"]["cached_tokens"]


def events_of(response: httpx.Response) -> list[dict]:
    """The events of a stream, without comments and without its end."""
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def wait_until(condition, timeout_s: float = 120.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.1)
