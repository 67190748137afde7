"""A hub on 127.0.0.1: the parts of the hub's API that huggingface_hub uses, with faults on request."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

MODEL = "org/tiny"
LARGE_BYTES = 1 << 20
_API = re.compile(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/([\w.-]+))?")
_RESOLVE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/(.+)")
_SEND_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that the hub has answered."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Hub:
    """The state of a running hub. Tests change it between requests."""

    port: int
    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    license: str = "apache-2.0"
    gated: set[str] = field(default_factory=set)
    token: str = ""
    """If set, requests without it are refused."""
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which the next answers for weights end, one number per answer."""
    damaged: list[str] = field(default_factory=list)
    """Names of files whose next answer has one wrong byte."""
    ignore_ranges: bool = False
    gate: threading.Event | None = None
    """If set, answers for weights stop after half of their bytes until it is set."""
    requests: list[Request] = field(default_factory=list)
    bytes_sent: dict[str, int] = field(default_factory=dict)
    """Bytes of content sent, by file."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, name: str, folder: Path) -> None:
        """Serve the files of a folder as a model."""
        self.models[name] = {
            file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
        }

    def commit(self, name: str) -> str:
        listing = sorted((file, hashlib.sha1(content).hexdigest()) for file, content in self.models[name].items())
        return hashlib.sha1(json.dumps(listing).encode()).hexdigest()

    def fetched(self) -> list[str]:
        """Names of the files that were asked for with GET."""
        found = [_RESOLVE.fullmatch(request.path) for request in self.requests if request.method == "GET"]
        return [match[3] for match in found if match]


def is_large(name: str, content: bytes) -> bool:
    return name.endswith(".safetensors") or len(content) >= LARGE_BYTES


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        headers = self.headers
        self.hub.requests.append(
            Request(
                method=self.command, path=path, range=headers.get("Range"), authorization=headers.get("Authorization")
            )
        )
        if path.startswith("/cdn/"):
            self._content(*path.removeprefix("/cdn/").split("/", 2))
        elif match := _API.fullmatch(path):
            if self._allowed(match[1], match[2]):
                self._json(self._description(match[1]))
        elif match := _RESOLVE.fullmatch(path):
            if self._allowed(match[1], match[2]):
                self._resolve(match[1], match[3])
        else:
            self._refuse(404)

    def _allowed(self, name: str, revision: str | None) -> bool:
        authorized = self.headers.get("Authorization") == f"Bearer {self.hub.token}" and self.hub.token
        if name in self.hub.gated and not authorized:
            self._refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        elif name not in self.hub.models or (self.hub.token and not authorized and name not in self.hub.gated):
            self._refuse(401 if "Authorization" not in self.headers else 404, "RepoNotFound")
        elif revision not in (None, "main", "v1", self.hub.commit(name)):
            self._refuse(404, "RevisionNotFound")
        else:
            return True
        return False

    def _description(self, name: str) -> dict[str, object]:
        siblings = []
        for file, content in self.hub.models[name].items():
            entry: dict[str, object] = {"rfilename": file, "size": len(content), "blobId": blob_id(content)}
            if is_large(file, content):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        card = {"license": self.hub.license}
        return {"id": name, "modelId": name, "sha": self.hub.commit(name), "siblings": siblings, "cardData": card}

    def _resolve(self, name: str, file: str) -> None:
        content = self.hub.models[name].get(file)
        if content is None:
            self._refuse(404, "EntryNotFound")
        elif is_large(file, content):
            self.send_response(302)
            sha256 = hashlib.sha256(content).hexdigest()
            self._headers(name, {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{sha256}"'})
            self.send_header("Location", f"http://localhost:{self.hub.port}/cdn/{name}/{file}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._content(*name.split("/"), file)

    def _content(self, org: str, model: str, file: str) -> None:
        name = f"{org}/{model}"
        whole = self.hub.models[name][file]
        start = 0
        if (asked := self.headers.get("Range")) and not self.hub.ignore_ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        content = whole[start:]
        if self.command == "GET" and file in self.hub.damaged:
            self.hub.damaged.remove(file)
            content = bytes([content[0] ^ 1]) + content[1:]
        self.send_response(206 if start else 200)
        etag = hashlib.sha256(whole).hexdigest() if is_large(file, whole) else blob_id(whole)
        self._headers(name, {"ETag": f'"{etag}"', "Content-Length": str(len(content))})
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.end_headers()
        if self.command == "GET":
            self._send(file, content)

    def _send(self, file: str, content: bytes) -> None:
        limit = self.hub.cut_after.pop(0) if is_large(file, content) and self.hub.cut_after else None
        cut = len(content) if limit is None else limit
        try:
            for begin in range(0, cut, _SEND_BYTES):
                piece = content[begin : min(begin + _SEND_BYTES, cut)]
                self.wfile.write(piece)
                self.hub.bytes_sent[file] = self.hub.bytes_sent.get(file, 0) + len(piece)
                if self.hub.gate and is_large(file, content) and begin >= len(content) // 2:
                    self.hub.gate.wait(60)
        except OSError:
            self.close_connection = True  # the client has gone
        if limit is not None:
            self.close_connection = True

    def _headers(self, name: str, more: dict[str, str]) -> None:
        for key, value in {"X-Repo-Commit": self.hub.commit(name), "Accept-Ranges": "bytes", **more}.items():
            self.send_header(key, value)

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def running() -> Iterator[Hub]:
    """A hub at a free port, until the block ends."""
    handler = type("BoundHandler", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub = handler.hub = Hub(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        if hub.gate:
            hub.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
