"""What `serve` does without a model: the key, what was sent, and a program that serves already."""

import asyncio
import os

import httpx
from api_server import STORY, chat, running

from app.grammar.parser import parse
from app.server.entrance import note_running
from app.server.key import library_key
from app.server.mounts import Mounts
from app.server.program import answer_at_once, own_names
from sala_core.session.hosting.client import FOLDER, Client
from sala_core.session.hosting.received import Received
from sala_core.store import Library


def test_the_key_is_shown_and_is_the_one_that_opens(tmp_path, capsys):
    library = tmp_path / "library"
    assert answer_at_once(parse(["serve", "--show-key"]), library) == 0
    key = capsys.readouterr().out.strip()
    assert key == (library / "page" / "api-key").read_text().strip()
    assert answer_at_once(parse(["serve"]), library) is None, "there is something to serve"


def test_what_was_sent_is_deleted_by_a_command(tmp_path, capsys):
    library = tmp_path / "library"
    with running(library) as server:
        chat(server, ("user", STORY), ("user", "Who carried the brass key?"))
    assert answer_at_once(parse(["serve", "--forget-sent"]), library) == 0
    assert "Deleted 1 conversation of" in capsys.readouterr().out
    assert answer_at_once(parse(["serve", "--forget-sent"]), library) == 0
    assert "Deleted 0 conversations" in capsys.readouterr().out
    assert not any((library / "documents").iterdir())
    assert not any((library / "states").iterdir())


def test_what_other_salas_have_sent_is_deleted_too_and_the_users_sessions_stay(tmp_path, capsys):
    with Library.open(tmp_path / "library") as library:
        for name in ("mine", f"for others: {'0' * 32} abc"):
            library.create_session(name, model="embedded", fingerprint="")
        received = Received(Client(id="0" * 32).folder(library.folder))
        received.add("f" * 64, received.begin("f" * 64, 0), b"part of a text")
    assert answer_at_once(parse(["serve", "--forget-sent"]), tmp_path / "library") == 0
    assert "Deleted 1 conversation of" in capsys.readouterr().out
    with Library.open(tmp_path / "library") as library:
        assert [row.name for row in library.sessions()] == ["mine"]
        assert library.sessions_of_others() == []
        assert not (library.folder / FOLDER).exists()


def test_a_program_that_serves_already_is_named_and_nothing_is_loaded(tmp_path, capsys, monkeypatch):
    library = tmp_path / "library"
    library_key(library)
    note_running(library, 7001, {"model": "embedded"})
    monkeypatch.setattr("app.server.entrance._is_alive", lambda key, port: port == 7001)
    assert answer_at_once(parse(["serve"]), library) == 0
    said = capsys.readouterr().out
    assert "http://127.0.0.1:7001/v1" in said
    assert "--show-key" in said
    assert "sala-" not in said


def test_each_path_has_its_own_application():
    def named(name):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": name.encode()})

        return app

    mounts = Mounts(named("page"), {"/v1": named("api"), "/health": named("health")})
    transport = httpx.ASGITransport(app=mounts)

    async def ask(path):
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.get(path)).text

    found = {
        path: asyncio.run(ask(path)) for path in ("/", "/v1", "/v1/models", "/v10", "/health", "/healthy", "/api/v1")
    }
    assert found == {
        "/": "page", "/v1": "api", "/v1/models": "api", "/v10": "page", "/health": "health", "/healthy": "page",
        "/api/v1": "page",
    }  # fmt: skip


def test_the_program_answers_to_its_own_names_only():
    assert own_names(parse(["serve"]), 7) == {"127.0.0.1:7", "localhost:7", "[::1]:7"}
    assert "192.0.2.1:7" in own_names(parse(["serve", "--host", "192.0.2.1"]), 7)
    assert os.uname().nodename.lower() + ":7" in own_names(parse(["serve", "--host", "0.0.0.0"]), 7)
