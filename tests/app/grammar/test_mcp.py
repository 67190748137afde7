"""The options of `mcp`, and the folders that clients may have read."""

from pathlib import Path

import pytest

from app.grammar.parser import parse


def test_folders_stand_behind_one_option_or_several():
    """A bundle puts any number of folders behind one option, also none."""
    assert parse(["mcp"]).mcp.allow == parse(["mcp", "--allow"]).mcp.allow == ()
    found = parse(["mcp", "--allow", "a", "b", "--allow", "c", "--library", "lib"])
    assert (found.mcp.allow, found.library) == ((Path("a"), Path("b"), Path("c")), Path("lib"))
    assert parse(["mcp", "--bundle", "s.mcpb"]).mcp.bundle == Path("s.mcpb")


def test_the_page_and_serve_take_folders_one_by_one():
    assert parse(["--allow", "a", "--no-browser", "--allow", "b"]).page_allow == (Path("a"), Path("b"))
    assert parse(["--allow", "a", "serve", "--allow", "b"]).page_allow == (Path("a"), Path("b"))


@pytest.mark.parametrize(
    "line", [["--allow", "a", "mcp"], ["--allow", "a", "read", "s", "b.txt"], ["--allow", "a", "test"]]
)
def test_folders_of_another_command_are_not_lost_in_silence(line, capsys):
    with pytest.raises(SystemExit):
        parse(line)
    assert "belongs to the page" in capsys.readouterr().err
