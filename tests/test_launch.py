"""`launch.py`: the command line's contract, and the environment's life, with a stand-in for pip."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.grammar.parser import Arguments, parse
from app.setup.environment import SETTINGS, Environment, SetupError, Stamp, child_environ, enter
from app.setup.install_lock import InstallLock
from app.setup.install_log import InstallLog


def test_without_a_command_it_is_the_page():
    assert parse([]) == Arguments(command="page", port=None, browser=True, model="embedded", device="auto")
    assert parse(["--port", "9000", "--no-browser"]) == Arguments(port=9000, browser=False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["read", "s", "--again"], {"command": "read", "session": "s", "paths": (), "again": True}),
        (["read", "s", "a", "b c"], {"command": "read", "session": "s", "paths": (Path("a"), Path("b c"))}),
        (["ask", "s", "why?"], {"command": "ask", "session": "s", "question": "why?", "json": False}),
        (
            ["ask", "s", "why?", "--json", "--max-tokens", "5", "--temperature", "0", "--seed", "7"],
            {"json": True, "max_tokens": 5, "temperature": 0.0, "seed": 7},
        ),
        (["ask", "--json", "s", "--", "-why?"], {"question": "-why?", "json": True}),
        (["sessions", "--json"], {"command": "sessions", "json": True}),
        (["show", "s", "--json"], {"command": "show", "session": "s", "json": True}),
        (["fork", "s", "t"], {"command": "fork", "session": "s", "new_session": "t"}),
        (["delete", "s"], {"command": "delete", "session": "s"}),
        (["setup"], {"command": "setup"}),
    ],
)
def test_commands_are_parsed(line, expected):
    arguments = parse(line)
    assert {name: getattr(arguments, name) for name in expected} == expected


COMMANDS = (
    ["read", "s", "p"],
    ["ask", "s", "q"],
    ["sessions"],
    ["show", "s"],
    ["fork", "s", "t"],
    ["delete", "s"],
    ["test"],
    ["setup"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_common_options_stand_before_or_after_every_command(command):
    options = ["--library", "my lib", "--model", "org/name", "--device=cpu", "--kv", "int8"]
    for line in (options + command, command + options, options[:2] + command + options[2:]):
        arguments = parse(line)
        assert (arguments.command, arguments.library) == (command[0], Path("my lib"))
        assert (arguments.model, arguments.device, arguments.kv) == ("org/name", "cpu", "int8")
    assert (parse(command).library, parse(command).kv_kind) == (None, "auto")
    assert parse(command).model == "embedded"


@pytest.mark.parametrize(
    "line",
    [
        ["nonsense"],
        ["ask", "s"],
        ["ask", "s", " "],
        ["read", "s"],
        ["read", " ", "p"],
        ["ask", "s", "q", "--max-tokens", "0"],
        ["ask", "s", "q", "--temperature", "-1"],
        ["ask", "s", "q", "--temperature", "nan"],
        ["ask", "s", "q", "--seed", "x"],
        ["--port", "70000"],
        ["--port", "80", "sessions"],
        ["sessions", "--no-browser"],
        ["--device", "tpu"],
        ["--kv", "int4"],
        ["sessions", "--jso"],
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(line, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(line)
    assert stopped.value.code == 2
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1
    assert stderr.startswith("error: ")


def test_bf16_stands_for_the_models_own_format_of_keys_and_values():
    assert [parse(["--kv", kind]).kv_kind for kind in ("auto", "bf16", "int8", "fp8")] == [
        "auto",
        "plain",
        "int8",
        "fp8",
    ]


def test_everything_after_test_is_pytests():
    arguments = parse(["--device", "cpu", "test", "tests/app", "-k", "not slow", "-x", "--library", "d", "--json"])
    assert arguments.pytest_args == ("tests/app", "-k", "not slow", "-x", "--json")
    assert (arguments.device, arguments.library) == ("cpu", Path("d"))
    assert parse(["ask", "s", "test"]).question == "test"


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


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment whose making and installing is counted, not done."""
    root = tmp_path / "a program"
    root.mkdir()
    (root / "pyproject.toml").write_text("[project]\n")
    calls = []

    def create(self):
        calls.append("create")
        self.python.parent.mkdir(parents=True, exist_ok=True)
        self.python.write_bytes(b"#!")

    def install(self, extras):
        calls.append(("install", tuple(extras)))

    monkeypatch.setattr(Environment, "_create", create)
    monkeypatch.setattr(Environment, "_install", install)
    monkeypatch.setattr(Environment, "_works", lambda self: self.python.exists())
    return Environment(root=root), calls


def test_it_installs_once_and_again_when_the_project_changes(environment):
    made, calls = environment
    made.ensure([])
    made.ensure([])
    assert calls == ["create", ("install", ())]
    (made.root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    made.ensure([])
    assert calls[2:] == [("install", ())]


def test_extras_are_added_and_then_kept(environment):
    made, calls = environment
    made.ensure([])
    made.ensure(["test"])
    made.ensure([])
    assert calls == ["create", ("install", ()), ("install", ("test",))]
    (made.root / "pyproject.toml").write_text("changed")
    made.ensure([])
    assert calls[-1] == ("install", ("test",))


def test_an_interrupted_installation_is_continued(environment, monkeypatch):
    made, calls = environment
    installed = Environment._install

    def cut(self, extras):
        raise KeyboardInterrupt

    monkeypatch.setattr(Environment, "_install", cut)
    with pytest.raises(KeyboardInterrupt):
        made.ensure([])
    assert not made.is_current([])
    monkeypatch.setattr(Environment, "_install", installed)
    made.ensure([])
    assert calls == ["create", ("install", ())]
    assert made.is_current([])


def test_a_package_cut_short_is_forgotten_before_pip_runs(environment):
    made, _ = environment
    made.ensure([])
    packages = made.folder / "lib/python3.11/site-packages"
    for name, files in (("whole-1.dist-info", ("METADATA", "RECORD")), ("cut-1.dist-info", ("METADATA",))):
        (packages / name).mkdir(parents=True)
        for file in files:
            (packages / name / file).touch()
    made.stamp_file.unlink()
    made.ensure([])
    assert sorted(entry.name for entry in packages.iterdir()) == ["whole-1.dist-info"]


def test_an_environment_whose_python_is_gone_is_made_again(environment):
    made, calls = environment
    made.ensure([])
    made.python.unlink()
    made.ensure([])
    assert calls == ["create", ("install", ())] * 2


def test_an_upgraded_python_is_noticed(environment):
    made, calls = environment
    made.ensure([])
    made.python.write_bytes(b"#! another")
    made.ensure([])
    assert calls == ["create", ("install", ()), ("install", ())]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"pyproject": 1}', "\x00"])
def test_a_damaged_stamp_counts_as_none(tmp_path, damage):
    (tmp_path / "stamp").write_text(damage)
    assert Stamp.load(tmp_path / "stamp") is None


def test_two_first_runs_take_turns(environment, monkeypatch, capsys):
    made, calls = environment
    inside = []

    def slow(self, extras):
        inside.append(1)
        assert len(inside) == 1
        time.sleep(0.5)
        inside.pop()
        calls.append("installed")

    monkeypatch.setattr(Environment, "_install", slow)
    starts = [threading.Thread(target=made.ensure, args=[[]]) for _ in range(3)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert calls == ["create", "installed"]
    assert "waiting" in capsys.readouterr().err


def test_a_killed_holder_frees_the_lock(tmp_path, root):
    code = (
        f"import sys, time, pathlib; sys.path.insert(0, {str(root)!r})\n"
        "from app.setup.install_lock import InstallLock\n"
        f"with InstallLock(pathlib.Path({str(tmp_path / 'lock')!r}), on_wait=print):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    threading.Timer(0.5, holder.kill).start()
    waited = []
    with InstallLock(tmp_path / "lock", on_wait=lambda: waited.append(1)):
        assert waited == [1]
    holder.wait()
    holder.stdout.close()


def test_no_ensurepip_is_told_with_the_command_that_helps(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess(
        [], 1, stdout="The virtual environment was not created: ensurepip is not available", stderr=""
    )
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(SetupError, match=r"apt install python3\.\d+-venv"):
        Environment(root=tmp_path)._create()


def test_a_failed_installation_shows_the_end_of_the_log(tmp_path, monkeypatch, capfd):
    made = Environment(root=tmp_path)
    made.python.parent.mkdir(parents=True)
    made.python.write_text("#!/bin/sh\necho no such package: quux; exit 3\n")
    made.python.chmod(0o755)
    with pytest.raises(SetupError, match=r"pip exit code 3.*install\.log"):
        made._install([])
    assert "no such package: quux" in capfd.readouterr().err
    assert "no such package: quux" in made.log_file.read_text()


def test_the_log_shows_a_line_a_package(tmp_path, capsys):
    with InstallLog(tmp_path / "log") as log:
        for line in (
            "Collecting torch<2.14,>=2.13 (from sala-desktop==0.1.0)",
            "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (29 kB)",
            "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (888.1 MB)",
            "Processing /opt/x/numpy-2.4.6-cp311-cp311-linux_x86_64.whl (from sala-desktop==0.1.0)",
            "Progress 10 of 100",
            "Installing collected packages: numpy, torch",
        ):
            log.take(line)
    shown = capsys.readouterr().err.splitlines()
    assert shown == ["  downloading torch 2.13.0 (888.1 MB)", "  found numpy 2.4.6", "  unpacking 2 packages"]
    assert (tmp_path / "log").read_text().count("\n") == 5


def test_settings_are_there_before_torch_and_a_persons_own_win(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    environ = child_environ()
    assert environ["OMP_WAIT_POLICY"] == "passive"
    assert environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert environ["HF_HUB_OFFLINE"] == "0"
    assert "PYTHONHOME" not in environ


@pytest.mark.skipif(os.name == "nt", reason="a process is replaced only on POSIX")
def test_it_goes_on_in_the_environment_from_any_folder(environment, monkeypatch, tmp_path):
    made, calls = environment
    replaced = []
    monkeypatch.setattr(os, "execve", lambda *args: replaced.append(args))
    monkeypatch.setattr("app.setup.environment._run_and_wait", lambda command, environ: 0)
    monkeypatch.chdir(tmp_path)
    script, line = str(made.root / "launch.py"), ["--library", "x y", "sessions"]
    enter(dataclasses.replace(parse(line)), script, line)
    path, command, environ = replaced[0]
    assert path == str(made.python)
    assert command == [str(made.python), script, *line]
    monkeypatch.setattr(os, "environ", dict(environ))
    assert enter(parse(line), script, line) is None
    assert len(replaced) == 1
    assert calls == ["create", ("install", ())]


def test_setup_ends_with_the_environment(environment, capsys):
    made, calls = environment
    assert enter(parse(["setup"]), str(made.root / "launch.py"), ["setup"]) == 0
    assert calls == ["create", ("install", ())]
    assert json.loads(made.stamp_file.read_text())["extras"] == []
    assert "ready" in capsys.readouterr().err
