"""`ask --questions`: a table of answers that a kill does not lose, and the parts of `show` that export."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from app.commands.asking.question_list import rows_of

_PROGRAM = (
    "import sys; from app.grammar.parser import parse; from app.cli import run; sys.exit(run(parse(sys.argv[1:])))"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory, random_model, root):
    """program(*line) starts a command on a library in which a short book is read."""
    folder = tmp_path_factory.mktemp("asking")
    path = os.pathsep.join([str(root), str(root / "kernels")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def start(*line):
        options = ["--library", str(folder / "library"), "--model", str(random_model), "--device", "cpu"]
        command = [sys.executable, "-c", _PROGRAM, *options, *map(str, line)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    book = folder / "book.txt"
    book.write_text("".join(f"{n}. The general said nothing to the prince in the evening.\n" for n in range(60)))
    process = start("read", "demo", book)
    assert process.wait(120) == 0
    return start


def finish(process, code=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out, err


def test_a_killed_list_continues_and_becomes_a_table(program, tmp_path):
    questions, table = tmp_path / "list.csv", tmp_path / "answers.csv"
    questions.write_text("question\n" + "".join(f"What is number {n}?\n" for n in range(40)))
    line = ("ask", "demo", "--questions", questions, "--out", table, "--max-tokens", "4", "--temperature", "0")
    process = program(*line)
    deadline = time.monotonic() + 100
    while not (rows_of(table).exists() and rows_of(table).read_bytes().count(b"\n") > 1):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = rows_of(table).read_bytes().count(b"\n")
    assert not table.exists()

    out, err = finish(program(*line))
    assert "40 answers in" in out
    assert f"{done} questions answered already" in err
    assert not rows_of(table).exists()
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["question"] for row in rows] == [f"What is number {n}?" for n in range(40)]
    assert all("book.txt, line" in row["places"] for row in rows)

    _, err = finish(program(*line), code=1)
    assert "is there already; choose another name" in err


def test_rows_are_the_objects_of_one_question_and_leave_the_session_alone(program, tmp_path):
    questions, answers = tmp_path / "list.txt", tmp_path / "answers.jsonl"
    questions.write_text("Who spoke?\nWhere?\nWho spoke?\n")
    greedy = ("--max-tokens", "4", "--temperature", "0")
    before = finish(program("show", "demo", "--json"))[0]
    finish(program("ask", "demo", "--questions", questions, "--out", answers, *greedy))
    assert finish(program("show", "demo", "--json"))[0] == before
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [row["question"] for row in rows] == ["Who spoke?", "Where?", "Who spoke?"]
    assert rows[0]["answer"] == rows[2]["answer"]
    assert rows[0]["evidence"] == rows[2]["evidence"]

    alone = json.loads(finish(program("ask", "demo", "Who spoke?", "--json", *greedy))[0])
    assert "quotations" in alone
    assert {"question", *alone} == set(rows[0])
    assert (alone["answer"], alone["evidence"]) == (rows[0]["answer"], rows[0]["evidence"])

    page = tmp_path / "demo.html"
    finish(program("show", "demo", "--format", "html", "--out", page))
    assert "Who spoke?" in page.read_text(encoding="utf-8")
    assert "is there already" in finish(program("show", "demo", "--format", "md", "--out", page), code=1)[1]


def test_a_list_that_cannot_be_used_is_refused_before_the_model_is_loaded(program, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    for questions, out, words in (
        (empty, tmp_path / "a.md", "holds no question"),
        (tmp_path / "none.txt", tmp_path / "a.md", "cannot be read"),
    ):
        _, err = finish(program("ask", "demo", "--questions", questions, "--out", out), code=1)
        assert words in err
