"""Runs one command: from a parsed command line to an exit code. `main` is the command `sala` of an installed package.

This is the only place that catches unexpected exceptions.
"""

import os
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import platformdirs

from app.grammar.parser import Arguments, parse
from app.page.settings.stored import chosen_library, load_program
from app.setup import collector
from app.setup.environment import SetupError
from app.setup.packaged import enter_packaged
from sala_core.assets import APP_NAME, IN_CHECKOUT
from sala_core.errors import SalaError

_WITH_MODEL = ("page", "read", "remove", "ask", "import", "mcp", "serve")
"""Commands that load the model that is chosen in "Settings"."""
_BROKEN_PIPE = 128 + 13  # as shells report SIGPIPE


def main() -> int:
    """Run the process's own command line where the program is installed as a package. Return the exit code."""
    argv = sys.argv[1:]
    arguments = parse(argv, program="sala")
    try:
        code = enter_packaged(arguments, argv, in_checkout=IN_CHECKOUT)
    except SetupError as error:
        _print_error(str(error))
        return 1
    if code is None:
        code = run(arguments)
        collector.leave_to_the_system()
    return code


def run(arguments: Arguments) -> int:
    """Run one command and return the exit code of the process. An error is one line on stderr."""
    try:
        return _dispatch(arguments)
    except SalaError as error:
        _print_error(str(error))
        return 1
    except KeyboardInterrupt:
        _print_error("stopped")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _silence_stdout()
        return _BROKEN_PIPE
    except Exception as error:  # noqa: BLE001  the outermost boundary: the user gets one line, a file the traceback
        _print_error(f"unexpected {type(error).__name__}: {error}; {_write_report(arguments, error)}")
        return 1


def library_folder(arguments: Arguments) -> Path:
    """Return the folder of the library: the one given, the one chosen in "Settings", or the user's data folder."""
    chosen = arguments.library or chosen_library() or platformdirs.user_data_path(APP_NAME, appauthor=False)
    return chosen.expanduser().absolute()


def with_kept(arguments: Arguments, folder: Path) -> Arguments:
    """Return the arguments with what the library's "Settings" keep, where the command line names nothing else."""
    kept = load_program(folder)
    names = ("model", "device", "kv", "kv_at_rest")
    chosen = {name: getattr(kept, name) for name in names if name not in arguments.given}
    return replace(arguments, **chosen)


def _dispatch(arguments: Arguments) -> int:
    """Import the module of the command and run it. `sessions` must not wait seconds for the imports of the page."""
    folder = library_folder(arguments)
    if arguments.command in _WITH_MODEL:
        arguments = with_kept(arguments, folder)
    match arguments.command:
        case "page":
            from app.server.entrance import enter_running

            if not arguments.engine.url and enter_running(arguments, folder):  # its engine is chosen in "Models"
                return 0
            with collector.importing(), collector.without("mcp"):
                from app.server.app import serve

            return serve(arguments, folder)
        case "read":
            from app.commands.read import read

            return read(arguments, folder)
        case "remove":
            from app.commands.read import remove

            return remove(arguments, folder)
        case "ask":
            from app.commands.ask import ask

            return ask(arguments, folder)
        case "serve":
            from app.server.program import answer_at_once

            code = answer_at_once(arguments, folder)
            if code is not None:
                return code
            with collector.importing(), collector.without("mcp"):
                from app.server.app import serve

            return serve(arguments, folder)
        case "mcp":
            from app.server.mcp.stdio import serve_stdio

            return serve_stdio(arguments, folder)
        case "find":
            from app.commands.asking.find import find

            return find(arguments, folder)
        case "engines":
            from app.commands.asking.engines import engines

            return engines(arguments, folder)
        case "kernels":
            from app.commands.kernels import kernels

            return kernels(arguments, folder)
        case "quantize":
            from app.commands.quantize import quantize

            return quantize(arguments, folder)
        case "bench":
            from app.commands.bench import bench

            return bench(arguments, folder)
        case "eval":
            from app.commands.evals.run import evaluate

            return evaluate(arguments, folder)
        case "verify" if arguments.model_given:
            from app.commands.verify import verify as verify_model

            return verify_model(arguments, folder)
        case "verify":
            from app.commands.library.verify import verify

            return verify(arguments, folder)
        case "repair":
            from app.commands.library.repair import repair

            return repair(arguments, folder)
        case "quota":
            from app.commands.library.repair import quota

            return quota(arguments, folder)
        case "export":
            from app.commands.library.portable import export_session

            return export_session(arguments, folder)
        case "import":
            from app.commands.library.portable import import_session

            return import_session(arguments, folder)
        case "turns":
            from app.commands.library.turns import turns

            return turns(arguments, folder)
        case "fork" if arguments.at is not None:
            from app.commands.library.turns import branch

            return branch(arguments, folder)
        case "models":
            from app.commands.models import models

            return models(arguments, folder)
        case "download":
            from app.commands.download import download

            return download(arguments, folder)
        case "doctor":
            from app.commands.doctor import doctor

            return doctor(arguments, folder)
        case "train":
            from app.commands.train import train

            return train(arguments, folder)
        case "convert":
            from app.commands.train import convert

            return convert(arguments, folder)
        case "test":
            from app.commands.develop import run_tests

            return run_tests(arguments, folder)
        case "check":
            from app.commands.develop import check

            return check(arguments, folder)
    from app.commands.sessions import COMMANDS

    return COMMANDS[arguments.command](arguments, folder)


def _print_error(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)


def _write_report(arguments: Arguments, error: Exception) -> str:
    """Write the traceback into the library's folder. Return the part of the message that says where it is."""
    folder = library_folder(arguments) / "logs"
    file = folder / f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    report = "".join(traceback.format_exception(error))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(f"command: {arguments.command}\n\n{report}", encoding="utf-8")
    except OSError as reason:
        return f"no report could be written to {folder} ({reason.strerror})"
    return f"the report is {file}"


def _silence_stdout() -> None:
    """Connect stdout to the null device, because its reader has gone and the interpreter still flushes its buffers."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


if __name__ == "__main__":
    sys.exit(main())
