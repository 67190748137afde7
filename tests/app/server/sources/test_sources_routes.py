"""The source viewer's routes: behind the guard, by id, in small pieces, and without HTML."""

import json
import os
import stat

import gradio as gr
import pymupdf
import pytest
from page_driver import wait_for
from read_library import ReadWorkspace
from starlette.testclient import TestClient

from app.server import app as server
from app.server.key import PageKey

PORT = 7863
ORIGIN = f"http://127.0.0.1:{PORT}"
KEY = PageKey.fresh()
CODE = 'def main():\n    """It rained\n    all day."""\n    return "<b>" + str(1)  # 𝒳 done\n'


def write_pdf(path):
    made = pymupdf.open()
    for number in range(1, 4):
        made.new_page().insert_text((72, 72), f"Page {number} of the report: the bridge was closed.")
    made.save(path)
    return path


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    (folder / "main.py").write_text(CODE)
    (folder / "notes.txt").write_text("It rained all day.\n" * 30)
    (folder / "book.html").write_text("<h1>One</h1><p>It rained.</p><h2>Two</h2><p>It snowed.</p>")
    made = ReadWorkspace(folder / "library")
    made.read(folder / "main.py", folder / "notes.txt", folder / "book.html", write_pdf(folder / "report.pdf"))
    made.folder = folder
    made.message = made.answer(
        "When?",
        "It says “the bridge was closed”.",
        quoted=[("report.pdf", "Page 2 of the report: the bridge was closed")],
        evidence=[("report.pdf", "Page 3 of the report"), ("main.py", "return")],
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(workspace):
    with gr.Blocks() as page:
        gr.Markdown("")
    app = server.create_app(workspace, port=PORT, token="tok", page=page, key=KEY)
    with TestClient(app, base_url=f"{ORIGIN}/{KEY.place}") as opened:
        assert opened.get("/?token=tok", headers={"accept": "text/html"}).status_code == 200
        yield opened


def ask(client, path, **query):
    response = client.get(f"/api/sources/{path}", params=query)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    return response.json()


def test_nothing_is_told_without_the_cookie(workspace, client):
    app = client.app
    with TestClient(app, base_url=f"{ORIGIN}/{KEY.place}") as stranger:
        for path in (f"documents/{workspace.ids['main.py']}/rows?first=0&count=9", "turns/s/m"):
            assert stranger.get(f"/api/sources/{path}").status_code == 403


def test_another_site_cannot_open_a_file(workspace, client):
    path = f"/api/sources/documents/{workspace.ids['notes.txt']}/open?session={workspace.session_id}"
    assert client.post(path, headers={"origin": "https://example.org"}).status_code == 403
    assert client.post(path, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post(path).status_code == 403


def test_the_places_of_a_turn_and_its_map(workspace, client):
    turn = ask(client, f"turns/{workspace.session_id}/{workspace.message}")
    assert [(one["key"], one["where"]) for one in turn["places"]] == [
        ("q0", "page 2"),
        ("e0", "page 3"),
        ("e1", "line 4"),
    ]
    best = max(turn["map"], key=lambda cell: cell["share"])
    assert (best["document"], best["where"]) == ("report.pdf", "page 3")
    assert sum(cell["share"] for cell in turn["map"]) == pytest.approx(0.75, abs=0.02)
    place = ask(client, f"turns/{workspace.session_id}/{workspace.message}/places/q0")
    assert (place["span"]["page_start"], place["span"]["page_end"]) == (2, 2)
    assert place["cell"] is not None
    assert "no place 'x'" in ask(client, f"turns/{workspace.session_id}/{workspace.message}/places/x")["error"]
    assert "reload" in ask(client, f"turns/{workspace.session_id}/nothing")["error"]


def test_code_comes_in_colored_runs_that_add_up_to_its_lines(workspace, client):
    path = f"documents/{workspace.ids['main.py']}"
    assert ask(client, path, session=workspace.session_id)["layout"] == "code"
    rows = ask(client, f"{path}/rows", first=0, count=400)["rows"]
    assert ["".join(text for _, text in row["runs"]) for row in rows] == CODE.splitlines()
    assert [row["line"] for row in rows] == [1, 2, 3, 4]
    assert ["k", "def"] in rows[0]["runs"]
    assert [name for name, _ in rows[2]["runs"]] == ["", "sd"] or rows[2]["runs"][0][0] == "sd"
    assert ask(client, f"{path}/rows", first=2, count=1)["rows"] == rows[2:3]


def test_a_long_file_is_colored_where_it_is_shown(client, workspace, tmp_path):
    long = tmp_path / "long.py"
    long.write_text("".join(f"value_{number} = {number}  # number\n" for number in range(12_000)))
    workspace.read(long)
    path = f"documents/{workspace.ids['long.py']}"
    (row,) = ask(client, f"{path}/rows", first=11_998, count=1)["rows"]
    assert "".join(text for _, text in row["runs"]) == "value_11998 = 11998  # number"
    assert [name for name, text in row["runs"] if "number" in text] == ["c1"]


def test_headings_and_pages_are_told(workspace, client):
    html = ask(client, f"documents/{workspace.ids['book.html']}", session=workspace.session_id)
    assert [heading[1:] for heading in html["headings"]] == [[1, "One"], [2, "Two"]]
    assert (html["layout"], html["has_pictures"], html["can_open"]) == ("prose", False, True)
    pdf = ask(client, f"documents/{workspace.ids['report.pdf']}", session=workspace.session_id)
    assert (pdf["has_pictures"], pdf["page_rows"], pdf["page_word"]) == (True, [0, 1, 2], "page")


def test_a_page_is_a_picture_with_the_places_of_a_passage(workspace, client):
    path = f"documents/{workspace.ids['report.pdf']}/pages"
    response = client.get(f"/api/sources/{path}/2", params={"session": workspace.session_id, "width": 500})
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    span = ask(client, f"turns/{workspace.session_id}/{workspace.message}/places/q0")["span"]
    query = {"session": workspace.session_id, "start": span["start"], "end": span["end"]}
    assert len(ask(client, f"{path}/2/boxes", **query)["boxes"]) == 1
    assert ask(client, f"{path}/3/boxes", **query)["boxes"] == []
    assert "no page 9" in ask(client, f"{path}/9", session=workspace.session_id)["error"]


@pytest.mark.parametrize("document", ["..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "0" * 32])
def test_only_documents_of_the_library_are_shown(workspace, client, document):
    for rest in ("rows?first=0&count=1", "search?query=root", f"pages/1?session={workspace.session_id}"):
        response = client.get(f"/api/sources/documents/{document}/{rest}")
        assert "root:" not in response.text
        assert response.status_code == 404 or "is not in the library" in response.json()["error"]


@pytest.fixture
def opener(tmp_path, monkeypatch):
    """A program that stands for the system's own, and notes what it is given."""
    program = tmp_path / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf "%s" "$1" > {tmp_path}/shown.new\nmv {tmp_path}/shown.new {tmp_path}/shown\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    def shown() -> str:
        wait_for((tmp_path / "shown").exists, "the system's program to be started")
        return (tmp_path / "shown").read_text()

    return shown


def open_original(client, workspace, name):
    path = f"/api/sources/documents/{workspace.ids[name]}/open?session={workspace.session_id}"
    return client.post(path, headers={"origin": ORIGIN, "sec-fetch-site": "same-origin"}).json()


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="the test's program is for Linux")
def test_the_original_is_opened_by_the_system(client, workspace, opener):
    assert "was opened by the system" in open_original(client, workspace, "notes.txt")["done"]
    assert opener() == str(workspace.folder / "notes.txt")


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="the test's program is for Linux")
@pytest.mark.parametrize("name", ["main.py", "book.html"])
def test_of_a_file_that_could_be_a_program_only_the_folder_is_opened(client, workspace, opener, name):
    assert "not started from here" in open_original(client, workspace, name)["done"]
    assert opener() == str(workspace.folder)


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="the test's program is for Linux")
def test_a_text_marked_as_a_program_is_not_opened(client, workspace, opener):
    path = workspace.folder / "notes.txt"
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    try:
        open_original(client, workspace, "notes.txt")
        assert opener() == str(workspace.folder)
    finally:
        path.chmod(0o644)


def test_a_changed_file_is_neither_opened_nor_drawn(client, workspace, tmp_path):
    path = write_pdf(tmp_path / "changed.pdf")
    workspace.read(path)
    path.write_bytes(path.read_bytes() + b"\n")
    assert "has changed" in open_original(client, workspace, "changed.pdf")["error"]
    facts = ask(client, f"documents/{workspace.ids['changed.pdf']}", session=workspace.session_id)
    assert (facts["has_pictures"], facts["can_open"]) == (False, False)
    assert "has changed" in facts["note"]


def test_a_system_without_such_a_program_says_where_the_file_is(client, workspace, monkeypatch, tmp_path):
    if os.name == "nt":
        pytest.skip("Windows always has one")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(workspace.folder / "notes.txt") in open_original(client, workspace, "notes.txt")["error"]


def test_no_answer_is_html_or_large(client, workspace):
    rows = client.get(f"/api/sources/documents/{workspace.ids['long.py']}/rows?first=0&count=400")
    assert len(rows.content) < 200_000
    assert client.get(f"/api/sources/documents/{workspace.ids['long.py']}/rows?first=0&count=401").status_code == 422
    assert json.loads(rows.text)["rows"]
