"""A user who may not write into the program's folder gets an environment in the own data folder."""

import os
import subprocess
import sys

import pytest

from app.grammar.parser import parse
from app.setup import environment as environment_module
from app.setup import own_folder
from app.setup.environment import Environment, SetupError, enter
from app.setup.installer import Installer

PIP = Installer(name="pip")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program's folder that this user may not write to, and the user's data folder."""
    root, data = tmp_path / "a program", tmp_path / "data"
    root.mkdir()
    (root / "pyproject.toml").write_text("[project]\nname = 'x'\ndependencies = []\n")
    monkeypatch.setenv("XDG_DATA_HOME", str(data))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(own_folder, "is_writable", lambda folder: root not in (folder, *folder.parents))
    monkeypatch.setattr(environment_module, "choose_installer", lambda: PIP)
    return root


def put_finished(environment):
    """Write the files of a finished installation, without packages."""
    environment.python.parent.mkdir(parents=True)
    environment.python.write_bytes(b"#!")
    environment.python.chmod(0o755)
    environment.stamp([]).save(environment.stamp_file)


def test_the_environment_is_made_in_the_users_own_folder_and_the_command_continues_in_it(program, monkeypatch):
    replaced = []
    monkeypatch.setattr(os, "execve", lambda *arguments: replaced.append(arguments))
    monkeypatch.setattr(environment_module, "run_and_wait", lambda command, environ: 0)
    monkeypatch.setattr(Environment, "ensure", lambda self, extras, choice: None)
    script = str(program / "launch.py")
    enter(parse(["sessions"]), script, ["sessions"])
    own = own_folder.own_folder(program)
    assert replaced[0][0] == str(Environment(root=program, own=own).python)
    assert own.parent.parent.parent == program.parent / "data"
    monkeypatch.setattr(os, "environ", dict(replaced[0][2]))
    assert enter(parse(["sessions"]), script, ["sessions"]) is None
    assert sorted(path.name for path in program.iterdir()) == ["pyproject.toml"]


def test_an_environment_beside_the_program_that_is_up_to_date_serves_every_user(program):
    shared = Environment(root=program)
    put_finished(shared)
    assert shared.usable([]) == shared
    assert shared.usable(["test"]).own == own_folder.own_folder(program)
    (program / "pyproject.toml").write_text("[project]\nname = 'y'\ndependencies = []\n")
    assert shared.usable([]).own == own_folder.own_folder(program)


def test_two_programs_have_two_environments(tmp_path):
    assert own_folder.own_folder(tmp_path / "a") != own_folder.own_folder(tmp_path / "b")


def test_without_a_folder_to_write_to_the_message_says_what_to_do(program, monkeypatch):
    blocked = program.parent / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(blocked))
    with pytest.raises(SetupError, match=r"a program is not yours, and .* is not writable .*set XDG_DATA_HOME"):
        Environment(root=program).usable([]).ensure([])


def test_the_own_environment_installs_the_stated_packages_and_finds_the_program(tmp_path, monkeypatch, root):
    extras = own_folder.requirements(root / "pyproject.toml", ["test"])
    assert any(each.startswith("torch>=") for each in extras)
    assert any(each.startswith("triton>=") for each in extras)  # by the extra that `test` names
    assert not any(each.startswith("sala-desktop") for each in extras)
    made, lines = Environment(root=root, own=tmp_path / "own"), []
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made.folder)], check=True)
    monkeypatch.setattr(environment_module, "_run", lambda command, log, folder: lines.append(command) or 0)
    made._install(PIP, [], None)
    assert "--editable" not in lines[0]
    stated = own_folder.requirements(root / "pyproject.toml", [])
    assert lines[0][-len(stated) :] == stated
    shown = subprocess.run(
        [str(made.python), "-I", "-c", "import app.grammar.parser; print(app.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert shown.stdout.strip() == str(root / "app" / "__init__.py")
