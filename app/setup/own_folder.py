"""The environment of a user who may not write into the program's folder: in the user's own data folder.

A program that another user has installed, or that lies on a read-only disk, is run from where it is. Standard library
only.
"""

import hashlib
import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

_PATHS = "sala-desktop.pth"
_OWN_EXTRAS = re.compile(r"sala-desktop\[([\w, -]+)\]")


def is_writable(folder: Path) -> bool:
    """Whether this user may make files in `folder`."""
    return os.access(folder, os.W_OK | os.X_OK)


def own_folder(root: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the environment that belongs to the program in `root`, below the user's data folder."""
    home = Path(environ.get("HOME") or Path.home())
    if sys.platform == "win32":
        data = Path(environ.get("LOCALAPPDATA") or home / "AppData/Local")
    elif sys.platform == "darwin":
        data = home / "Library/Application Support"
    else:
        data = Path(environ.get("XDG_DATA_HOME") or home / ".local/share")
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
    return data / "sala-desktop" / "environments" / name


def advice() -> str:
    """What a user without a writable data folder can do."""
    if sys.platform in ("win32", "darwin"):
        return "copy the program to a folder of your own"
    return "copy the program to a folder of your own, or set XDG_DATA_HOME to one"


def requirements(pyproject: Path, extras: Sequence[str]) -> list[str]:
    """The packages that the program and these optional dependencies need, as `pyproject.toml` states them."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    optional, found, waiting = project.get("optional-dependencies", {}), list(project["dependencies"]), list(extras)
    taken: set[str] = set()
    while waiting:
        extra = waiting.pop(0)
        if extra in taken:
            continue
        taken.add(extra)
        for requirement in optional[extra]:
            own = _OWN_EXTRAS.fullmatch(requirement)
            if own is None:
                found.append(requirement)
            else:
                waiting += [name.strip() for name in own[1].split(",")]
    return found


def add_program(packages: Path, root: Path) -> None:
    """Have the environment whose packages are in `packages` find the program's modules where they are."""
    (packages / _PATHS).write_text(f"{root}\n{root / 'kernels'}\n", encoding="utf-8")
