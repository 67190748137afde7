"""The device that computes: why a card of this machine cannot, and whether Triton can compile kernels for it."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import torch
from sala_kernels import KERNELS_VARIABLE, has_triton

from sala_core.engine.nvidia import cuda_version_of_driver, driver_version, names_of_cards, needed_driver
from sala_core.errors import DeviceError

MIN_CAPABILITY = 80
"""The kernels need bfloat16 and 99 KiB of shared memory per block: compute capability 8.0, Ampere."""

_BUILD_ERRORS = (RuntimeError, OSError, ImportError, AssertionError, subprocess.CalledProcessError)
"""What Triton's build of its driver module and its compiler raise."""

_HEADERS = {
    "debian": "sudo apt install gcc python3.{minor}-dev",
    "fedora": "sudo dnf install gcc python3-devel",
    "rhel": "sudo dnf install gcc python3.{minor}-devel",
    "arch": "sudo pacman -S gcc python",
    "suse": "sudo zypper install gcc python3{minor}-devel",
}
"""ID or ID_LIKE of /etc/os-release -> the command that installs a C compiler and the headers of Python."""


@dataclass(frozen=True, kw_only=True)
class DeviceChoice:
    """The device, and what the user should know about the choice; "" for nothing."""

    device: torch.device
    note: str


@dataclass(frozen=True, kw_only=True)
class CardProblem:
    """Why no card can be used, and what to do. is_card_here: the machine seems to have one."""

    reason: str
    advice: str
    is_card_here: bool


def choose_device(device: str, *, kernels: bool = True) -> DeviceChoice:
    """Choose the device for "auto", "cpu" or "cuda".

    "auto" is the card if it works, else the CPU; if a card is there and does not work, `note` says why. "cuda" raises
    DeviceError then. Raises DeviceError for any other word too.

    kernels: have Triton compile and launch one, to know whether it works.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"unknown device {device!r}; choose auto, cpu or cuda")
    cpu = torch.device("cpu")
    if device == "cpu":
        return DeviceChoice(device=cpu, note="")
    problem = card_problem()
    if problem is not None:
        if device == "cuda":
            raise DeviceError(f"{problem.reason}; {problem.advice}, or choose --device cpu")
        note = f"The CPU computes, not the card: {problem.reason}. To use the card, {problem.advice}."
        return DeviceChoice(device=cpu, note=note if problem.is_card_here else "")
    try:
        return _card(kernels=kernels)
    except DeviceError as error:
        if device == "cuda":
            raise
        return DeviceChoice(device=cpu, note=f"The CPU computes, not the card: {error}")


def resolve_device(device: str) -> torch.device:
    """The device of `choose_device`, without a look at Triton. Raises DeviceError."""
    return choose_device(device, kernels=False).device


def card_problem() -> CardProblem | None:
    """Why torch cannot compute on a card of this machine, or why the kernels cannot; None if they can.

    Looks at the build of torch, CUDA_VISIBLE_DEVICES, the driver, the card's compute capability and the capabilities
    that torch was built for. Compiles nothing (`check_triton` does).
    """
    if torch.version.hip is not None:
        return CardProblem(
            reason=f"torch {torch.__version__} is built for AMD cards (ROCm), and the kernels are for NVIDIA cards",
            advice="install a CUDA build of torch (https://pytorch.org/get-started/locally) on a machine with one",
            is_card_here=True,
        )
    if torch.version.cuda is not None and torch.cuda.is_available():
        return _unsupported_card()
    cards = names_of_cards()
    problem = _why_unavailable(cards)
    if problem is None:
        return CardProblem(
            reason="no CUDA device is available: no NVIDIA card was found",
            advice="install a driver for the card if the machine has one",
            is_card_here=False,
        )
    return CardProblem(reason=problem[0], advice=problem[1], is_card_here=bool(cards))


def check_triton(device: torch.device) -> None:
    """Have Triton compile a trivial kernel and launch it on `device`, and check what it computes.

    Raises DeviceError, which names what is missing and the command that installs it.
    """
    if not has_triton():
        raise DeviceError(
            f"Triton is not installed, and the kernels need it; run: {sys.executable} -m pip install triton, or set "
            f"{KERNELS_VARIABLE}=reference to compute slowly without them"
        )
    try:
        from sala_kernels.probe import probe

        found = probe(device).cpu()
    except _BUILD_ERRORS as error:
        raise DeviceError(
            f"Triton cannot compile the kernels: {_triton_problem(error)}; or set {KERNELS_VARIABLE}=reference to "
            "compute slowly without them"
        ) from error
    if not torch.equal(found, 2 * torch.arange(len(found), dtype=found.dtype)):
        raise DeviceError(
            f"Triton's kernels compute wrong numbers on {device}: a sum gave {found[:4].tolist()} instead of "
            "[0, 2, 4, 6]; update the card's driver, or choose --device cpu"
        )


def install_command() -> str:
    """The command that installs a C compiler and the headers of this Python here, by /etc/os-release; "" if unknown."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    for name in (release.get("ID", ""), *release.get("ID_LIKE", "").split()):
        known = {"ubuntu": "debian", "centos": "rhel", "opensuse": "suse"}.get(name, name)
        if known in _HEADERS:
            return _HEADERS[known].format(minor=sys.version_info.minor)
    return ""


def _card(*, kernels: bool) -> DeviceChoice:
    """The card, if Triton works on it or is not wanted. Raises DeviceError."""
    place = torch.device("cuda")
    notes = []
    count = torch.cuda.device_count()
    if count > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        notes.append(
            f"{torch.cuda.get_device_name(0)} computes, the first of {count} cards; set CUDA_VISIBLE_DEVICES to the "
            "number of another to use that."
        )
    wanted = os.environ.get(KERNELS_VARIABLE, "auto")
    if wanted not in ("auto", "reference"):
        raise DeviceError(f"{KERNELS_VARIABLE} is {wanted!r}; set it to auto or reference, or unset it")
    if wanted == "reference":
        notes.append(f"The card computes slowly, without the Triton kernels, as {KERNELS_VARIABLE}=reference asks.")
        return DeviceChoice(device=place, note=" ".join(notes))
    if not has_triton() and sys.platform != "linux":
        notes.append("The card computes slowly: Triton, which the kernels need, has no package for this system.")
    elif kernels:
        check_triton(place)
    return DeviceChoice(device=place, note=" ".join(notes))


def _unsupported_card() -> CardProblem | None:
    """What is wrong with the first card that torch sees, which is the one that would be used."""
    name, (major, minor) = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    capability = 10 * major + minor
    if capability < MIN_CAPABILITY:
        others = [n for n in range(1, torch.cuda.device_count()) if torch.cuda.get_device_capability(n) >= (8, 0)]
        advice = f"set CUDA_VISIBLE_DEVICES={others[0]}" if others else "use a card of the RTX 30 series or later"
        return CardProblem(
            reason=f"{name} has compute capability {major}.{minor}, and the kernels need 8.0, for its bfloat16 and "
            "its shared memory",
            advice=advice,
            is_card_here=True,
        )
    built_for = torch.cuda.get_arch_list()
    if built_for and not any(_runs_on(arch, capability) for arch in built_for):
        return CardProblem(
            reason=f"{name} has compute capability {major}.{minor}, and torch {torch.__version__} is built for "
            f"{', '.join(built_for)}",
            advice="install a build of torch for it (https://pytorch.org/get-started/locally)",
            is_card_here=True,
        )
    return None


def _runs_on(arch: str, capability: int) -> bool:
    """Whether code for `arch` runs: "sm_86" on later cards of its major version, "compute_86" (PTX) on all later."""
    kind, _, digits = arch.partition("_")
    version = int("".join(filter(str.isdigit, digits)) or 0)
    if not digits.isdigit():  # sm_90a, sm_100f: for this version alone
        return version == capability
    return version <= capability and (kind == "compute" or version // 10 == capability // 10)


def _why_unavailable(cards: list[str]) -> tuple[str, str] | None:
    """(reason, advice) where torch has no CUDA device; None if there seems to be no card."""
    what = cards[0] if cards else "a card"
    driver = driver_version()
    if not cards and driver is None:
        return None
    if torch.version.cuda is None:
        return (
            f"{what} is here, but torch {torch.__version__} is a build for CPUs",
            "install a CUDA build of torch: python3 launch.py setup --torch cuda",
        )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and (not hidden.strip() or hidden.strip().startswith("-")):
        return f"CUDA_VISIBLE_DEVICES={hidden!r} hides every card", "unset it"
    if driver is None:
        return f"{what} is here, but no NVIDIA driver is loaded", "install the driver and restart"
    supported, needed = cuda_version_of_driver(), torch.version.cuda
    if supported is not None and supported // 1000 < int(needed.partition(".")[0]):
        return (
            f"the driver {driver} of {what} supports CUDA {supported // 1000}.{supported % 1000 // 10}, and torch "
            f"{torch.__version__} needs CUDA {needed}",
            f"update the driver to {needed_driver(needed)}",
        )
    return f"torch cannot use {what} ({_init_error()})", "look at what nvidia-smi reports, and restart the machine"


def _init_error() -> str:
    """What CUDA says when it is started."""
    try:
        torch.cuda.init()
        torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:
        return " ".join(str(error).split("\n")[0].split())
    return "it reports no devices"


def _triton_problem(error: Exception) -> str:
    """What Triton lacks, and how to get it."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, AssertionError) and "libcuda" in text:
        return f"the driver's library libcuda.so.1 is not found ({text}); reinstall the NVIDIA driver"
    if isinstance(error, subprocess.CalledProcessError | FileNotFoundError) or "C compiler" in text:
        return _build_problem(text)
    return f"{type(error).__name__}: {text}; update the driver, or choose --device cpu"


def _build_problem(text: str) -> str:
    """What Triton's build of its driver module lacks, looked for where that looks. text: its own message."""
    command = install_command()
    how = f"run: {command}" if command else "install gcc and the headers (python3-dev) of this Python"
    named = os.environ.get("CC")
    if named is not None and shutil.which(named) is None:
        return f"the C compiler that CC names, {named!r}, is not there; unset CC, or {how}"
    if named is None and shutil.which("gcc") is None and shutil.which("clang") is None:
        return f"there is no C compiler (gcc or clang); {how}"
    if not python_header().is_file():
        return f"{python_header()} is missing; {how}"
    return f"its module in C cannot be built ({text}); {how}"


def python_header() -> Path:
    """The Python.h that Triton's build includes, whether it is there or not."""
    scheme = sysconfig.get_default_scheme()
    scheme = "posix_prefix" if scheme == "posix_local" else scheme  # Debian's own scheme has another folder
    return Path(sysconfig.get_paths(scheme=scheme)["include"]) / "Python.h"
