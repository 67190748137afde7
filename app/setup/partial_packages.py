"""Packages that an interrupted installation left incomplete. Standard library only."""

import csv
import shutil
import sys
from pathlib import Path


def remove_partial_metadata(environment: Path) -> None:
    """Remove the metadata of incomplete packages, so that the installer counts them as missing and installs them again.

    pip writes a package's RECORD last. uv links it like any other file, so the files that it lists are looked up.
    """
    pattern = "Lib/site-packages/*.dist-info" if sys.platform == "win32" else "lib/python*/site-packages/*.dist-info"
    for metadata in environment.glob(pattern):
        if not _is_complete(metadata):
            shutil.rmtree(metadata, ignore_errors=True)


def _is_complete(metadata: Path) -> bool:
    """Whether every file in the RECORD of a package exists with its size. Compiled files have no size in it."""
    try:
        with (metadata / "RECORD").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if len(row) == 3]
        return all((metadata.parent / name).stat().st_size == int(size) for name, _, size in rows if size)
    except (OSError, ValueError):
        return False
