"""A bundle for one-click installation (`.mcpb`, manifest 0.4) that starts this installation of the program.

The bundle holds no copy of the program: its environment takes hundreds of megabytes, and a first start inside of a
client would end at the client's time limit. It holds the manifest and a script that names this installation; where that
is gone, the script says so.
"""

from __future__ import annotations

import json
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from app.grammar.parser import Arguments
from sala_core.assets import IN_CHECKOUT, ROOT
from sala_core.errors import SalaError

_ENTRY = "server/start.py"
_FILES_TIME = (2026, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16
_SUFFIX = ".mcpb"

_TOOLS = {
    "list_sessions": "What has been read",
    "read_documents": "Read files and folders, or count what that takes",
    "read_status": "How a reading or a question stands",
    "stop_reading": "Stop a reading; what was read is kept",
    "ask": "Ask about everything that was read, with evidence and places",
    "search_text": "Find passages by words or a question",
    "find_quotation": "Where a text stands word for word, or that it stands nowhere",
    "get_passage": "Read lines or a page",
    "fork_session": "Copy a session; nothing is read again",
}

_START = '''"""Starts the program that is installed on this computer."""
import os
import subprocess
import sys

COMMAND = {command}

if not all(os.path.exists(path) for path in COMMAND[:2] if os.path.isabs(path)):
    sys.stderr.write("Sala is not at " + COMMAND[1] + " any more; write a new bundle: launch.py mcp --bundle FILE\\n")
    sys.exit(1)
command = COMMAND + ["mcp"] + sys.argv[1:]
if os.name == "nt":
    sys.exit(subprocess.call(command))
os.execv(command[0], command)
'''


def write_bundle(file: Path, arguments: Arguments) -> None:
    """Write a bundle. Raises SalaError if the name does not end in `.mcpb`, exists, or cannot be written.

    file: the new file. arguments: library, model and folders that the command line names are those of the bundle.
    """
    if file.suffix != _SUFFIX:
        raise SalaError(f"{file} does not end in {_SUFFIX}, by which clients know a bundle; choose such a name")
    members = {
        "manifest.json": json.dumps(manifest(arguments), indent=2, ensure_ascii=False) + "\n",
        _ENTRY: _START.format(command=json.dumps([*start_command(), *_chosen(arguments)])),
    }
    try:
        with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED) as archive:
            for name, text in members.items():
                info = zipfile.ZipInfo(name, _FILES_TIME)
                info.external_attr = _MODE
                archive.writestr(info, text, zipfile.ZIP_DEFLATED)
    except FileExistsError as error:
        raise SalaError(f"{file} is there already; choose another name, or remove it") from error
    except OSError as error:
        raise SalaError(f"{file} cannot be written ({error.strerror or error}); choose another place") from error


def start_command() -> list[str]:
    """How this installation is started: by `launch.py` in a checkout, otherwise by its package."""
    if IN_CHECKOUT:
        return [sys.executable, str(ROOT / "launch.py")]
    return [sys.executable, "-P", "-m", "app.cli"]


def manifest(arguments: Arguments) -> dict[str, Any]:
    """The manifest, by version 0.4 of its specification (github.com/anthropics/mcpb).

    arguments: the folders that it allows are proposed to the user.
    """
    allowed = arguments.mcp.allow if arguments.mcp is not None else ()
    return {
        "manifest_version": "0.4",
        "name": "sala",
        "display_name": "Sala",
        "version": _version(),
        "description": "Reads whole books and repositories on this computer and answers with quotations and places.",
        "long_description": (
            "Sala reads whole books, PDFs and code repositories once with a local model, keeps what it has read on "
            "disk, and answers with evidence. Nothing leaves the computer. This bundle starts the installation that "
            f"wrote it, at {ROOT}."
        ),
        "author": {"name": "Sala"},
        "license": "AGPL-3.0-or-later",
        "server": {
            "type": "python",
            "entry_point": _ENTRY,
            "mcp_config": {
                "command": sys.executable,
                "args": [f"${{__dirname}}/{_ENTRY}", "--allow", "${user_config.folders}"],
                "env": {"PYTHONUTF8": "1"},
            },
        },
        "tools": [{"name": name, "description": text} for name, text in _TOOLS.items()],
        "keywords": ["documents", "books", "quotations", "local"],
        "compatibility": {"platforms": [_platform()], "runtimes": {"python": ">=3.11"}},
        "user_config": {
            "folders": {
                "type": "directory",
                "title": "Folders that may be read",
                "description": "Files in these folders may be read when you ask for it; without any, none.",
                "multiple": True,
                "required": False,
                "default": [str(folder.absolute()) for folder in allowed],
            }
        },
    }


def _chosen(arguments: Arguments) -> list[str]:
    """The options of every command that the command line names."""
    named = ["--library", str(arguments.library.absolute())] if arguments.library is not None else []
    for name in sorted(arguments.given):
        value = getattr(arguments, name)
        if name == "model" and Path(value).is_dir():
            value = Path(value).absolute()
        named += [f"--{name.replace('_', '-')}", str(value)]
    return named


def _platform() -> str:
    return {"win32": "win32", "darwin": "darwin"}.get(sys.platform, "linux")


def _version() -> str:
    try:
        return version("sala-desktop")
    except PackageNotFoundError:
        return "0.0.0"
