"""The machine of a measurement: hardware, driver, versions, commit and date."""

import os
import platform
import re
import subprocess
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import torch

from sala_core.assets import ROOT

Device = torch.device  # an alias, since the class below has a field `torch`
_NONE = ""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The columns that every row has. A field is empty if it does not apply."""

    hardware: str
    driver: str
    torch: str
    triton: str
    commit: str
    date: str

    @classmethod
    def here(cls, device: "Device") -> "Machine":
        """This machine, measured on `device`. For a card this creates a CUDA context."""
        return cls(
            hardware=_card(device) if device.type == "cuda" else _processor(),
            driver=_driver() if device.type == "cuda" else _NONE,
            torch=torch.__version__,
            triton=_version("triton"),
            commit=_commit(),
            date=time.strftime("%Y-%m-%d"),
        )

    def to_dict(self) -> dict[str, str]:
        """As JSON values."""
        return asdict(self)


def slug(hardware: str) -> str:
    """A part of a file name: "NVIDIA H200" -> "nvidia-h200"; any CPU -> "cpu"."""
    if hardware.startswith("CPU"):
        return "cpu"
    return re.sub(r"[^a-z0-9]+", "-", hardware.lower()).strip("-")


def _card(device: Device) -> str:
    return torch.cuda.get_device_name(device)


def _processor() -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"CPU {name}, {torch.get_num_threads()} threads"


def _driver() -> str:
    return _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]).partition("\n")[0]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _NONE


def _commit() -> str:
    """The commit of the program's folder, with "+" if files differ from it.

    The environment variable SALA_COMMIT takes precedence, for a copy without its repository.
    """
    if given := os.environ.get("SALA_COMMIT"):
        return given
    commit = _output(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"])
    changed = commit and _output(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return commit + ("+" if changed else "")


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    except OSError:
        return _NONE
    return done.stdout.strip() if done.returncode == 0 else _NONE
