"""The environment's life: created, updated, repaired, entered. Creating and installing are counted, not done."""

import dataclasses
import json
import os
import subprocess
import threading
import time

import pytest

from app.grammar.parser import parse
from app.setup.environment import SETTINGS, Environment, SetupError, Stamp, child_environ, enter


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment that records when it is created and installed, without doing either."""
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


def test_the_metadata_of_a_partly_installed_package_is_removed_before_pip_runs(environment):
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


def test_first_runs_at_the_same_time_install_one_after_the_other(environment, monkeypatch, capsys):
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


def test_a_missing_ensurepip_is_reported_with_the_command_that_helps(tmp_path, monkeypatch):
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


def test_settings_are_set_before_torch_loads_and_the_users_own_take_precedence(monkeypatch):
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
def test_the_command_continues_in_the_environment_from_any_folder(environment, monkeypatch, tmp_path):
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


@pytest.mark.parametrize("command", ["test", "check"])
def test_the_developers_commands_install_the_extra_test(environment, monkeypatch, command):
    made, calls = environment
    monkeypatch.setattr(os, "execve", lambda *args: None)
    monkeypatch.setattr("app.setup.environment._run_and_wait", lambda command, environ: 0)
    enter(parse([command]), str(made.root / "launch.py"), [command])
    assert calls == ["create", ("install", ("test",))]


def test_setup_ends_with_the_environment(environment, capsys):
    made, calls = environment
    assert enter(parse(["setup"]), str(made.root / "launch.py"), ["setup"]) == 0
    assert calls == ["create", ("install", ())]
    assert json.loads(made.stamp_file.read_text())["extras"] == []
    assert "ready" in capsys.readouterr().err
