"""`launch.py doctor` as a user runs it: exit codes, the report's place, no private words, Ctrl-C."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.grammar.parser import parse
from sala_core.store import Library

_PROGRAM = (
    "import sys; from app.grammar.parser import parse; from app.cli import run; sys.exit(run(parse(sys.argv[1:])))"
)
_PRIVATE = ("quixwood", "zephyrine", "ottoline", "tower-of-q", "palimpsest")
"""Parts of the names of the user, the model, a session, the host, and the folder of the report."""


def start(environment, folder, *line):
    """Start `launch.py doctor LINE` in a folder."""
    command = [sys.executable, "-c", _PROGRAM, "doctor", *map(str, line)]
    return subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory, root):
    """A user's home with a model, a library and a working directory, all with names that give them away."""
    home = tmp_path_factory.mktemp("homes") / "quixwood"
    shutil.copytree(root / "assets" / "embedded", home / "Zephyrine files" / "zephyrine-9b")
    (home / "palimpsest").mkdir()
    with Library.open(home / "library of ottoline") as library:
        library.create_session("Letters of Ottoline", model="zephyrine", fingerprint="f")
    return home


@pytest.fixture
def private(environment, place):
    """The environment of that user."""
    names = {
        "HOME": str(place),
        "USER": "quixwood",
        "LOGNAME": "quixwood",
        "HOSTNAME": "tower-of-q",
        "HF_HUB_OFFLINE": "1",
    }
    return environment | names


@pytest.mark.timeout(600)
def test_a_sound_machine_gives_code_0_and_a_report_without_private_words(private, place):
    """The whole quick examination, with its real checks."""
    options = ("--library", place / "library of ottoline", "--model", place / "Zephyrine files" / "zephyrine-9b")
    process = start(private, place / "palimpsest", *options, "--device", "cpu", "--quick")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err
    (report,) = (place / "palimpsest").glob("sala-doctor-*.md")
    assert out.splitlines()[-1].endswith(f"Report: {report}")
    text = report.read_text(encoding="utf-8")
    assert [word for word in (*_PRIVATE, socket.gethostname()) if word.lower() in text.lower()] == []
    assert str(Path(sys.prefix)) not in text
    checks = json.loads(re.search(r"```json\n(.*?)\n```", text, re.DOTALL)[1])["checks"]
    statuses = {check["name"]: check["status"] for check in checks}
    assert set(statuses.values()) <= {"ok", "not possible here"}
    ran = {name for name, status in statuses.items() if status == "ok"}
    assert ran >= {"system", "program", "library", "trivial kernel", "float32 comparisons", "bfloat16 comparisons",
                   "poisoned memory", "speed", "memory peak", "checkpoint", "tokenizer", "perplexity",
                   "greedy tokens", "needle"}  # fmt: skip
    assert len(out.splitlines()) == len(checks) + 1, "a line for each check, and one about the report"


def test_ctrl_c_keeps_the_checks_that_ended_and_leaves_no_process(private, tmp_path):
    process = start(private, tmp_path, "--json", "--out", "report.md", "--quick", "--device", "cpu")
    events = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [(event["event"], event["name"]) for event in events] == [("started", "system"), ("done", "system")]
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT, err
    last = json.loads(out.splitlines()[-1])
    assert (last["event"], last["stopped"], last["file"]) == ("report", True, str(tmp_path / "report.md"))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| system | ok |" in text
    assert "| needle | not run |" in text
    _, alive = psutil.wait_procs(children, timeout=20)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_failing_check_gives_code_1_and_says_what_to_do(private, tmp_path):
    options = ("--only", "tokenizer", "--model", "openbmb/none", "--out", "r.md")
    process = start(private, tmp_path, *options)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    advice = "python3 launch.py download openbmb/none"
    assert "What to do: " in out
    assert advice in out
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert advice in text.partition("| check |")[0]
    assert len(re.findall(r"^## tokenizer: FAILED$", text, re.MULTILINE)) == 1


def test_an_unknown_check_is_named(private, tmp_path):
    process = start(private, tmp_path, "--only", "teeth")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "there is no check 'teeth'; choose from system, program, card" in err
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_is_one_line_and_code_1(private, tmp_path):
    process = start(private, tmp_path, "--out", tmp_path / "gone" / "report.md")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err.count("\n")) == (1, "", 1)
    assert "choose another --out FILE" in err


def test_options_are_parsed_before_and_after_the_command():
    arguments = parse(["--model", "m", "doctor", "--quick", "--json", "--out", "x.md"])
    assert (arguments.command, arguments.model, arguments.json) == ("doctor", "m", True)
    assert (arguments.doctor.quick, arguments.doctor.out) == (True, Path("x.md"))
    assert parse(["doctor"]).doctor.out is None
