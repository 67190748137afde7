"""Which build of torch fits this machine, and from which index it comes. Standard library only.

PyPI's torch needs CUDA on Linux (3 GB, with Triton) and has no CUDA on Windows and macOS. Torch's own indexes have the
other builds: https://download.pytorch.org/whl/cpu and https://download.pytorch.org/whl/cu130.
"""

import platform
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Literal

TorchBuild = Literal["cpu", "cuda"]

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_INDEX = "https://download.pytorch.org/whl/cu130"
"""CUDA 13.0 is what torch 2.13 on PyPI is built with (its metadata: cuda-toolkit 13.0.3)."""
MIN_DRIVER = 580
"""The first branch of NVIDIA's drivers that runs programs built with CUDA 13.0."""

_ANSWER_S = 3.0
_SMI_S = 10.0
_DRIVER_FILES = (
    "proc/driver/nvidia/version",
    "dev/nvidiactl",
    "usr/lib/wsl/lib/libcuda.so",
    "usr/lib/wsl/lib/libcuda.so.1",
)
_VERSION = re.compile(r"NVRM version:.*?\s(\d+)\.\d+")


def has_nvidia_driver(root: Path = Path("/")) -> bool:
    """Whether an NVIDIA driver is loaded: by its files below `root` on Linux and WSL, otherwise by `nvidia-smi -L`."""
    if sys.platform == "darwin":
        return False
    if sys.platform != "win32" and any((root / name).exists() for name in _DRIVER_FILES):
        return True
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        listed = subprocess.run(
            [program, "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=_SMI_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout


def driver_branch(root: Path = Path("/")) -> int | None:
    """Return the first number of the version of Linux's NVIDIA driver, such as 580; None if it is not told."""
    try:
        match = _VERSION.search((root / _DRIVER_FILES[0]).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return int(match[1]) if match else None


def wanted_build(choice: str) -> TorchBuild:
    """Return the build for a choice (auto, cpu or cuda): with auto CUDA if there is an NVIDIA driver."""
    if choice == "cpu":
        return "cpu"
    return "cuda" if choice == "cuda" or has_nvidia_driver() else "cpu"


def index_of(build: TorchBuild) -> str | None:
    """Return torch's own index if the build comes from there on this platform; None if the default index has it."""
    machine = platform.machine().lower()
    if sys.platform == "linux" and build == "cpu" and machine in ("x86_64", "amd64", "aarch64", "arm64"):
        return CPU_INDEX
    if sys.platform == "win32" and build == "cuda":
        return CUDA_INDEX
    return None


def answers(index: str, seconds: float = _ANSWER_S) -> bool:
    """Whether a package index answers a request for torch's page within `seconds`, its name looked up included."""
    import urllib.request  # takes longer to load than all else that a start with a finished installation needs

    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(f"{index}/torch/", method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=seconds):
                answered.set()
        except (OSError, ValueError):  # no network, no such host, a refusal, a broken answer
            pass

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(seconds)


def requirement(pyproject: Path) -> str:
    """Return the requirement of torch in `pyproject.toml`. Raises OSError, ValueError, KeyError."""
    import tomllib

    dependencies: list[str] = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    return next(line for line in dependencies if re.match(r"torch\b(?![-_.])", line))


def installed_build(folder: Path) -> TorchBuild | None:
    """Return the build of the torch that is installed in an environment, from the CUDA version that it names.

    None if there is none, or only a part of it, without metadata.
    """
    packages = "Lib/site-packages" if sys.platform == "win32" else "lib/python*/site-packages"
    file = next(folder.glob(f"{packages}/torch/version.py"), None)
    if file is None or next(folder.glob(f"{packages}/torch-*.dist-info"), None) is None:
        return None
    return "cuda" if re.search(r"^cuda\b[^=]*= *['\"]", file.read_text(encoding="utf-8"), re.MULTILINE) else "cpu"
