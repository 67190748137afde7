"""The server: what the guard allows, which documents are served by id, and how the server starts and stops."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from starlette.testclient import TestClient

from app.grammar.parser import DEFAULT_PORT
from app.server import app as server
from app.server.key import PageKey
from sala_core.errors import LibraryError, SalaError

PORT = 7863
ORIGIN = f"http://127.0.0.1:{PORT}"
KEY = PageKey.fresh()
TEXT = "\n".join(f"line {number}" for number in range(1, 101))


class FakeLibrary:
    folder = Path("no library")

    def document(self, document_id):
        if document_id != "d1":
            raise LibraryError(f"no document {document_id!r}")
        return SimpleNamespace(id="d1", name="war.txt", num_pages=0)

    def load_document(self, document_id):
        return SimpleNamespace(document=SimpleNamespace(text=TEXT))


@pytest.fixture(scope="module")
def app():
    with gr.Blocks() as page:
        box = gr.Textbox()
        box.submit(lambda text: text, box, box, api_name="echo")
    return server.create_app(SimpleNamespace(library=FakeLibrary()), port=PORT, token="tok", page=page, key=KEY)


@pytest.fixture(scope="module")
def browser(app):
    with TestClient(app, base_url=f"{ORIGIN}/{KEY.place}") as client:
        page = client.get("/?token=tok", headers={"accept": "text/html"})
        assert page.status_code == 200
        yield client


def test_the_page_is_served_with_hashed_inline_scripts(browser):
    response = browser.get("/", headers={"accept": "text/html"})
    assert "gradio" in response.text
    policy = response.headers["content-security-policy"]
    assert re.search(r"script-src 'self'( 'sha256-[A-Za-z0-9+/]{43}=')+;", policy)
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize(
    "path", ["/", "/config", "/api/health", "/api/documents/d1", "/api/uploads", "/gradio_api/info", "/theme.css"]
)
def test_nothing_is_served_without_the_token(app, path):
    for place in ("", f"/{KEY.place}"):
        assert TestClient(app, base_url=ORIGIN + place).get(path).status_code == 403


def test_an_upload_from_another_origin_reaches_nothing(browser):
    for path in ("/api/uploads", f"/api/uploads/{'0' * 32}/files", f"/api/uploads/{'0' * 32}/read"):
        for headers in ({}, {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert browser.post(path, json={"session": "", "files": []}, headers=headers).status_code == 403


def test_the_page_components_own_upload_is_closed(browser):
    files = {"files": ("a.txt", b"x")}
    assert browser.post("/gradio_api/upload", files=files, headers={"origin": ORIGIN}).status_code == 404
    for path in (__file__, "/etc/passwd"):
        assert browser.get(f"/gradio_api/file={path}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/run/predict",
        "/gradio_api/run/echo",
        "/gradio_api/queue/join",
        "/gradio_api/call/echo",
        "/api/uploads",
    ],
)
def test_deeply_nested_json_is_refused_with_400(browser, path):
    for deep in (b"[" * 100_000, b'{"data":' * 50_000, b'{"data": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"):
        headers = {"origin": ORIGIN, "content-type": "application/json"}
        assert browser.post(path, content=deep, headers=headers).status_code in (400, 422)


def test_no_schema_and_no_records_are_published(browser):
    for path in ("/docs", "/openapi.json", "/redoc", "/gradio_api/runs", "/monitoring"):
        assert browser.get(path).status_code == 404


def test_health(browser):
    assert browser.get("/api/health").json() == {"status": "ok"}


def test_a_document_is_served_by_id_around_a_line(browser):
    shown = browser.get("/api/documents/d1", params={"line": 50, "context": 2}).json()
    assert shown["lines"] == ["line 48", "line 49", "line 50", "line 51", "line 52"]
    assert (shown["line_start"], shown["num_lines"], shown["name"]) == (48, 100, "war.txt")
    assert browser.get("/api/documents/d1", params={"line": 1, "context": 1}).json()["line_start"] == 1
    assert browser.get("/api/documents/d1", params={"line": 100, "context": 1}).json()["lines"] == [
        "line 99",
        "line 100",
    ]
    assert browser.get("/api/documents/d1", params={"line": 500}).json()["lines"] == []
    assert browser.get("/api/documents/d1", params={"line": 0}).status_code == 422


@pytest.mark.parametrize("document_id", ["d2", "..%2f..%2fetc%2fpasswd", "%00"])
def test_an_unknown_document_is_a_404(browser, document_id):
    assert browser.get(f"/api/documents/{document_id}").status_code == 404


def test_a_free_port_replaces_the_default_port_if_that_is_in_use_but_not_a_chosen_port():
    with server.listening_socket(None) as first, server.listening_socket(None) as second:
        ports = [listener.getsockname()[1] for listener in (first, second)]
        assert ports[0] != ports[1]
        assert second.getsockname()[0] == "127.0.0.1"
        assert DEFAULT_PORT not in ports[1:]
        with pytest.raises(SalaError, match=rf"port {ports[1]} cannot be used .* --port"):
            server.listening_socket(ports[1])


RUNNER = """
import sys, types
from pathlib import Path
from types import SimpleNamespace
import gradio as gr
from app.server import app as server
from app.server.key import PageKey
from app.grammar.parser import parse

class Workspace:
    library = SimpleNamespace(take_notices=list, folder=Path("lib"))
    def __init__(self, folder, model, device, kv, *, bos, kv_at_rest):
        print("workspace", folder.name, model, device, kv, bos, kv_at_rest, flush=True)
    def model_info(self):
        return SimpleNamespace(is_demonstration=False)
    def close(self):
        print("closed", flush=True)

sys.modules["sala_core.session.workspace"] = SimpleNamespace(Workspace=Workspace)
def build_page(workspace, plans):
    with gr.Blocks() as page:
        gr.Textbox()
    return page
server.build_page = build_page
sys.exit(server.serve(parse(sys.argv[1:]), Path("lib")))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_serves_and_closes_on_a_signal(root, tmp_path, number):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "kernels")]),
        "PYTHONUNBUFFERED": "1",
    }
    program = subprocess.Popen(
        [sys.executable, "-c", RUNNER, "--port", str(port), "--no-browser", "--kv=int8", "--bos=off", "--device=cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environ,
    )
    try:
        assert program.stdout.readline() == "workspace lib embedded cpu int8 False same\n"
        shown = program.stdout.readline()
        assert shown.startswith(f"Open http://127.0.0.1:{port}/?token=")
        with httpx.Client(follow_redirects=True) as client:
            assert client.get(f"http://127.0.0.1:{port}/").status_code == 403
            page = client.get(shown.split()[1])
            assert page.status_code == 200
            assert client.get(page.url.join("api/health")).json() == {"status": "ok"}
            started = time.monotonic()
            program.send_signal(number)
            rest, errors = program.communicate(timeout=20)
    finally:
        program.kill()
        program.wait()
    assert program.returncode == 0, errors
    assert rest.rstrip().endswith("Stopping\nclosed")
    assert "Traceback" not in errors
    assert time.monotonic() - started < 10
