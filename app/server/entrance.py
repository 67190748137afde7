"""Opens a window of the program in the user's browser without a secret on a command line.

Every user of a computer can read its process list, and a browser is started with the address on its command line. So it
is started with the path of a private file, whose page sends the token to the program by POST: it appears in no list,
history, log or Referer.
"""

from __future__ import annotations

import html
import http.client
import json
import os
import re
import secrets
import sys
import tempfile
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.server.key import FOLDER, PageKey, existing_key, private_folder, write_private
from app.server.native_window import show_window
from sala_core.errors import LibraryError

if TYPE_CHECKING:
    from app.grammar.parser import Arguments

HOST = "127.0.0.1"
TOKEN_PARAMETER = "token"
OPEN_PATH = "/open"
ALIVE_PATH = "/alive"
FILE_PARAMETER = "file"
"""Name of the private folder that a window was opened from: the program deletes it."""
_RUNNING = "running-{}.json"
_PREFIX = "sala-open-"
_FILE = "open.html"
_ANSWER_S = 3.0
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<title>Sala</title><form method="post" action="{action}"><input type="hidden" name="token" value="{token}">
<input type="hidden" name="file" value="{name}"><button>Open Sala</button></form>
<script>document.forms[0].submit()</script></html>
"""


def address(port: int, token: str) -> str:
    """The address that opens the page once, to be typed or pasted."""
    return f"http://{HOST}:{port}/?{TOKEN_PARAMETER}={token}"


def redirect_file(library: Path, port: int, token: str) -> Path:
    """Write the private page that opens a window; the program deletes it then. Raises LibraryError.

    library: the library's folder. port: port of the program. token: opens the window once.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_readable_folder(library)))
        action = f"http://{HOST}:{port}{OPEN_PATH}"
        write_private(folder / _FILE, _PAGE.format(action=action, token=html.escape(token), name=folder.name).encode())
    except OSError as error:
        raise LibraryError(f"no file to open a window could be written ({error.strerror}); use --no-browser") from error
    return folder / _FILE


def remove_redirect(library: Path, name: str) -> None:
    """Delete the private folder of this name, from which a window was opened. Another name changes nothing."""
    if not re.fullmatch(_PREFIX + r"\w+", name):
        return
    for parent in (library / FOLDER, Path.home()):
        with suppress(OSError):
            (parent / name / _FILE).unlink()
            (parent / name).rmdir()


def open_window(library: Path, port: int, token: str) -> None:
    """Open the page in the user's browser; if that fails, print what to do. Raises LibraryError.

    library: the library's folder. port: port of the program. token: opens the window once.
    """
    file = redirect_file(library, port, token)
    if not webbrowser.open(file.as_uri()):
        print(f"No browser could be started. Open this file with one: {file}", flush=True)


def note_running(library: Path, port: int, settings: dict[str, object]) -> None:
    """Record for the next start that the program runs. Raises LibraryError.

    Args:
        library: the library's folder.
        port: port of the program.
        settings: what it was started with (`settings_of`).
    """
    record = {"pid": os.getpid(), "port": port, "settings": settings}
    try:
        write_private(private_folder(library) / _RUNNING.format(port), json.dumps(record).encode())
    except OSError as error:
        raise LibraryError(f"cannot write to {library / FOLDER} ({error.strerror}); free some space") from error


def forget_running(library: Path) -> None:
    """Remove the record and the private files of this process."""
    for file in (library / FOLDER).glob(_RUNNING.format("*")):
        if (_record(file) or {}).get("pid") == os.getpid():
            file.unlink(missing_ok=True)
    for folder in (library / FOLDER).glob(f"{_PREFIX}*"):
        remove_redirect(library, folder.name)


def settings_of(arguments: Arguments) -> dict[str, object]:
    """What two starts must have in common to be served by one program."""
    choice = (arguments.model, arguments.device, arguments.kv_kind, arguments.kv_at_rest, arguments.bos_choice)
    return dict(zip(("model", "device", "kv", "kv_at_rest", "bos"), map(str, choice), strict=True))


def enter_running(arguments: Arguments, library: Path) -> bool:
    """Open a window of the program that runs already with this library; False if there is none with the settings that
    the command line names.

    The program proves that it has the library's key before it gets a token: another program may have its port.
    """
    key = existing_key(library)
    port = running_port(arguments, library, key) if key is not None else None
    if key is None or port is None:
        return False
    if arguments.window:
        show_window(address(port, key.new_token()))
    elif arguments.browser:
        print(f"Sala runs already, at http://{HOST}:{port}/; a window of it opens in your browser.", flush=True)
        open_window(library, port, key.new_token())
    else:
        print(f"Sala runs already. Open {address(port, key.new_token())}\nThe address works once, for two minutes.")
    return True


def running_port(arguments: Arguments, library: Path, key: PageKey) -> int | None:
    """Port of a program that runs with these settings; None if there is none."""
    for file in sorted((library / FOLDER).glob(_RUNNING.format("*"))):
        record = _record(file)
        wanted = {name: value for name, value in settings_of(arguments).items() if name in arguments.given}
        if record is None or not wanted.items() <= record["settings"].items():
            continue
        port = int(record["port"])
        if arguments.port in (None, port) and _is_alive(key, port):
            return port
    return None


def _record(file: Path) -> dict[str, Any] | None:
    """The record of a program that may run; None for a damaged one."""
    try:
        record = json.loads(file.read_bytes())
        return record if 0 < int(record["port"]) < 65536 and isinstance(record["settings"], dict) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _is_alive(key: PageKey, port: int) -> bool:
    """Whether the program behind the port has the library's key."""
    challenge = secrets.token_urlsafe(16)
    connection = http.client.HTTPConnection(HOST, port, timeout=_ANSWER_S)
    try:
        connection.request("GET", f"{ALIVE_PATH}?challenge={challenge}")
        answer = connection.getresponse().read(200).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return secrets.compare_digest(answer.encode(), key.proof(challenge).encode())


def _readable_folder(library: Path) -> Path:
    """Where browsers can read: those in a sandbox (snap) see no hidden folder and not the usual temporary one."""
    hidden = any(part.startswith(".") for part in library.absolute().parts)
    if sys.platform == "linux" and hidden and Path("/snap/bin").is_dir():
        return Path.home()
    return private_folder(library)
