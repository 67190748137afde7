"""Passwords of encrypted files: one line of standard input, or the terminal; otherwise none."""

import io

import pytest

from app.commands.live_line import LiveLine
from app.commands.reading.passwords import no_password, password_source
from app.grammar.parser import parse
from sala_core.errors import IngestError


def source(monkeypatch, typed, *options, is_terminal=False):
    stdin = io.StringIO(typed)
    stdin.isatty = lambda: is_terminal
    monkeypatch.setattr("sys.stdin", stdin)
    return password_source(parse(["read", "s", "a.pdf", *options]), LiveLine())


def test_the_first_line_of_standard_input_opens_every_file(monkeypatch):
    password_of = source(monkeypatch, "open sesame \r\nsecond line\n", "--password-stdin")
    assert [password_of("a.pdf"), password_of("b.pdf")] == ["open sesame "] * 2
    with pytest.raises(IngestError, match="it is empty"):
        source(monkeypatch, "\n", "--password-stdin")


def test_a_terminal_is_asked_once_for_each_file_and_nobody_else_is(monkeypatch):
    asked = []
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or ("" if "b.pdf" in prompt else "x"))
    password_of = source(monkeypatch, "", is_terminal=True)
    assert [password_of(name) for name in ("a.pdf", "b.pdf", "a.pdf")] == ["x", None, "x"]
    assert len(asked) == 2
    assert "a.pdf" in asked[0]
    assert source(monkeypatch, "") is no_password
