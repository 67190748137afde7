"""The environment's life: created, updated, repaired, entered. Creating and installing are counted, not done."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from app.grammar.parser import parse
from app.setup import environment as environment_module
from app.setup.environment import SETTINGS, Environment, SetupError, child_environ, enter
from app.setup.installer import Installer
from app.setup.stamp import Stamp
from app.setup.torch_build import CPU_INDEX

PIP = Installer(name="pip")


def packages_of(environment):
    """The folder of packages of an environment that exists only as files."""
    return environment.folder / ("Lib/site-packages" if os.name == "nt" else "lib/python3.11/site-packages")


def put_torch(environment, build):
    """Write what tells an installed build of torch."""
    packages = packages_of(environment)
    (packages / "torch").mkdir(parents=True, exist_ok=True)
    (packages / "torch-2.13.0.dist-info").mkdir(exist_ok=True)
    (packages / "torch-2.13.0.dist-info" / "RECORD").touch()
    cuda = "'13.0'" if build == "cuda" else "None"
    (packages / "torch" / "version.py").write_text(f"from typing import Optional\ncuda: Optional[str] = {cuda}\n")


@pytest.fixture
def machine(monkeypatch):
    """What the plan of an installation finds: a machine without a card, and an installer without indexes of its own.

    A test may change `driver`. The index of torch always answers.
    """
    found = {"driver": False}
    monkeypatch.setattr("app.setup.torch_build.has_nvidia_driver", lambda: found["driver"])
    monkeypatch.setattr("app.setup.torch_build.answers", lambda index: True)
    monkeypatch.setattr(environment_module, "choose_installer", lambda: PIP)
    return found


@pytest.fixture
def environment(tmp_path, monkeypatch, machine):
    """An environment that records when it is created and installed, without doing either.

    An installation leaves the build of torch that was planned.
    """
    root = tmp_path / "a program"
    root.mkdir()
    (root / "pyproject.toml").write_text("[project]\n")
    calls = []

    def create(self, installer):
        calls.append("create")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.python.parent.mkdir(parents=True, exist_ok=True)
        self.python.write_bytes(b"#!")

    def install(self, installer, extras, torch_index):
        calls.append(("install", tuple(extras)))
        if not list(packages_of(self).glob("torch")):
            put_torch(self, "cuda" if torch_index is None else "cpu")

    monkeypatch.setattr(Environment, "_create", create)
    monkeypatch.setattr(Environment, "_install", install)
    monkeypatch.setattr(Environment, "_works", lambda self, installer: self.python.exists())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
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

    def cut(self, installer, extras, torch_index):
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
    packages = packages_of(made)
    for name, files in (("whole-1.dist-info", ("METADATA", "RECORD")), ("cut-1.dist-info", ("METADATA",))):
        (packages / name).mkdir(parents=True)
        for file in files:
            (packages / name / file).touch()
    made.stamp_file.unlink()
    made.ensure([])
    assert sorted(entry.name for entry in packages.glob("*-1.dist-info")) == ["whole-1.dist-info"]


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


def test_first_runs_at_the_same_time_install_one_after_the_other(environment, monkeypatch, capsys):
    made, calls = environment
    inside = []

    def slow(self, installer, extras, torch_index):
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
        Environment(root=tmp_path)._create(PIP)


def test_a_failed_installation_shows_the_end_of_the_log(tmp_path, monkeypatch, capfd):
    made = Environment(root=tmp_path)
    made.python.parent.mkdir(parents=True)
    made.python.write_text("#!/bin/sh\necho no such package: quux; exit 3\n")
    made.python.chmod(0o755)
    with pytest.raises(SetupError, match=r"pip exit code 3.*install\.log"):
        made._install(PIP, [], None)
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


def test_only_a_download_may_reach_the_hub(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert "HF_HUB_OFFLINE" not in child_environ("download")
    assert child_environ("models")["HF_HUB_OFFLINE"] == child_environ()["HF_HUB_OFFLINE"] == "1"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert child_environ("download")["HF_HUB_OFFLINE"] == "1", "the user's own choice holds"


@pytest.mark.skipif(sys.platform != "linux", reason="torch has these segments on Linux alone")
def test_the_allocators_segments_grow_unless_the_user_has_set_the_allocator(monkeypatch):
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    assert child_environ()["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    for name in names:
        monkeypatch.setenv(name, "max_split_size_mb:64")
        assert [child_environ().get(each) for each in names] == [
            "max_split_size_mb:64" if each == name else None for each in names
        ]
        monkeypatch.delenv(name)


@pytest.mark.skipif(os.name == "nt", reason="a process is replaced only on POSIX")
def test_the_command_continues_in_the_environment_from_any_folder(environment, monkeypatch, tmp_path):
    made, calls = environment
    replaced = []
    monkeypatch.setattr(os, "execve", lambda *args: replaced.append(args))
    monkeypatch.setattr("app.setup.environment.run_and_wait", lambda command, environ: 0)
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
    monkeypatch.setattr("app.setup.environment.run_and_wait", lambda command, environ: 0)
    enter(parse([command]), str(made.root / "launch.py"), [command])
    assert calls == ["create", ("install", ("test",))]


def test_setup_ends_with_the_environment(environment, capsys):
    made, calls = environment
    assert enter(parse(["setup"]), str(made.root / "launch.py"), ["setup"]) == 0
    assert calls == ["create", ("install", ())]
    assert json.loads(made.stamp_file.read_text())["extras"] == []
    assert "ready" in capsys.readouterr().err


def test_an_interrupted_installation_keeps_extras_and_the_choice_of_torch(environment, monkeypatch):
    made, calls = environment
    made.ensure(["test"], "cpu")

    def cut(self, installer, extras, torch_index):
        raise KeyboardInterrupt

    whole = Environment._install
    monkeypatch.setattr(Environment, "_install", cut)
    (made.root / "pyproject.toml").write_text("changed")
    with pytest.raises(KeyboardInterrupt):
        made.ensure([])
    monkeypatch.setattr(Environment, "_install", whole)
    made.ensure([])
    assert calls[-1] == ("install", ("test",))
    assert Stamp.load(made.stamp_file).torch_choice == "cpu"


def test_a_part_of_torch_does_not_count_as_torch(environment, monkeypatch):
    """Otherwise a continued installation would skip torch's own index and take the build with CUDA."""
    made, _ = environment
    made.ensure([])
    (packages_of(made) / "torch-2.13.0.dist-info" / "RECORD").unlink()
    made.stamp_file.unlink()
    indexes = []
    monkeypatch.setattr(
        Environment, "_install", lambda self, installer, extras, torch_index: indexes.append(torch_index)
    )
    made.ensure([])
    assert indexes == [CPU_INDEX]


def test_a_driver_that_comes_later_is_told_and_the_choice_ends_the_advice(environment, machine):
    made, calls = environment
    made.ensure([])
    assert (Stamp.load(made.stamp_file).torch_build, made.advice()) == ("cpu", "")
    machine["driver"] = True
    made.ensure([])
    assert calls == ["create", ("install", ())], "nothing is installed without being asked for"
    assert "setup --torch auto (2.9 GB to download)" in made.advice()
    made.ensure([], "cpu")
    assert made.advice() == ""
    made.ensure([], "auto")
    assert calls[-2:] == ["create", ("install", ())], "another build needs a new environment"
    assert (Stamp.load(made.stamp_file).torch_build, made.advice()) == ("cuda", "")


def test_another_build_of_torch_is_installed_only_if_it_is_another_one(environment):
    made, calls = environment
    made.ensure(["bench"], "cpu")
    made.ensure([], "auto")
    assert calls == ["create", ("install", ("bench",)), ("install", ("bench",))]
    made.ensure([], "cuda")
    made.ensure([], "cuda")
    assert calls[3:] == ["create", ("install", ("bench",))]
    assert Stamp.load(made.stamp_file) == made.stamp(["bench"], "cuda")


def test_a_build_that_no_index_has_is_told(environment, machine, monkeypatch, capsys):
    made, _ = environment
    machine["driver"] = True
    monkeypatch.setattr(Environment, "_install", lambda self, installer, extras, torch_index: put_torch(self, "cpu"))
    made.ensure([])
    assert "has no CUDA" in capsys.readouterr().err


def test_a_full_disk_is_told_before_anything_is_touched(environment, monkeypatch):
    made, calls = environment
    made.ensure([])
    before = made.stamp_file.read_text()
    usage = shutil.disk_usage(made.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=2 * 10**9))
    with pytest.raises(SetupError, match=r"needs \d\.\d GB in .* and 2\.0 GB is free; free space there"):
        made.ensure([], "cuda")
    assert calls == ["create", ("install", ())]
    assert made.stamp_file.read_text() == before
    assert made.is_current([])


def test_size_and_interruption_are_told_before_the_start(environment, capsys):
    made, _ = environment
    made.ensure([])
    first = capsys.readouterr().err.splitlines()[0]
    assert first == (
        "Installing torch for CPUs and what else the program needs: about 330 MB to download, 1.5 GB on disk. "
        "It is safe to interrupt: the next start continues"
    )
    (made.root / "pyproject.toml").write_text("changed")
    made.ensure([])
    assert "missing or has changed" in capsys.readouterr().err


def test_torch_alone_comes_from_its_own_index_and_all_else_from_the_default_one(tmp_path, monkeypatch):
    made = Environment(root=tmp_path)
    made.folder.mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["torchlike", "torch>=2.13,<2.14", "numpy"]\n')
    commands = []
    monkeypatch.setattr(environment_module, "_run", lambda command, log, folder: commands.append(command) or 0)
    uv = Installer(name="uv", uv="/bin/uv")
    made._install(uv, ["bench"], "https://torch.example/cpu")
    start = ["/bin/uv", "pip", "install", "--python", str(made.python)]
    assert commands == [
        [*start, "--no-deps", "--index-url", "https://torch.example/cpu", "torch>=2.13,<2.14"],
        [*start, "--editable", f"{tmp_path}[bench]"],
    ]


def test_kernels_installs_triton(environment, monkeypatch):
    made, calls = environment
    monkeypatch.setattr(os, "execve", lambda *args: None)
    monkeypatch.setattr("app.setup.environment.run_and_wait", lambda command, environ: 0)
    enter(parse(["kernels"]), str(made.root / "launch.py"), ["kernels"])
    assert calls == ["create", ("install", ("triton",))]


def test_setup_takes_a_build_of_torch(environment, capsys):
    made, _ = environment
    line = ["setup", "--torch", "cuda"]
    assert enter(parse(line), str(made.root / "launch.py"), line) == 0
    assert json.loads(made.stamp_file.read_text())["torch_choice"] == "cuda"
    assert "torch with CUDA" in capsys.readouterr().err
