"""`turns`, `ask --edit`, `ask --regenerate` and `fork --at` on the command line."""

import json

import pytest

from app.cli import run
from app.grammar.parser import parse
from sala_core.store import Library


@pytest.fixture
def command(tmp_path, capsys, random_model):
    """command(LINE, code=0) runs it in this process on one library. Returns (stdout, stderr)."""
    options = ["--library", str(tmp_path / "library"), "--model", str(random_model), "--device", "cpu"]

    def run_line(*line, code=0):
        assert run(parse([*options, *map(str, line)])) == code
        return capsys.readouterr()

    return run_line


def test_turns_are_listed_asked_again_switched_deleted_and_branched(command, tmp_path):
    (tmp_path / "note.txt").write_text("Lena lives in Oslo, and keeps two horses.\n" * 5)
    command("read", "demo", tmp_path / "note.txt")
    short = ("--max-tokens", "3", "--temperature", "0")
    for question in ("Who?", "Where?"):
        command("ask", "demo", question, *short)
    out, _ = command("ask", "demo", "--edit", "1", "Which Lena?", *short)
    assert "0 document tokens re-read" in out
    out, _ = command("ask", "demo", "--regenerate", *short)
    assert "0 document tokens re-read" in out
    listed = json.loads(command("turns", "demo", "--json")[0])
    assert [(row["question"], row["version"], row["versions"]) for row in listed] == [("Which Lena?", 3, 3)]
    out, _ = command("turns", "demo", "--previous", "1")
    assert "0 document tokens re-read" in out
    command("turns", "demo", "--previous", "1")
    assert [row["question"] for row in json.loads(command("turns", "demo", "--json")[0])] == ["Who?", "Where?"]
    out, _ = command("fork", "demo", "branch", "--at", "1")
    assert "0 document tokens re-read" in out
    out, _ = command("turns", "demo", "--delete", "2")
    assert "0 document tokens re-read" in out
    assert command("turns", "demo")[0].splitlines()[0] == "  1. Who? (1 of 3)"
    _, err = command("turns", "demo", "--delete", "7", code=1)
    assert "no turn 7: it has 1" in err
    with Library.open(tmp_path / "library") as library:
        assert [row.text for row in library.messages("branch")][::2] == ["Who?"]
        assert {(job.kind, job.status) for job in library.jobs(library.session("demo").id)} == {
            ("read", "done"),
            ("ask", "done"),
        }


@pytest.mark.parametrize(
    "line",
    [
        ("ask", "demo"),
        ("ask", "demo", "--edit", "1"),
        ("ask", "demo", "Who?", "--edit", "1", "--regenerate"),
        ("ask", "demo", "Who?", "--edit", "0"),
        ("turns", "demo", "--delete", "1", "--next", "1"),
        ("fork", "demo", "copy", "--at", "no"),
    ],
)
def test_what_does_not_fit_together_is_refused(line):
    with pytest.raises(SystemExit):
        parse(line)
