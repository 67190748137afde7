"""Opens a file of this computer with the system's own program for it, or the folder that holds it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from sala_core.errors import IngestError

_PASSIVE = frozenset({
    ".pdf", ".epub", ".fb2", ".txt", ".text", ".md", ".rst", ".csv", ".tsv", ".log", ".docx", ".odt", ".rtf", ".pptx",
    ".odp", ".xlsx", ".ods", ".eml", ".srt", ".vtt", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp",
})  # fmt: skip
"""Suffixes of files that systems show and do not run. Of any other file, a program may be started by opening it."""


def open_original(path: str) -> str:
    """Open a file; of a file that a system could run, its folder. Returns what was done, in words.

    Raises IngestError where the system has no program to open files with.
    """
    is_shown = _is_passive(path)
    target = path if is_shown else str(Path(path).parent)
    if sys.platform == "win32":
        os.startfile(target)
    else:
        program = shutil.which("open" if sys.platform == "darwin" else "xdg-open")
        if program is None:
            raise IngestError(f"this system has no program to open files with; the file is {path}")
        subprocess.Popen(
            [program, target],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    name = Path(path).name
    if is_shown:
        return f"{name} was opened by the system."
    return f"The folder of {name} was opened. A file of this kind could be a program, so it is not started from here."


def _is_passive(path: str) -> bool:
    """Whether the system shows the file, by its name, and it is not marked as a program."""
    if Path(path).suffix.lower() not in _PASSIVE:
        return False
    return sys.platform == "win32" or not os.stat(path).st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
