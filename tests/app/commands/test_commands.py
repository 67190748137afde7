"""The commands as scripts call them, each in a process of its own, with a model that answers nonsense."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from sala_core.store import Library

_PROGRAM = (
    "import sys; from app.grammar.parser import parse; from app.cli import run; sys.exit(run(parse(sys.argv[1:])))"
)
_WORDS = "the prince came over the river in the evening and said nothing to the old general of the army"
_GREEDY = ("--json", "--max-tokens", "12", "--temperature", "0")


class Commands:
    """Runs commands on one library with one model."""

    def __init__(self, folder, model, environment):
        self.folder, self.model, self.environment = folder, model, environment

    def start(self, *line, model=None):
        """Start `launch.py LINE`."""
        options = ["--library", str(self.folder), "--model", str(model or self.model), "--device", "cpu"]
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *options, *map(str, line)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *line, code=0, model=None):
        """Run to the end; returns (stdout, stderr)."""
        process = self.start(*line, model=model)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, err
        return out, err

    def session(self, name):
        """The session's row."""
        with Library.open(self.folder) as library:
            return library.session(name)

    def names(self):
        """The names of all sessions."""
        if not self.folder.exists():
            return []
        with Library.open(self.folder) as library:
            return [row.name for row in library.sessions()]

    def json(self, *line):
        """Run to the end and parse the printed JSON."""
        return json.loads(self.run(*line)[0])


def write_text(path, num_lines):
    choice, words = random.Random(num_lines), _WORDS.split()
    lines = (f"{n}. {' '.join(choice.choices(words, k=10))}.\n" for n in range(1, num_lines + 1))
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def commands(tmp_path_factory, random_model, root):
    path = os.pathsep.join([str(root), str(root / "kernels")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return Commands(tmp_path_factory.mktemp("commands") / "library", random_model, environment)


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files") / "shelf"
    folder.mkdir()
    (folder / ".env").write_text("PASSWORD=x\n")
    return write_text(folder / "book.txt", 150)


@pytest.fixture(scope="module")
def receipt(commands, book):
    """What `read` printed. The session `demo` exists for the tests that ask questions."""
    return commands.run("read", "demo", book.parent)


@pytest.fixture(scope="module")
def answer(commands, receipt):
    """The JSON object of the first answer. The session `before` is a copy from before the question."""
    commands.run("fork", "demo", "before")
    return commands.json("ask", "demo", "Who came?", *_GREEDY)


def test_read_ends_with_a_receipt(commands, receipt):
    out, err = receipt
    assert err == ""
    with Library.open(commands.folder) as library:
        system, document, *_ = library.parts(library.session("demo").id)
    lines = out.splitlines()
    (summary,) = [line for line in lines if line.startswith("Read into demo: 1 file, ")]
    assert "(" in summary
    assert " read now, 0 reused) in " in summary
    assert summary.rstrip().endswith("tokens/s")
    assert "Skipped 1 file:" in lines
    assert any(line.strip().startswith("shelf/.env: ") for line in lines)
    assert any(line.startswith("Reading shelf/book.txt: ") for line in lines)
    assert f" {document.end - system.end:,} tokens ({document.end:,} read now" in summary


def test_every_question_after_a_restart_reads_only_itself(commands, answer):
    second = commands.json("ask", "demo", "And then?", *_GREEDY)
    assert set(answer) == {
        "answer",
        "thinking",
        "evidence",
        "quotations",
        "tokens_reused",
        "tokens_read",
        "tokens_generated",
        "seconds",
        "finish_reason",
        "model",
    }
    for each in (answer, second):
        assert each["tokens_read"] < 20
        assert each["tokens_generated"] == 12
        assert each["finish_reason"] == "length"
        assert set(each["seconds"]) == {"load", "prefill", "decode"}
        assert {"shelf/book.txt"} == {item["document"] for item in each["evidence"]}
    assert second["tokens_reused"] > answer["tokens_reused"] + answer["tokens_read"] + 12
    assert commands.session("demo").position == commands.session("demo").num_tokens


def test_the_same_state_and_question_give_the_same_answer_in_another_process(commands, answer):
    again = commands.json("ask", "before", "Who came?", *_GREEDY)
    assert {**again, "seconds": {}} == {**answer, "seconds": {}}


def test_reading_again_reads_nothing(commands, answer, book):
    out, _ = commands.run("read", "demo", book.parent)
    assert "(0 read now, " in out
    shown = commands.json("show", "demo", "--json")
    assert len(shown["documents"]) == 1
    assert shown["messages"][1]["text"] == answer["answer"]
    assert [message["role"] for message in shown["messages"][:2]] == ["user", "assistant"]


def test_another_models_session_is_refused_in_one_line(commands, answer, other_model):
    out, err = commands.run("ask", "demo", "Who came?", code=1, model=other_model)
    assert out == ""
    assert err.startswith("error: session 'demo' was read by ")
    assert err.count("\n") == 1


def test_ctrl_c_keeps_what_was_read_and_a_second_process_learns_who_holds_the_session(commands, tmp_path):
    reader = commands.start("read", "long", write_text(tmp_path / "long.txt", 12_000))
    deadline = time.monotonic() + 60
    while "long" not in commands.names() or not commands.session("long").position:
        assert time.monotonic() < deadline
        assert reader.poll() is None
        time.sleep(0.05)
    out, err = commands.run("ask", "long", "Who came?", code=1)
    assert (out, err.count("\n")) == ("", 1)
    assert "is in use by another window or command since" in err
    reader.send_signal(signal.SIGINT)
    out, err = reader.communicate(timeout=60)
    assert (reader.returncode, err) == (130, "")
    assert "Read so far into long: 1 file, " in out
    assert "Run the same command again to continue" in out
    cut = commands.session("long")
    assert 0 < cut.position < cut.num_tokens
    assert f"({cut.position:,} read now, 0 reused)" in out
