"""`verify`, `repair` and `quota` from the command line, and what a lost or read-only library means there."""

import json
import sys
from pathlib import Path

import pytest

from app.cli import run
from app.grammar.parser import parse

sys.path.append(str(Path(__file__).resolve().parents[3] / "sala_core"))
from made_library import content, make_library


@pytest.fixture
def folder(tmp_path):
    """A closed library."""
    make_library(tmp_path / "library")
    return tmp_path / "library"


@pytest.fixture
def command(folder, capsys):
    """Run a command on it; returns (exit code, stdout, stderr)."""

    def call(*argv):
        code = run(parse(["--library", str(folder), *argv]))
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def damage(folder):
    path = sorted((folder / "states").iterdir())[0]
    path.write_bytes(path.read_bytes()[:-1])
    return path.name


def test_verify_returns_0_only_if_all_is_sound(folder, command):
    assert command("verify")[:2] == (0, "22 checks, nothing is wrong.\n")
    name = damage(folder)
    code, out, _ = command("verify")
    assert code == 1
    assert f"WRONG segment {name}: " in out
    assert command("verify", "tale")[0] == 1


def test_verify_as_json_names_each_fault(folder, command):
    name = damage(folder)
    code, out, _ = command("verify", "--json")
    found = json.loads(out)
    assert (code, found["sound"]) == (1, False)
    assert [(fault["kind"], fault["name"]) for fault in found["faults"]] == [("segment", name)]


def test_verify_of_a_session_that_is_not_there_is_an_error(command):
    assert command("verify", "nobody")[0] == 1


@pytest.mark.parametrize(
    ("argv", "given"),
    [(["verify"], False), (["verify", "--model", "embedded"], True), (["--model", "x", "verify"], True)],
)
def test_verify_checks_a_model_only_where_one_is_named(argv, given):
    assert parse(argv).model_given is given


@pytest.mark.parametrize("extra", [["tale"], ["--json"]])
def test_verify_of_a_model_takes_no_session(extra, capsys):
    with pytest.raises(SystemExit):
        parse(["verify", "--model", "embedded", *extra])
    assert "verify" in capsys.readouterr().err


def test_a_lost_database_is_named_by_every_command_and_repaired_by_one(folder, command):
    before = content(folder)
    (folder / "library.db").unlink()
    for argv in (["sessions"], ["show", "tale"], ["verify"], ["delete", "tale"]):
        code, _, err = command(*argv)
        assert code == 1
        assert "`repair` makes the database anew" in err
    code, out, _ = command("repair")
    assert code == 0
    assert "library.db: missing." in out
    assert content(folder) == before


def test_the_quota_is_set_shown_and_removed(command):
    assert command("quota")[1].startswith("No quota")
    assert "of 20.0 GB" in command("quota", "20GB")[1]
    assert "of 20.0 GB" in command("quota")[1]
    assert command("quota", "off")[1].startswith("No quota")
    for wrong in ("20", "-1GB", "0GB", "much"):
        with pytest.raises(SystemExit):
            parse(["quota", wrong])


def test_sessions_and_show_tell_what_states_take(command):
    assert all("B  " in line for line in command("sessions")[1].splitlines())
    assert json.loads(command("sessions", "--json")[1])[0]["state_bytes"] > 0
    assert "Saved state: " in command("show", "tale")[1]
