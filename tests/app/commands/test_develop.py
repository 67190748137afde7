"""`launch.py test` and `launch.py check`: what they run, and their exit codes. The tools themselves do not run."""

import os
import re
import subprocess

import pytest

from app import cli
from app.grammar.parser import parse


@pytest.mark.parametrize(("cores", "processes"), [(2, 2), (64, 4), (None, 1)])
def test_pytest_is_run_in_the_repository_with_its_own_arguments(monkeypatch, root, cores, processes):
    calls = []
    monkeypatch.setattr(os, "cpu_count", lambda: cores)

    def record(command, **options):
        calls.append((command[1:], options["cwd"]))
        return subprocess.CompletedProcess(command, 5)

    monkeypatch.setattr(subprocess, "run", record)
    assert cli.run(parse(["test", "-k", "x y"])) == 5
    assert calls == [(["-m", "pytest", f"--numprocesses={processes}", "--dist=loadfile", "-k", "x y"], root)]


@pytest.fixture
def checks(monkeypatch, root):
    """Commands that `check` ran, and what each is to fail with: tool -> exit code."""
    commands, codes = [], {}

    def record(command, **options):
        assert options["cwd"] == root
        commands.append(" ".join(command[2:]))
        return subprocess.CompletedProcess(command, codes.get(command[2], 0), stdout=f"output of {command[2]}\n")

    monkeypatch.setattr(subprocess, "run", record)
    return commands, codes


def test_check_runs_every_tool_and_the_architecture_tests_with_a_line_each(checks, capsys):
    commands, _ = checks
    assert cli.run(parse(["check"])) == 0
    assert commands == ["ruff check .", "ruff format --check .", "mypy", "pytest tests/test_architecture.py"]
    lines = capsys.readouterr().out.splitlines()
    assert [re.fullmatch(r"(.+): passed in \d+\.\d s", line)[1] for line in lines] == commands


@pytest.mark.parametrize(("tool", "code"), [("ruff", 1), ("mypy", 1), ("pytest", 3)])
def test_a_failed_check_shows_its_output_and_the_others_still_run(checks, capsys, tool, code):
    commands, codes = checks
    codes[tool] = code
    assert cli.run(parse(["check"])) == 1
    out = capsys.readouterr().out
    assert len(commands) == 4
    assert f"output of {tool}\n" in out
    assert out.count("failed in") == out.count("output of") == (2 if tool == "ruff" else 1)


def test_check_takes_no_arguments_of_pytest(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(["check", "-k", "x"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
