"""`/mcp` of the running page, with the embedded model; the client is the SDK's own."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

pytest.importorskip("mcp", reason="the SDK mcp is not installed")

from mcp_clients import INJECTION, ROOT, TIDE, WAIT_S, environment, long_text, over_http, over_pipes

from app.server.api.key import api_key
from app.server.key import PageKey, library_key
from app.server.mcp.access import FOLDERS_HEADER

pytestmark = pytest.mark.timeout(240)


class Page:
    """The real program with the page, which serves `/mcp`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.library = folder, folder / "library"
        for name in ("docs", "own", "other"):
            (folder / name).mkdir()
            (folder / name / "text.txt").write_text(f"{TIDE}\nThis is the text of {name}.\n{INJECTION}\n")
        (folder / "docs" / "long.txt").write_text(long_text(), encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        line = [sys.executable, str(ROOT / "launch.py"), "--library", str(self.library), "--no-browser"]
        line += ["--port", str(self.port), "--allow", str(folder / "docs")]
        with open(folder / "page.txt", "wb") as log:
            self.process = subprocess.Popen(line, stdout=log, stderr=log, env=environment(folder))
        until = time.monotonic() + WAIT_S
        while "Open http" not in (folder / "page.txt").read_text():
            assert self.process.poll() is None, (folder / "page.txt").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        self.headers = {"authorization": f"Bearer {api_key(self.library)}"}

    def post(self, headers: dict[str, str], content: bytes = b"{}") -> httpx.Response:
        """Send a request without a client."""
        with httpx.Client(trust_env=False, timeout=WAIT_S) as http:
            return http.post(f"http://127.0.0.1:{self.port}/mcp", headers=headers, content=content)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    running = Page(tmp_path_factory.mktemp("page"))
    yield running
    running.process.terminate()
    assert running.process.wait(60) == 0


@pytest.fixture(scope="module")
def client(page):
    with over_http(page.port, page.headers) as caller:
        caller.call("read_documents", session="tarn", paths=["text.txt"])
        yield caller


def test_nobody_comes_in_without_the_key_or_from_a_web_page(page):
    ok = page.headers
    forged = {FOLDERS_HEADER: PageKey.fresh().sign_folders(["/"])}
    assert page.post({}).status_code == 401
    assert page.post({"authorization": "Bearer sala-wrong"}).status_code == 401
    assert page.post({"authorization": "Basic " + ok["authorization"].split()[1]}).status_code == 401
    assert page.post(forged).status_code == 401
    assert page.post({**ok, "host": f"evil.example:{page.port}"}).status_code == 403
    assert page.post({**ok, "origin": "https://evil.example"}).status_code == 403
    assert page.post({**ok, "sec-fetch-site": "cross-site"}).status_code == 403
    assert page.post(ok, b"x" * (5 << 20)).status_code == 413
    refused = page.post({})
    assert "launch.py serve --show-key" in refused.json()["error"]["message"]
    assert refused.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in refused.headers
    assert page.post({**ok, "accept": "application/json, text/event-stream"}, b"{not json").status_code == 400


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_both_protocols_read_and_answer(page, client, mode):
    with over_http(page.port, page.headers, mode=mode) as other:
        assert len(other.list_tools().tools) == 9
        again = other.call("read_documents", session="tarn", paths=["text.txt"])
        assert (again["files"], again["tokens_read"]) == (1, 0)
        answer = other.call("ask", session="tarn", question="What is the ferryman of Tarn called?")
        assert answer["quotations"][0]["word_for_word"]
        assert "Osric Vale" in answer["answer"]
        assert other.progress


def test_a_client_cannot_open_folders_by_its_own_roots(page):
    with over_http(page.port, page.headers, mode="auto", roots=[page.folder / "other", Path("/")]) as caller:
        told = caller.refused("read_documents", session="stolen", paths=[str(page.folder / "other" / "text.txt")])
        assert "outside of the folders that may be read" in told


def test_a_process_on_pipes_lets_the_running_program_read_and_answer(page, client):
    own = page.folder / "own"
    with over_pipes(page.library, "--allow", own) as caller:
        done = caller.call("read_documents", session="own", paths=["text.txt"])
        assert done["status"] == "done"
        assert caller.call("ask", session="own", question="Who is the ferryman of Tarn?")["quotations"]
        assert "outside" in caller.refused("read_documents", session="own", paths=[str(page.folder / "docs")])
        status = caller.call("read_status", job=done["job"])
        assert status["model_status"] == f"in the running program, port {page.port}"
        busy = caller.refused("ask", session="nobody", question="Who?")
        assert "list_sessions" in busy
    assert "outside" in client.refused("read_documents", session="own", paths=[str(own / "text.txt")]), "not for others"


def test_a_question_that_is_given_up_ends_also_where_another_process_passed_it_on(page, client):
    started = client.call("read_documents", session="long", paths=["long.txt"], wait_s=0)
    client.begun("long")
    assert client.call("stop_reading", job=started["job"])["jobs"][0]["status"] == "stopped"
    with over_pipes(page.library) as caller:
        for asking in (client, caller):
            assert asking.cancelled(1.5, "ask", session="long", question="How many nets were counted in the 9th year?")
            told = client.settled("long")
            assert (told["jobs"][0]["kind"], told["jobs"][0]["status"]) == ("ask", "stopped")
            assert told["session"]["num_messages"] == 0
            assert told["session"]["tokens_read"] < told["session"]["tokens"]
        started = caller.call("read_status", session="long")
        assert len(started["jobs"]) == 3, "both questions were the running program's"


def test_questions_of_two_clients_are_answered_one_after_the_other(page, client):
    with over_http(page.port, page.headers) as other:
        first = other.call("ask", session="tarn", question="Who keeps a lantern?", wait_s=0)
        assert (first["status"] in ("queued", "running"), first["answer"]) == (True, "")
        second = client.call("ask", session="tarn", question="Of what glass is the lantern?", wait_s=WAIT_S)
        told = client.call("read_status", job=first["job"])
    assert (second["status"], told["jobs"][0]["status"]) == ("done", "done")
    assert "green glass" in second["answer"]
    assert told["answer"]["answer"]


def test_signed_folders_are_those_of_this_key_and_of_these_minutes(tmp_path, monkeypatch):
    key = library_key(tmp_path)
    signed = key.sign_folders(["/a", "/ü"])
    assert key.signed_folders(signed) == ("/a", "/ü")
    assert PageKey.fresh().signed_folders(signed) is None
    assert [key.signed_folders(value) for value in ("", ".", "é.x", signed[:-1], key.proof("x"))] == [None] * 5
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 121)
    assert key.signed_folders(signed) is None
