"""The machine: system, versions of what the program stands on, and the card."""

import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch

from sala_core.bench.machine import Machine
from sala_core.doctor.records import Examination, Figure, Outcome, failed, not_possible, ok
from sala_core.engine.device import card_problem, python_header
from sala_core.engine.nvidia import cuda_version_of_driver, driver_version, names_of_cards

_GIB = 2**30
_MIN_FREE_BYTES = 1 << 30
_PACKAGES = ("torch", "triton", "transformers", "tokenizers", "safetensors", "huggingface-hub", "numpy", "gradio")
_VARIABLES = re.compile(r"(CUDA|NVIDIA|TRITON|PYTORCH|TORCH|OMP|MKL|MALLOC|HF|SALA|LD)_\w+")
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD")
_CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")


def machine(examination: Examination) -> Iterator[Outcome]:
    """The checks "system", "program" and "card"."""
    yield _system(examination)
    yield _program()
    yield _card()


def _system(examination: Examination) -> Outcome:
    memory = psutil.virtual_memory()
    library, temporary = free_bytes(examination.library), free_bytes(_triton_cache())
    figures: dict[str, Figure] = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _distribution(),
        "in a container or WSL": _container(),
        "processor": Machine.here(torch.device("cpu")).hardware,
        "processor features": ", ".join(_cpu_features()) or "unknown",
        "cores": f"{os.cpu_count()} logical, {psutil.cpu_count(logical=False) or 'unknown'} physical, "
        f"{_usable_cores()} usable by this process",
        "memory": f"{memory.total / _GIB:.1f} GiB, {memory.available / _GIB:.1f} GiB free",
        "swap": f"{psutil.swap_memory().total / _GIB:.1f} GiB",
        "load in the last minute": round(psutil.getloadavg()[0], 1),
        "free disk of the library": f"{library / _GIB:.1f} GiB",
        "free disk of Triton's cache": f"{temporary / _GIB:.1f} GiB",
    }
    if library < _MIN_FREE_BYTES:
        reason = f"the disk of the library has {library / _GIB:.2f} GiB free; saved states need more"
        return failed("system", reason, "free space there, or choose another disk with --library DIR", figures)
    if temporary < _MIN_FREE_BYTES:
        reason = f"the disk of Triton's cache has {temporary / _GIB:.2f} GiB free"
        return failed("system", reason, "free space there, or set TRITON_CACHE_DIR to another disk", figures)
    return ok("system", figures)


def _program() -> Outcome:
    variables = {name for name in os.environ if _VARIABLES.fullmatch(name)}
    shown = sorted(f"{name}={'set' if _SECRET.search(name) else os.environ[name]}" for name in variables)
    figures: dict[str, Figure] = {
        "commit": Machine.here(torch.device("cpu")).commit or "unknown",
        "python": f"{platform.python_implementation()} {platform.python_version()}, "
        f"{'in an environment' if sys.prefix != sys.base_prefix else 'of the system'}",
        **{name: _version(name) for name in _PACKAGES},
        "torch is built for": f"CUDA {torch.version.cuda}" if torch.version.cuda else _other_build(),
        "sqlite": sqlite3.sqlite_version,
        "triton's cache": f"{_triton_cache()}, {_cache_size()}",
        "C compiler": _compiler(),
        "Python.h": "found" if python_header().is_file() else "not found",
        "environment variables": "; ".join(shown) or "none",
    }
    return ok("program", figures)


def _card() -> Outcome:
    """The card, as its driver and as torch see it; why it is not used, if so."""
    smi = _nvidia_smi("name,memory.total,mig.mode.current,ecc.mode.current,persistence_mode,power.limit")
    others = _nvidia_smi("used_memory", query="compute-apps")  # before this process is one of them
    cuda = cuda_version_of_driver()
    figures: dict[str, Figure] = {
        "cards (memory, MIG, ECC, persistence, power limit)": "; ".join(smi or names_of_cards()) or "none",
        "driver": driver_version() or "none",
        "CUDA of the driver": f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "none",
        "programs that compute on a card": f"{len(others)}, with {', '.join(others)}" if others else "none",
    }
    problem = card_problem()
    if problem is not None:
        if problem.is_card_here:
            return failed("card", problem.reason, problem.advice, figures)
        return not_possible("card", problem.reason, figures)
    properties = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    figures |= {
        "card": properties.name,
        "cards that torch sees": torch.cuda.device_count(),
        "compute capability": f"{properties.major}.{properties.minor}",
        "torch is built for": ", ".join(torch.cuda.get_arch_list()),
        "multiprocessors": properties.multi_processor_count,
        "memory": f"{total / _GIB:.1f} GiB, {free / _GIB:.1f} GiB free",
    }
    return ok("card", figures)


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds `folder`, or would hold it."""
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return platform.platform()


def _container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists() or "microsoft" in platform.release()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_features() -> list[str]:
    """The vector extensions that speed depends on, of those that Linux lists."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return [torch.backends.cpu.get_cpu_capability()]
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    present = set(found[1].split()) if found else set()
    return [name for name in _CPU_FEATURES if name in present]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed" if find_spec(package.replace("-", "_")) is None else "unknown"


def _other_build() -> str:
    return f"ROCm {torch.version.hip}" if torch.version.hip else "CPU only"


def _triton_cache() -> Path:
    return Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")


def _cache_size() -> str:
    files = [file for file in _triton_cache().rglob("*") if file.is_file()]
    return f"{len(files)} files with {sum(file.stat().st_size for file in files) / 2**20:.0f} MiB"


def _compiler() -> str:
    """The compiler that Triton would call, as its own documentation says: $CC, else gcc, else clang."""
    command = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if not command:
        return "not found"
    return next(iter(_lines([command, "--version"])), "does not start")


def _nvidia_smi(fields: str, query: str = "gpu") -> list[str]:
    """One line of comma-separated values for each card or program; [] without a driver."""
    return _lines(["nvidia-smi", f"--query-{query}={fields}", "--format=csv,noheader"])


def _lines(command: list[str]) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
