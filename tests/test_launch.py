"""`launch.py` as a process: it answers at once, loads only what a command needs, and refuses an old Python."""

import subprocess
import sys
import time

import pytest

from sala_core.store.library import Library

HEAVY = ("torch", "transformers", "gradio", "pandas")

PROGRAM = f"""
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", [name for name in {HEAVY} if name in sys.modules], file=sys.stderr))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script and tells at its end which heavy packages it has loaded."""


@pytest.fixture
def library(tmp_path):
    """The folder of a library with one session."""
    with Library.open(tmp_path / "library") as opened:
        opened.create_session("demo", model="embedded", fingerprint="f")
    return opened.folder


@pytest.mark.parametrize(
    ("line", "code", "printed"),
    [
        (["--help"], 0, "usage: launch.py"),
        (["sessions"], 0, "demo"),
        (["sessions", "--json"], 0, '"name": "demo"'),
        (["show", "demo"], 0, "demo: 0 tokens"),
        (["fork", "demo", "copy"], 0, "Forked demo as copy"),
        (["delete", "demo"], 0, "Moved demo to the bin"),
        (["show", "nothing"], 1, "error: no session is called 'nothing'"),
        (["ask", "nothing", "Who?"], 1, "error: no session is called 'nothing'"),
        (["read", "demo", "no such file"], 1, "error: no such file: there is no such file"),
        (["nonsense"], 2, "error: argument COMMAND"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_command_without_a_model_loads_no_heavy_package(line, code, printed, library, root, environment):
    environment["SALA_DESKTOP_ENVIRONMENT"] = str(root / ".venv")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(root / "launch.py"), "--library", str(library), *line],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, printed in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    "line", [["--help"], ["ask", "--help"], ["read", "-h"], ["test", "--help"], ["setup", "--help"]]
)
def test_help_answers_at_once_with_nothing_but_the_standard_library(root, line):
    started = time.monotonic()
    blocked = "import sys; sys.argv = ['launch.py'] + sys.argv[2:]; import runpy, pathlib; " + (
        f"sys.path.insert(0, {str(root)!r}); runpy.run_path({str(root / 'launch.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", blocked, "launch.py", *line],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "usage: launch.py" in done.stdout
    assert time.monotonic() - started < 3


def test_an_old_python_is_refused_with_a_sentence(root, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(root))
    import launch

    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    assert launch.main(["sessions"]) == 1
    assert capsys.readouterr().err.startswith("error: Python 3.11 or later is needed; this is 3.9.1")
