"""`find`: passages of a session without a model, and `eval natural`."""

import json
import sys
from pathlib import Path

import pytest

from app.cli import run
from app.grammar.parser import parse

sys.path.append(str(Path(__file__).resolve().parents[2]))
from read_library import SESSION, ReadWorkspace


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("find")
    (folder / "town.txt").write_text("The ferry leaves at nine.\n\nThe ferryman of Tavelun is called Osrik.\n")
    workspace = ReadWorkspace(folder / "library")
    workspace.read(folder / "town.txt")
    workspace.library.close()
    return folder / "library"


@pytest.fixture
def command(library, capsys):
    """Run a command; returns (exit code, stdout)."""

    def call(*argv):
        code = run(parse(["--library", str(library), *argv]))
        return code, capsys.readouterr().out

    return call


def test_it_prints_places_with_their_lines(command):
    code, out = command("find", SESSION, "Who is the ferryman?")

    assert code == 0
    assert out.splitlines()[0].startswith("town.txt, line")
    assert "    The ferryman of Tavelun is called Osrik." in out


def test_json_is_a_list_of_evidence(command):
    code, out = command("find", SESSION, "ferryman", "--json", "--most", "1")

    (found,) = json.loads(out)
    assert code == 0
    assert (found["document"], found["page"]) == ("town.txt", None)
    assert found["line_start"] <= 3 <= found["line_end"]


def test_nothing_found_is_said_and_told_by_the_exit_code(command):
    assert command("find", SESSION, "Qwxyz") == (1, "No passage has any of these words\n")


def test_it_loads_no_torch(library):
    import subprocess

    arguments = ["--library", str(library), "find", SESSION, "ferryman"]
    program = (
        "import sys; from app.grammar.parser import parse; from app.cli import run; "
        f"run(parse({arguments!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_an_unknown_session_is_named(library, capsys):
    assert run(parse(["--library", str(library), "find", "nothing", "ferryman"])) == 1
    assert "nothing" in capsys.readouterr().err


def test_natural_names_the_text_that_is_missing(tmp_path, capsys):
    assert run(parse(["eval", "natural", "--text", str(tmp_path), "--out", str(tmp_path / "out")])) == 1
    error = capsys.readouterr().err
    assert "war-and-peace.txt is not in" in error
    assert "--text" in error


def test_natural_counts_answers_beside_a_word_search(tmp_path, monkeypatch, capsys):
    from sala_core.evals.suites import natural

    (tmp_path / "town.txt").write_text("Nobody came. The ferryman of Tavelun is called Osrik. It rained for days.")
    row = {
        "text": "town.txt",
        "half": "open",
        "question": "What is the ferryman of Tavelun called?",
        "passages": ["Osrik"],
    }
    false = {"text": "town.txt", "half": "open", "question": "What did Harry Potter give the ferryman?", "passages": []}
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, (row, false, row | {"half": "untouched"}))))
    monkeypatch.setattr(natural, "QUESTIONS", questions)

    assert run(parse(["eval", "natural", "--text", str(tmp_path), "--out", str(tmp_path / "out")])) == 0

    table = capsys.readouterr().out.splitlines()
    assert table[1].split() == ["manuals", *["1"] * 11]
    assert (tmp_path / "out" / "natural-open.csv").read_text().splitlines()[0].startswith("texts,questions,")
    assert len((tmp_path / "out" / "natural-open.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("option", [["--endpoint", "http://127.0.0.1:1"], ["--tasks", "x"], ["--verbatim"]])
def test_natural_refuses_options_of_models(option):
    with pytest.raises(SystemExit):
        parse(["eval", "natural", *option])
