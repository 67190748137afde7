"""The start of the program where it is installed as a package (`uvx`, `pipx`, `pip`). Standard library only.

There is no `.venv` then: packages are the user's to install, so a command names those that it misses.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence

from app.grammar.parser import Arguments
from app.setup.environment import EXTRAS, SetupError, child_environ, run_and_wait

_MODULES = {"bench": "matplotlib", "triton": "triton", "test": "pytest"}
"""Optional dependencies -> the package among them that a command cannot do without."""
_READY = "SALA_DESKTOP_PACKAGED"


def enter_packaged(arguments: Arguments, argv: Sequence[str], *, in_checkout: bool) -> int | None:
    """Start the same command line again with `SETTINGS`, which allocator and libraries read when they load.

    Returns None if this process already has them and must run the command, or the exit code of a child process that ran
    it. On POSIX the call replaces the process. Raises SetupError for a command that does not work here.

    in_checkout: whether the program's own folder, with its tests, is there.
    """
    if os.environ.pop(_READY, "") == "1":
        return None
    _check(arguments.command, in_checkout=in_checkout)
    if arguments.window:
        _check_module("--window", "webview", "pywebview")
    command = [sys.executable, "-P", "-m", "app.cli", *argv]  # -P: a folder `app` of the user is not imported
    environ = {**child_environ(arguments.command), _READY: "1"}
    if os.name == "nt":
        return run_and_wait(command, environ)
    sys.stdout.flush()
    os.execve(command[0], command, environ)


def _check(command: str, *, in_checkout: bool) -> None:
    if command in ("test", "check") and not in_checkout:
        raise SetupError(f"{command} needs a checkout of the program: run python3 launch.py {command} there")
    if command == "setup":
        raise SetupError(
            "setup is python3 launch.py setup, in a checkout; an installed package has its environment already"
        )
    if module := _MODULES.get(EXTRAS.get(command, "")):
        _check_module(command, module, module)


def _check_module(what: str, module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise SetupError(
            f"{what} needs the package {package}; add it with uvx --with {package}, "
            f"pipx inject sala-desktop {package} or pip install {package}"
        )
