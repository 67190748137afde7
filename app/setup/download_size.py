"""How much an installation downloads and how much disk it takes: told, and checked, before it starts.

Standard library only. The figures are those of the releases of November 2026. Downloads are the sums of the sizes that
PyPI states for the wheels of Python 3.12 (`tests/measure/download_sizes.py`); for torch's CPU build on Linux, the size
of its wheel. Disk is `du` of the installed environment on Linux (x86-64).
"""

import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.setup.torch_build import TorchBuild


@dataclass(frozen=True, kw_only=True)
class Size:
    """Megabytes (10^6 bytes) of one part of an installation."""

    download: int
    disk: int

    def __add__(self, other: "Size") -> "Size":
        return Size(download=self.download + other.download, disk=self.disk + other.disk)


_OTHERS = Size(download=140, disk=700)
"""All that torch does not bring."""
_TORCH: dict[tuple[str, TorchBuild], Size] = {
    ("linux-x86_64", "cpu"): Size(download=190, disk=800),
    ("linux-x86_64", "cuda"): Size(download=2730, disk=4900),
    ("linux-aarch64", "cuda"): Size(download=2860, disk=5000),
    ("win32-amd64", "cpu"): Size(download=120, disk=800),
    ("darwin-arm64", "cpu"): Size(download=110, disk=800),
}
"""System and build -> torch and what it brings. Torch's own index states no sizes, so its other builds are missing."""
_TRITON = Size(download=200, disk=730)
_EXTRAS = {"test": Size(download=85, disk=400), "bench": Size(download=15, disk=80)}


def expected_size(build: TorchBuild, extras: Sequence[str]) -> Size | None:
    """Return the size of a whole new environment; None if it is not known for this system and build."""
    torch = _TORCH.get((f"{sys.platform}-{platform.machine().lower()}", build))
    if torch is None:
        return None
    whole = sum((_EXTRAS[name] for name in extras if name in _EXTRAS), start=torch + _OTHERS)
    comes_with_torch = build == "cuda" or sys.platform != "linux"
    return whole if comes_with_torch or not {"test", "triton"} & set(extras) else whole + _TRITON


def missing_space(size: Size, folder: Path) -> str:
    """Return what is wrong if the disks cannot hold the environment in `folder` and its downloads; otherwise ''.

    Downloads go to the folder for temporary files until they are installed. It may be on another disk.
    """
    temporary = Path(tempfile.gettempdir())
    if temporary.stat().st_dev == folder.stat().st_dev:
        return _missing(folder, size.disk + size.download)
    return _missing(folder, size.disk) or _missing(temporary, size.download)


def in_words(megabytes: int) -> str:
    """332 -> '330 MB'; 2940 -> '2.9 GB'."""
    rounded = round(megabytes, -1)
    return f"{rounded} MB" if rounded < 1000 else f"{megabytes / 1000:.1f} GB"


def _missing(folder: Path, needed: int) -> str:
    free = shutil.disk_usage(folder).free // 10**6
    if free >= needed:
        return ""
    return (
        f"the installation needs {in_words(needed)} in {folder} and {in_words(free)} is free; "
        "free space there, or copy the program to another disk"
    )
