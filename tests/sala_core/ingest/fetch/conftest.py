"""A web server on this machine."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass(kw_only=True)
class Site:
    """A server. answers: path -> (status, headers, body). asked: (path, headers) of each request."""

    url: str = ""
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def page(self, path: str, body: bytes, content_type: str = "text/html", status: int = 200, **headers: str) -> str:
        """Add an answer, and return its address."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = (status, {"Content-Type": content_type, **named} if content_type else named, body)
        return self.url + path

    def redirect(self, path: str, target: str) -> str:
        """Add a redirect, and return its address."""
        self.answers[path] = (302, {"Location": target}, b"")
        return self.url + path


def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    """A server whose answers the test sets."""
    found = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append((self.path, dict(self.headers)))
            status, headers, body = found.answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
                while self.path in found.slow:
                    time.sleep(0.02)
                    self.wfile.write(b"x")
            except OSError:
                return

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    for found.url in serving(server):
        yield found
        found.slow.clear()


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, folder) of a server that only hands out files."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            return

    folder = tmp_path / "served"
    folder.mkdir()
    for url in serving(ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))):
        yield url, folder
