"""The commands: from a parsed command line to an exit code. Only here is the unexpected caught."""

import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import platformdirs

from app.grammar.parser import Arguments
from sala_core.assets import ROOT
from sala_core.errors import SalaError

APP_NAME = "sala-desktop"
_BROKEN_PIPE = 128 + 13
_MOST_TEST_PROCESSES = 4  # each with a Python, torch and, for the page, a browser of its own


def run(arguments: Arguments) -> int:
    """Run one command. Errors are one line on stderr; returns the process's exit code."""
    try:
        return _dispatch(arguments)
    except SalaError as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:
        _complain("stopped")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _silence_stdout()
        return _BROKEN_PIPE
    except Exception as error:  # noqa: BLE001  the outermost boundary: one line for the person, the whole story in a file
        _complain(f"unexpected {type(error).__name__}: {error}; {_keep_report(arguments, error)}")
        return 1


def library_folder(arguments: Arguments) -> Path:
    """Where sessions and states are kept: the folder given, or the user's data folder."""
    chosen = arguments.library or platformdirs.user_data_path(APP_NAME, appauthor=False)
    return chosen.expanduser().absolute()


def _dispatch(arguments: Arguments) -> int:
    """Import only what the command needs: the page takes seconds to load, a list of sessions must not."""
    folder = library_folder(arguments)
    match arguments.command:
        case "page":
            from app.server.app import serve

            return serve(arguments, folder)
        case "read":
            from app.commands.read import read

            return read(arguments, folder)
        case "ask":
            from app.commands.ask import ask

            return ask(arguments, folder)
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
            from app.commands.eval import evaluate

            return evaluate(arguments, folder)
        case "train":
            from app.commands.train import train

            return train(arguments, folder)
        case "convert":
            from app.commands.train import convert

            return convert(arguments, folder)
        case "test":
            num_processes = min(_MOST_TEST_PROCESSES, os.cpu_count() or 1)
            command = [sys.executable, "-m", "pytest", f"--numprocesses={num_processes}", "--dist=loadfile"]
            return subprocess.run([*command, *arguments.pytest_args], cwd=ROOT, check=False).returncode
    from app.commands.sessions import COMMANDS

    return COMMANDS[arguments.command](arguments, folder)


def _complain(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)


def _keep_report(arguments: Arguments, error: Exception) -> str:
    """Write the traceback into the library's folder; says where it is."""
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
    """The reader of our output has gone: let the interpreter flush its buffers into nothing."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
