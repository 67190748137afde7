"""Passwords of encrypted files: from standard input, or asked for on a terminal. They are kept nowhere."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from functools import cache

from app.commands.live_line import LiveLine
from app.grammar.parser import Arguments
from sala_core.errors import IngestError


def no_password(name: str) -> None:
    """No password for any file: nobody is asked."""


def password_source(arguments: Arguments, line: LiveLine) -> Callable[[str], str | None]:
    """Return what gives the password of a file, by its name; None where nobody gives one.

    line: is cleared before the terminal is asked. Raises IngestError for `--password-stdin` without a password.
    """
    if arguments.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise IngestError("--password-stdin needs the password as the first line of standard input; it is empty")
        return lambda name: password
    if not sys.stdin.isatty():
        return no_password

    @cache
    def ask(name: str) -> str | None:
        line.clear()
        return getpass.getpass(f"Password of {name} (leave it empty to go on without it): ") or None

    return ask
