"""`read` on a folder that has changed, `read --watch` and `remove`, as a user types them."""

import io
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from app.cli import run
from app.commands.live_line import LiveLine
from app.commands.read import Approval
from app.grammar.parser import parse
from sala_core.events import ReadPlan
from sala_core.store import Library

_PROGRAM = (
    "import sys; from app.grammar.parser import parse; from app.cli import run; sys.exit(run(parse(sys.argv[1:])))"
)


class Commands:
    """Runs commands on one library with one model, in this process or in one of their own."""

    def __init__(self, folder, model, environment, capsys):
        self.folder, self.environment, self.capsys = folder, environment, capsys
        self.options = ["--library", str(folder), "--model", str(model), "--device", "cpu"]

    def start(self, *line):
        """Start `launch.py LINE` as a process, with nobody at the keyboard."""
        return subprocess.Popen(
            [sys.executable, "-u", "-c", _PROGRAM, *self.options, *map(str, line)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *line, code=0):
        """Run to the end in this process; returns (stdout, stderr)."""
        returned = run(parse([*self.options, *map(str, line)]))
        out, err = self.capsys.readouterr()
        assert returned == code, (out, err)
        return out, err

    def names(self, session):
        """Names of the session's documents."""
        with Library.open(self.folder) as library:
            return [row.name for row in library.documents(library.session(session).id)]


@pytest.fixture
def commands(tmp_path, random_model, environment, capsys):
    return Commands(tmp_path / "library", random_model, environment, capsys)


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        write(folder / name, name)
    return folder


def write(path, seed, num_lines=20):
    choice = random.Random(seed)
    words = ("the", "prince", "came", "over", "a", "river", "in", "winter", "and", "said", "nothing", "to", "general")
    path.write_text("".join(f"{n}. {' '.join(choice.choices(words, k=10))}.\n" for n in range(num_lines)))


COSTLY = ReadPlan(changed=("a.txt",), tokens=100_000, tokens_read=90_200, tokens_new=200)
CHEAP = ReadPlan(changed=("a.txt",), tokens=100_000, tokens_read=5_200, tokens_new=200)


@pytest.mark.parametrize(
    ("plan", "answer", "yes", "always", "agreed"),
    [
        (CHEAP, None, False, False, True),
        (COSTLY, None, False, False, False),
        (COSTLY, None, True, False, True),
        (COSTLY, "y", False, False, True),
        (COSTLY, "n", False, False, False),
        (COSTLY, "", False, False, False),
        (CHEAP, "n", False, True, False),
        (CHEAP, None, False, True, True),
        (ReadPlan(new=("b.txt",), tokens=10**6, tokens_read=10**6, tokens_new=10**6), None, False, False, True),
    ],
)
def test_much_to_read_again_needs_a_yes(monkeypatch, capsys, plan, answer, yes, always, agreed):
    keyboard = io.StringIO(f"{answer}\n")
    keyboard.isatty = lambda: answer is not None
    monkeypatch.setattr(sys, "stdin", keyboard)
    arguments = parse(["read", "demo", "a.txt", *(["--yes"] if yes else [])])
    assert Approval(arguments, LiveLine(), always=always)(plan) is agreed
    shown = capsys.readouterr().out
    assert ("Go on? [y/N]" in shown) == (answer is not None)
    if plan is COSTLY:
        assert "1 changed: 90,200 tokens to read, 200 of new text and 90,000 that stand behind a change" in shown


def test_gone_files_are_named_and_dropped_on_request(commands, shelf):
    commands.run("read", "demo", shelf)
    (shelf / "b.txt").unlink()
    assert "Gone, but kept" in commands.run("read", "demo", shelf)[0]
    assert "gone" in commands.run("show", "demo")[0]
    assert "Removed: shelf/b.txt" in commands.run("read", "demo", shelf, "--drop-gone")[0]
    assert commands.names("demo") == ["shelf/a.txt", "shelf/c.txt"]


def test_remove_takes_names_and_their_ends_and_lists_what_is_ambiguous(commands, shelf):
    commands.run("read", "demo", shelf)
    _, err = commands.run("remove", "demo", "txt", code=1)
    assert "shelf/a.txt, shelf/b.txt, shelf/c.txt" in err
    _, err = commands.run("remove", "demo", "d.txt", code=1)
    assert "no document 'd.txt'" in err
    out, _ = commands.run("remove", "demo", "a.txt", "shelf/c.txt", "--yes")
    assert "2 removed" in out
    assert commands.names("demo") == ["shelf/b.txt"]


def test_a_reading_of_nothing_leaves_no_session(commands, tmp_path):
    (tmp_path / "empty").mkdir()
    out, _ = commands.run("read", "demo", tmp_path / "empty", code=1)
    assert "Nothing was read" in out
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 8)
    commands.run("read", "demo", tmp_path / "binary.txt", code=1)
    with Library.open(commands.folder) as library:
        assert library.sessions() == []


def test_a_second_session_says_with_whom_it_shares(commands, shelf):
    commands.run("read", "demo", shelf)
    out, _ = commands.run("read", "other", shelf)
    assert "Shared with demo: " in out
    assert "tokens not read again" in out
    assert "Shared with" not in commands.run("read", "other", shelf)[0]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_watch_reads_what_changes_and_ends_with_ctrl_c(commands, shelf):
    process = commands.start("read", "demo", shelf, "--watch")
    try:
        wait_for(process, "Watching")
        commands_text = wait_until(lambda: commands.names("demo"), 3)
        assert len(commands_text) == 3
        write(shelf / "b.tmp", "new text")
        os.replace(shelf / "b.tmp", shelf / "b.txt")
        wait_for(process, "changed shelf/b.txt")
        (shelf / "d.txt").write_text("A fourth text.\n")
        wait_for(process, "new shelf/d.txt")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert "Stopped watching" in out
        assert len(commands.names("demo")) == 4
    finally:
        process.kill()


def wait_for(process, words):
    """Read the process's output up to a line that begins with these words."""
    while line := process.stdout.readline():
        if line.startswith(words):
            return
    raise AssertionError(f"it ended before it said {words!r}: {process.stderr.read()}")


def wait_until(function, num_found, limit_s=30.0):
    """Call until so many are found."""
    end = time.monotonic() + limit_s
    while len(found := function()) < num_found and time.monotonic() < end:
        time.sleep(0.1)
    return found
