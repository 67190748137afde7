"""`engines`, and `ask --engine`: options, what is printed, and what is refused before the model here is loaded."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.cli import run
from app.grammar.parser import parse
from app.remote.words import answered_by
from sala_core import Engine
from sala_core.remote import found
from sala_core.session.session import Session
from sala_core.store import Library
from sala_core.written_by import WrittenBy

sys.path.append(str(Path(__file__).resolve().parents[3] / "sala_core"))
from engine_server import EngineServer, running


@pytest.fixture(scope="module")
def engine():
    with running(EngineServer(models=[{"id": "toy", "owned_by": "vllm", "max_model_len": 2048}])) as state:
        yield state


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ask-engine")
    (folder / "town.txt").write_text("The ferry leaves at nine.\n\nThe ferryman of Tavelun never rows at night.\n")
    with ExitStack() as stack:
        opened = stack.enter_context(Library.open(folder / "library"))
        session = stack.enter_context(Session.open(opened, Engine.load("embedded"), "town", create=True))
        for _ in session.read([folder / "town.txt"]):
            pass
    return folder / "library"


@pytest.fixture
def command(library, capsys):
    """Run a command; returns (exit code, stdout, stderr)."""

    def call(*argv):
        code = run(parse(["--library", str(library), *argv]))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_engines_are_listed_with_their_context(command, engine, monkeypatch):
    monkeypatch.setattr(found, "PORTS", {engine.port: "vLLM"})
    monkeypatch.setattr(found.engines_here, "__defaults__", ({engine.port: "vLLM"},))
    code, out, _ = command("engines")
    assert code == 0
    assert f"vLLM at {engine.url}\n  toy: context of 2,048 tokens" in out
    assert f"--engine {engine.url} --engine-model toy" in out
    code, out, _ = command("engines", "--json")
    assert json.loads(out)[0]["engines"][0]["context_tokens"] == 2048
    monkeypatch.setattr(found.engines_here, "__defaults__", ({1: "vLLM"},))
    assert "No engine answers on this machine" in command("engines")[1]


def test_ask_prints_who_answered_from_what_and_what_was_checked(command, engine):
    code, out, _ = command(
        "ask", "town", "When does he never row?", "--engine", engine.url, "--engine-sends", "passages"
    )
    assert code == 0
    assert out.startswith('It says "never rows at night" [1].')
    assert f"Answered by toy at 127.0.0.1:{engine.port} from 2 passages that the reader found" in out or (
        f"Answered by toy at 127.0.0.1:{engine.port} from 1 passage that the reader found" in out
    )
    assert "1 of 1 quotation stands word for word in the text; this was checked here." in out
    code, out, _ = command("ask", "town", "When?", "--engine", engine.url, "--json")
    assert json.loads(out)["written_by"]["basis"] == "text"


def test_a_list_of_questions_is_answered_by_the_engine_and_leaves_the_session_alone(command, engine, library, tmp_path):
    (tmp_path / "q.txt").write_text("When does he never row?\nWhen does the ferry leave?\n")
    with Library.open(library) as opened:
        before = opened.session("town").num_tokens
    engine.asked.clear()
    out = tmp_path / "a.jsonl"
    arguments = ["ask", "town", "--questions", str(tmp_path / "q.txt"), "--out", str(out), "--engine", engine.url]
    assert command(*arguments)[0] == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["model"] for row in rows] == ["toy", "toy"]
    assert [row["written_by"]["quotations_found"] for row in rows] == [1, 1]
    assert [len(each["messages"]) for each in engine.asked] == [1, 1], "no question is told of another one"
    with Library.open(library) as opened:
        assert opened.session("town").num_tokens == before


def test_exports_say_who_answered(command, library, tmp_path):
    for kind, words in (("md", "Answered by toy at 127"), ("html", "Answered by toy at 127"), ("json", '"written_by"')):
        code, out, _ = command("show", "town", "--format", kind)
        assert code == 0
        assert words in out


def test_an_engine_that_cannot_be_used_is_refused_before_anything_is_loaded(command, engine, tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    code, _, err = command("ask", "town", "When?", "--engine", "http://127.0.0.1:1")
    assert code == 1
    assert "no server answers at 127.0.0.1:1" in err
    code, _, err = command("ask", "town", "When?", "--engine", engine.url, "--engine-model", "other")
    assert "does not serve 'other', but 'toy'" in err
    missing = tmp_path / "no-key"
    code, _, err = command("ask", "town", "When?", "--engine", engine.url, "--engine-key-file", str(missing))
    assert "cannot be read" in err


@pytest.mark.parametrize(
    "argv",
    [
        ["ask", "s", "q", "--engine-model", "m"],
        ["ask", "s", "q", "--engine", "u", "--verbatim"],
        ["ask", "s", "q", "--engine", "u", "--thinking-budget", "100"],
        ["--engine", "u", "read", "s", "f.txt"],
        ["ask", "s", "q", "--engine", "u", "--engine-context", "3"],
        ["ask", "s", "q", "--engine", "u", "--engine-sends", "all"],
    ],
)
def test_options_that_would_be_ignored_are_refused(argv, capsys):
    with pytest.raises(SystemExit):
        parse(argv)
    assert "error:" in capsys.readouterr().err


def test_the_page_takes_an_engine_for_one_start(tmp_path):
    named = parse(["--engine", "http://host:1", "--engine-model", "m", "--engine-context", "8192"]).engine
    assert (named.url, named.model, named.context, named.sends) == ("http://host:1", "m", 8192, "auto")


def test_a_receipt_says_what_is_known_and_no_more():
    by = WrittenBy(engine="m", address="host:1", basis="text", tokens_again=983_112, tokens_reused=0)
    assert "Read again: 983,112, reused: 0." in answered_by(by)
    assert "does not tell whether it reused any" in " ".join(
        answered_by(WrittenBy(engine="m", address="h", basis="text", tokens_again=5))
    )
    assert "does not tell how much" in " ".join(answered_by(WrittenBy(engine="m", address="h", basis="text")))
    assert "which has read the whole text itself" in answered_by(WrittenBy(engine="m", address="h", basis="state"))[0]
