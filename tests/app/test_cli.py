"""The commands: what they print, what they exit with, and what they leave alone. The model is a stand-in."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import sala_core
import sala_core.session.session
from app import cli
from app.commands import read
from app.commands.live_line import LiveLine
from app.commands.open_session import StopSignals
from app.grammar.parser import Arguments, parse
from sala_core.engine.generate import Token
from sala_core.engine.sampling import SamplingParams
from sala_core.errors import DiskFullError
from sala_core.events import Answer, Evidence, PromptProgress, Quotation, ReadProgress, ReadReceipt
from sala_core.ingest.document import SkippedFile
from sala_core.store.library import Library

PROGRESS = ReadProgress(
    phase="reading",
    file="war.txt",
    files_done=0,
    files_total=2,
    tokens_done=250_000,
    tokens_total=1_000_000,
    tokens_per_s=5000.0,
    seconds_left=150.0,
)
RECEIPT = ReadReceipt(
    files=2,
    pages=432,
    tokens=1_000_000,
    tokens_read=900_000,
    tokens_reused=100_000,
    seconds=180.0,
    skipped=(SkippedFile(name="photo.raw", path="/x/photo.raw", reason="a binary file"),),
    warnings=("scan.pdf: pages 3-9: no text",),
    stopped=False,
)
EVIDENCE = Evidence(
    document="war.txt",
    document_id="d1",
    page=None,
    line_start=12,
    line_end=14,
    text="Well,\nPrince",
    score=0.25,
)
ANSWER = Answer(
    text="Well, Prince.",
    thinking="Hm.",
    evidence=(EVIDENCE,),
    quotations=(
        Quotation(text="Well, Prince", document="war.txt", document_id="d1", page=3, line_start=12, line_end=12),
    ),
    tokens_reused=1000,
    tokens_read=14,
    tokens_generated=5,
    seconds_load=0.5,
    seconds_prefill=0.25,
    seconds_decode=1.0,
    finish_reason="stop",
    model="embedded",
    think=True,
    thinking_budget=100,
    tokens_thinking=3,
    seconds_thinking=12.5,
    thinking_end="budget",
)


class FakeSession:
    """Replays the given events. Records how it was opened and what it was asked."""

    events = ()
    calls = None
    sampling_defaults = SamplingParams(temperature=0.0)

    @classmethod
    def open(cls, library, engine, name, *, create):
        cls.calls.append(("open", engine, name, create))
        return cls()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.calls.append("closed")

    def read(self, paths, *, should_stop, **options):
        self.calls.append(("read", [str(path) for path in paths]))
        yield from self._play(should_stop)

    def reset(self):
        self.calls.append("reset")

    def ask(self, question, sampling, *, should_stop, writer=None):
        self.calls.append(("ask", question, sampling))
        yield from self._play(should_stop)

    def recorded(self, request, events):
        return events

    def _play(self, should_stop):
        for event in self.events:
            if callable(event):
                event(should_stop)
            elif isinstance(event, BaseException):
                raise event
            else:
                yield event


class FakeEngine:
    @classmethod
    def load(cls, name_or_path, device, kv, bos, kv_at_rest, report):
        return (name_or_path, device, kv, bos, kv_at_rest)


@pytest.fixture
def session(monkeypatch):
    monkeypatch.setattr(sala_core.session.session, "Session", FakeSession)
    monkeypatch.setattr(sala_core, "Engine", FakeEngine)
    monkeypatch.setattr(FakeSession, "events", [])
    monkeypatch.setattr(FakeSession, "calls", [])
    return FakeSession


@pytest.fixture
def folder(tmp_path):
    """A library with one session."""
    folder = tmp_path / "my library"
    library = Library.open(folder)
    library.create_session("demo", model="embedded", fingerprint="f")
    library.close()
    return folder


def run(folder: Path, *line: str) -> int:
    return cli.run(parse(["--library", str(folder), *line]))


def test_ask_json_prints_the_documented_object_and_nothing_else(session, folder, capsys):
    session.events = [
        PromptProgress(tokens_done=1, tokens_total=14),
        Token(id=1, text="Hm.", thinking=True),
        Token(id=2, text="Well", thinking=False),
        ANSWER,
    ]
    line = ["ask", "demo", "Who?", "--json", "--max-tokens", "7", "--temperature", "0", "--seed", "3", "--think"]
    line += ["--thinking-budget", "100"]
    assert run(folder, *line, "--device", "cpu") == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert captured.err == ""
    load = printed["seconds"].pop("load")
    assert 0.5 <= load < 5
    assert printed == {
        "answer": "Well, Prince.",
        "thinking": {
            "asked_for": True,
            "budget": 100,
            "tokens": 3,
            "seconds": 12.5,
            "ended_by": "budget",
            "text": "Hm.",
        },
        "evidence": [
            {
                "document": "war.txt",
                "page": None,
                "line_start": 12,
                "line_end": 14,
                "text": "Well,\nPrince",
                "score": 0.25,
            }
        ],
        "quotations": [{"text": "Well, Prince", "document": "war.txt", "page": 3, "line_start": 12, "line_end": 12}],
        "tokens_reused": 1000,
        "tokens_read": 14,
        "tokens_generated": 5,
        "seconds": {"prefill": 0.25, "decode": 1.0},
        "finish_reason": "stop",
        "model": "embedded",
    }
    opened, asked, closed = session.calls
    assert opened == ("open", ("embedded", "cpu", "auto", "auto", "same"), "demo", False)
    assert asked[:2] == ("ask", "Who?")
    assert (asked[2].max_tokens, asked[2].temperature, asked[2].seed) == (7, 0.0, 3)
    assert (asked[2].think, asked[2].thinking_budget) == (True, 100)
    assert closed == "closed"


def test_ask_streams_the_answer_without_its_thinking_and_then_prints_the_evidence(session, folder, capsys):
    session.events = [
        Token(id=1, text="Hm.", thinking=True),
        Token(id=2, text="Well, ", thinking=False),
        Token(id=3, text="Prince.", thinking=False),
        ANSWER,
    ]
    assert run(folder, "ask", "demo", "Who?") == 0
    out = capsys.readouterr().out
    assert out.startswith("Well, Prince.\n")
    assert "Hm." not in out
    assert "1. war.txt, lines 12–14\n     Well, Prince\n" in out
    assert "“Well, Prince” war.txt, page 3, line 12" in out
    assert "14 tokens read, 1,000 reused, 5 written" in out
    assert "[Thought for 12 s, up to its limit, 3 tokens; see --json]" in out


def test_ask_shows_thinking_in_gray_on_a_terminal_and_the_answer_alone_on_stdout(session, folder, capsys, monkeypatch):
    session.events = [
        Token(id=1, text="Hm.", thinking=True),
        Token(id=2, text="", thinking=False),
        Token(id=3, text="Well, Prince.", thinking=False),
        replace(ANSWER, finish_reason="repetition"),
    ]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run(folder, "ask", "demo", "Who?", "--no-think") == 0
    captured = capsys.readouterr()
    assert captured.err == "\x1b[2mHm.\x1b[0m\n\n"
    assert captured.out.startswith("Well, Prince.\n")
    assert "[The answer ends here: it only repeated itself; the session keeps it without the copies]" in captured.out
    assert session.calls[1][2].think is False


def test_ask_a_session_that_is_not_there_fails_before_a_model_is_loaded(session, folder, capsys):
    assert run(folder, "ask", "nobody", "Who?") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert session.calls == []


def test_read_shows_progress_and_ends_with_a_receipt(session, folder, tmp_path, capsys):
    (tmp_path / "war.txt").write_text("x")
    session.events = [PROGRESS, RECEIPT]
    assert run(folder, "read", "new", str(tmp_path / "war.txt")) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Reading war.txt: 250,000 of 1,000,000 tokens (25%), 5,000 tokens/s, 2 min 30 s left",
        "Read into new: 2 files, 432 pages, 1,000,000 tokens (900,000 read now, 100,000 reused) in 3 min"
        ", 5,000 tokens/s",
        "Note: scan.pdf: pages 3-9: no text",
        "Skipped 1 file:",
        "  photo.raw: a binary file",
    ]
    assert session.calls[0] == ("open", ("embedded", "auto", "auto", "auto", "same"), "new", True)


def test_read_of_a_missing_path_makes_no_session(session, folder, tmp_path, capsys):
    assert run(folder, "read", "new", str(tmp_path / "gone.txt")) == 1
    assert "gone.txt: there is no such file or folder" in capsys.readouterr().err
    assert session.calls == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_reading_at_the_next_check_and_keeps_what_was_read(session, folder, tmp_path, capsys, number):
    flags = []

    def interrupt(should_stop):
        flags.append(should_stop())
        os.kill(os.getpid(), number)
        flags.append(should_stop())

    session.events = [PROGRESS, interrupt, RECEIPT]
    assert run(folder, "read", "new", str(tmp_path)) == 128 + number
    out = capsys.readouterr().out
    assert flags == [False, True]
    assert "Read into new" in out
    assert "Run the same command again to continue" in out
    assert "closed" in session.calls


@pytest.fixture
def default_interrupt():
    """The default handler of SIGINT: a background job of a shell starts with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("default_interrupt")
def test_a_second_signal_has_its_usual_effect():
    stop = StopSignals()
    with stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_answer_stopped_before_it_began_prints_no_json(session, folder, capsys):
    session.events = [lambda should_stop: os.kill(os.getpid(), signal.SIGINT)]
    assert run(folder, "ask", "demo", "Who?", "--json") == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "nothing was saved" in captured.err


def test_an_error_is_one_line_on_stderr_and_exit_code_1(session, folder, capsys):
    session.events = [DiskFullError("the disk\nis full; free 2 GB")]
    assert run(folder, "ask", "demo", "Who?") == 1
    assert capsys.readouterr().err == "error: the disk is full; free 2 GB\n"


def test_an_unexpected_exception_is_one_line_and_its_traceback_is_in_a_file(session, folder, capsys):
    session.events = [KeyError("oops")]
    assert run(folder, "ask", "demo", "Who?") == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: unexpected KeyError: 'oops'; the report is ")
    assert stderr.count("\n") == 1
    report = Path(stderr.strip().split("the report is ")[1]).read_text()
    assert "Traceback" in report
    assert "KeyError: 'oops'" in report
    assert "Who?" not in report


def test_ctrl_c_while_loading_is_exit_code_130(session, folder, capsys, monkeypatch):
    def interrupted(name_or_path, device, kv, bos, kv_at_rest, report):
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeEngine, "load", interrupted)
    assert run(folder, "ask", "demo", "Who?") == 130
    assert capsys.readouterr().err == "error: stopped\n"


def test_a_closed_pipe_ends_quietly(root, folder):
    code = (
        "import sys; from app import cli; from app.commands import sessions\n"
        "def chatty(arguments, folder):\n"
        "    for _ in range(100000): print('x' * 100)\n"
        "sessions.COMMANDS['sessions'] = chatty\n"
        "from app.grammar.parser import Arguments\n"
        "sys.exit(cli.run(Arguments(command='sessions')))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "kernels")])}
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    )
    program.stdout.readline()
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() == 141
    program.stderr.close()


def test_sessions_show_fork_and_delete(folder, capsys):
    assert run(folder, "fork", "demo", "copy") == 0
    assert run(folder, "sessions", "--json") == 0
    out = capsys.readouterr().out
    listed = json.loads(out[out.index("[") :])
    assert sorted(item["name"] for item in listed) == ["copy", "demo"]
    assert run(folder, "show", "copy", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["documents"], shown["messages"]) == ("copy", [], [])
    assert run(folder, "show", "copy") == 0
    assert "copy: 0 tokens" in capsys.readouterr().out
    assert run(folder, "delete", "copy") == 0
    assert run(folder, "delete", "copy") == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert run(folder, "sessions") == 0
    assert capsys.readouterr().out.split()[0] == "demo"


def test_a_deleted_session_is_listed_in_the_bin_and_restored_or_deleted_for_good(folder, capsys):
    assert run(folder, "delete", "demo") == 0
    assert "to the bin, for 30 days" in capsys.readouterr().out
    assert run(folder, "sessions", "--bin") == 0
    line = capsys.readouterr().out
    assert line.startswith("demo ")
    assert "deleted just now, kept for 29 more days" in line
    assert run(folder, "show", "demo") == 1
    assert "`restore` brings it back" in capsys.readouterr().err
    assert run(folder, "restore", "demo") == 0
    assert run(folder, "sessions", "--bin", "--json") == 0
    assert json.loads(capsys.readouterr().out.partition("read again\n")[2]) == []
    assert run(folder, "delete", "demo") == 0
    assert run(folder, "delete", "demo", "--now") == 0, "also what is in the bin"
    assert run(folder, "restore", "demo") == 1
    assert run(folder, "sessions", "--bin") == 0
    assert "No sessions in the bin" in capsys.readouterr().out


def test_fork_onto_a_name_that_is_taken_is_refused(folder, capsys):
    assert run(folder, "fork", "demo", "demo") == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_the_library_is_the_users_data_folder_unless_given(monkeypatch, tmp_path):
    assert cli.library_folder(Arguments()).name == "sala-desktop"
    monkeypatch.chdir(tmp_path)
    assert cli.library_folder(Arguments(library=Path("lib"))) == tmp_path / "lib"


def test_progress_shows_only_what_is_known():
    known = PROGRESS.to_json()
    preparing = ReadProgress(**{**known, "phase": "preparing", "files_done": 3, "tokens_total": 5000})
    assert read.progress_text(preparing) == "Preparing war.txt: 3 files, 5,000 tokens so far"
    restoring = ReadProgress(**{**known, "phase": "restoring"})
    assert read.progress_text(restoring).endswith("250,000 of 1,000,000 tokens")
    unknown = ReadProgress(**{**known, "tokens_per_s": 0.0, "seconds_left": None, "tokens_total": 0, "tokens_done": 0})
    assert read.progress_text(unknown) == "Reading war.txt: 0 of 0 tokens (100%)"


class Terminal:
    def __init__(self):
        self.written = ""

    def isatty(self):
        return True

    def write(self, text):
        self.written += text

    def flush(self):
        pass


def test_a_live_line_changes_in_place_and_fits_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    with LiveLine(terminal) as line:
        for number in range(1000):
            line.show(f"{number} " + "x" * 50)
    assert "\n" not in terminal.written[:-1]
    assert terminal.written.count("\r") < 10
    last = terminal.written.rstrip("\n").rsplit("\x1b[K", 1)[1]
    assert last.startswith("999 ")
    assert len(last) == 19


def test_a_question_without_options_uses_the_models_sampling_defaults(session, folder):
    run(folder, "ask", "demo", "Who?")
    asked = next(call for call in session.calls if call[0] == "ask")
    assert asked[2] == FakeSession.sampling_defaults


def test_reading_again_resets_the_session_and_creates_none(session, folder):
    run(folder, "read", "demo", "--again", "--bos", "on", "--kv-at-rest", "int8")
    assert session.calls[0] == ("open", ("embedded", "auto", "auto", True, "int8"), "demo", False)
    assert session.calls[1:3] == ["reset", ("read", [])]
