"""The command `sala` of an installed package."""

import importlib.util
import os
import sys

import pytest

from app.grammar.parser import parse
from app.setup import packaged
from app.setup.environment import SETTINGS, SetupError
from app.setup.packaged import enter_packaged


def test_it_starts_again_with_the_settings_and_then_runs(monkeypatch):
    line = ["ask", "x", "Who?"]
    replaced = []
    monkeypatch.setattr(os, "name", "posix")
    monkeypatch.setattr(os, "execve", lambda *values: replaced.append(values))
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    enter_packaged(parse(line), line, in_checkout=False)
    ((path, command, environ),) = replaced
    assert path == sys.executable
    assert command == [sys.executable, "-P", "-m", "app.cli", *line]
    assert environ["OMP_WAIT_POLICY"] == SETTINGS["OMP_WAIT_POLICY"]
    monkeypatch.setattr(os, "environ", dict(environ))
    assert enter_packaged(parse(line), line, in_checkout=False) is None
    assert len(replaced) == 1
    assert packaged._READY not in os.environ, "a child process has to set them for itself"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["test"], "test needs a checkout"),
        (["check"], "check needs a checkout"),
        (["setup"], "setup is python3 launch.py setup, in a checkout"),
        (["bench", "model"], "bench needs the package matplotlib; add it with uvx --with matplotlib"),
        (["kernels"], "pipx inject sala-desktop triton"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_command_that_misses_something_names_it(command, message, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(os, "execve", lambda *values: pytest.fail("it must not run"))
    with pytest.raises(SetupError, match=message):
        enter_packaged(parse(command), command, in_checkout=False)
