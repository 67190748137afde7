"""What the system knows of its NVIDIA cards and their driver, without torch: for the case that torch finds none."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

_SMI_TIMEOUT_S = 10
_PCI_DEVICES = Path("/sys/bus/pci/devices")
_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"
_DRIVERS = {"11": 450, "12": 525, "13": 580}
"""CUDA version -> the first driver that runs it (CUDA Compatibility, "Minor Version Compatibility")."""


def names_of_cards() -> list[str]:
    """Names of the NVIDIA cards, from nvidia-smi; "an NVIDIA card" where only the PCI bus or the driver tells of it."""
    names = [line.strip() for line in _smi("name") if line.strip()]
    if names:
        return names
    wsl = Path("/dev/dxg").exists() and Path("/usr/lib/wsl/lib/libcuda.so.1").exists()
    if wsl or Path("/dev/nvidia0").exists() or _is_on_pci_bus():
        return ["an NVIDIA card"]
    return []


def driver_version() -> str | None:
    """The driver's version, "550.54.14"; "of unknown version" where only its library tells of it; None without one."""
    if versions := _smi("driver_version"):
        return versions[0].strip()
    try:
        found = re.search(r"\b(\d{3}\.\d+(\.\d+)?)\b", _DRIVER_FILE.read_text())
    except OSError:
        found = None
    if found:
        return found[1]
    return None if cuda_version_of_driver() is None else "of unknown version"


def cuda_version_of_driver() -> int | None:
    """The newest CUDA that the driver supports, as 1000 * major + 10 * minor; None without a driver.

    cuDriverGetVersion needs no card and no initialization (CUDA Driver API).
    """
    version = ctypes.c_int()
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return version.value or None


def needed_driver(cuda: str) -> str:
    """The first driver for a CUDA version like "13.0", in words."""
    first = _DRIVERS.get(cuda.partition(".")[0])
    return f"version {first} or later" if first else "the latest version"


def _smi(field: str) -> list[str]:
    """One line per card from nvidia-smi; [] if it is not there or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=_SMI_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return output.stdout.splitlines() if output.returncode == 0 else []


def _is_on_pci_bus() -> bool:
    """Whether Linux lists a display device by NVIDIA, with or without a driver."""
    for device in _PCI_DEVICES.glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASS):
            return True
    return False
