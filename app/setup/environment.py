"""The program's own environment: created on the first run, updated when `pyproject.toml` changes.

Standard library only. The installation writes a finished stamp last. A start that finds no finished stamp continues the
interrupted installation. A lock file makes sure that only one start installs at a time.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.grammar.parser import Arguments
from app.setup import own_folder, torch_build
from app.setup.download_size import expected_size, in_words, missing_space
from app.setup.install_lock import InstallLock
from app.setup.install_log import InstallLog
from app.setup.installer import Installer, choose_installer
from app.setup.partial_packages import remove_partial_metadata
from app.setup.stamp import Stamp
from app.setup.torch_plan import TorchPlan, plan_torch

SETTINGS = {
    "OMP_WAIT_POLICY": "passive",  # next to a server, threads that spin slow each other down a hundredfold
    # By default glibc returns freed buffers of a few megabytes to the system at once. The page faults of the next
    # allocation then cost more than the work on the buffer.
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUTF8": "1",
}
"""Environment variables that the program sets before any import. Values that the user has set take precedence."""

if sys.platform == "linux":  # torch for Windows cannot
    # The memory of a card that torch holds then grows and shrinks in place. Otherwise the pieces that are left between
    # buffers of growing sizes are lost.
    SETTINGS["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"

_ALLOCATOR_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
"""All names under which torch reads the settings of its allocator."""

_ONLINE_COMMANDS = ("download",)
"""Commands that talk to the hub: HF_HUB_OFFLINE is not set for them."""

_REMOVED = (
    "PYTHONHOME",
    "__PYVENV_LAUNCHER__",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
    "UV_SYSTEM_PYTHON",
)
EXTRAS = {"test": "test", "check": "test", "bench": "bench", "eval": "bench", "train": "bench", "kernels": "triton"}
"""Command -> the optional dependencies that it needs."""

_READY = "SALA_DESKTOP_ENVIRONMENT"


class SetupError(Exception):
    """The environment cannot be created. Not part of `sala_core.errors`: `sala_core` needs the environment."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The `.venv` beside `launch.py`, or one in the data folder of a user who may not write there."""

    root: Path
    """Folder of `pyproject.toml`."""
    own: Path | None = None
    """The folder in the user's data folder; None for `.venv`."""

    @property
    def folder(self) -> Path:
        return self.own or self.root / ".venv"

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def stamp_file(self) -> Path:
        return self.folder / "installed.json"

    @property
    def log_file(self) -> Path:
        return self.folder / "install.log"

    def stamp(self, extras: Sequence[str], torch_choice: str = "auto") -> Stamp:
        """Return the stamp of a finished installation, from the present `pyproject.toml`, interpreter and packages."""
        digest = hashlib.sha256((self.root / "pyproject.toml").read_bytes()).hexdigest()
        return Stamp(
            pyproject=digest,
            extras=tuple(sorted(set(extras))),
            executable=_identity(self.python),
            torch_choice=torch_choice,
            torch_build=torch_build.installed_build(self.folder) or "",
        )

    def is_current(self, extras: Sequence[str], torch_choice: str | None = None) -> bool:
        """Whether a finished installation fits `pyproject.toml` and the interpreter and has at least these extras.

        torch_choice: auto, cpu or cuda, if the user names one: the installed build of torch must then be that one.
        """
        installed = Stamp.load(self.stamp_file)
        if installed is None or not set(extras) <= set(installed.extras):
            return False
        if torch_choice is not None and not (installed.torch_choice == torch_choice and self._fits(torch_choice)):
            return False
        digest = hashlib.sha256((self.root / "pyproject.toml").read_bytes()).hexdigest()
        return installed.pyproject == digest and installed.executable == _identity(self.python) != ""

    def usable(self, extras: Sequence[str], torch_choice: str | None = None) -> "Environment":
        """This environment, or, where this user may not write into it and it is not up to date, one of the user's own.

        extras, torch_choice: as `ensure` takes them.
        """
        is_shared = self.is_current(extras, torch_choice) and self._is_executable()
        if is_shared or own_folder.is_writable(self.root):
            return self
        return Environment(root=self.root, own=own_folder.own_folder(self.root))

    def _is_executable(self) -> bool:
        return os.access(self.python, os.X_OK)

    def ensure(self, extras: Sequence[str], torch_choice: str | None = None) -> None:
        """Create, repair or update the environment if needed. Prints progress to stderr. Raises SetupError.

        torch_choice: auto, cpu or cuda; None keeps what was chosen before. Another build of torch than the installed
        one means a new environment, because packages that only the old build needs would otherwise stay.
        """
        if self.is_current(extras, torch_choice):
            return
        with self._lock():
            if self.is_current(extras, torch_choice):
                return
            installed = Stamp.load(self.stamp_file)
            extras = sorted({*extras, *(installed.extras if installed else ())})
            choice = torch_choice or (installed.torch_choice if installed else "auto")
            unfinished = Stamp(pyproject="", extras=tuple(extras), executable="", torch_choice=choice)
            installer = choose_installer()
            remove_partial_metadata(self.folder)
            is_other_build = torch_choice is not None and not self._fits(torch_choice)
            is_new = is_other_build or not self._works(installer)
            plan = self._announce(choice, installer, extras, is_new=is_new)
            if self.folder.exists():
                unfinished.save(self.stamp_file)
            if is_new:
                self._create(installer)
                unfinished.save(self.stamp_file)
            self._install(installer, extras, plan.index if plan else None)
            finished = self.stamp(extras, choice)
            if plan and plan.wanted == "cuda" != finished.torch_build:
                _say("The installed torch has no CUDA: the package index has no other build for this system")
            finished.save(self.stamp_file)

    def advice(self) -> str:
        """Return a sentence if the installed build of torch cannot use this machine's NVIDIA card; otherwise ''."""
        installed = Stamp.load(self.stamp_file)
        if installed is None or installed.torch_choice != "auto" or installed.torch_build != "cpu":
            return ""
        if not torch_build.has_nvidia_driver():
            return ""
        size = expected_size("cuda", installed.extras)
        amount = f" ({in_words(size.download)} to download)" if size else ""
        return (
            "An NVIDIA driver is here, but the installed torch is the build for CPUs. For the card run: "
            f"python3 launch.py setup --torch auto{amount}; to stay with the CPU: python3 launch.py setup --torch cpu"
        )

    def _fits(self, choice: str) -> bool:
        """Whether the installed torch, if there is one, is the build that a choice means on this machine."""
        return torch_build.installed_build(self.folder) in (None, torch_build.wanted_build(choice))

    def _announce(self, choice: str, installer: Installer, extras: Sequence[str], *, is_new: bool) -> TorchPlan | None:
        """Say what will be installed and how much that is. Raises SetupError if it does not fit on the disk.

        Returns how torch is installed; None if it is there already.
        """
        if not is_new and torch_build.installed_build(self.folder) is not None:
            _say("Installing what is missing or has changed. It is safe to interrupt: the next start continues")
            return None
        plan = plan_torch(choice, installer)
        size = plan.least_size(extras)
        if size is not None and (problem := missing_space(size, self.folder.parent)):
            raise SetupError(problem)
        if plan.remark:
            _say(plan.remark)
        _say(f"{plan.announcement(extras)}: the next start continues")
        return plan

    def _lock(self) -> InstallLock:
        """Return the lock of the installation. Raises SetupError if the folder is not writable."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            return InstallLock(
                self.folder.with_name(f"{self.folder.name}.lock"),
                on_wait=lambda: _say("Another start of the program is installing; waiting for it"),
            )
        except OSError as error:
            message = f"{self.folder.parent} is not writable ({error.strerror}); {own_folder.advice()}"
            if self.own is not None:
                message = f"the program's folder {self.root} is not yours, and {message}"
            raise SetupError(message) from error

    def _works(self, installer: Installer) -> bool:
        """Whether the environment's Python starts, has the version of its packages, and suits the installer."""
        if not self.python.exists():
            return False
        command = [str(self.python), "-c", installer.probe]
        return subprocess.run(command, capture_output=True, env=child_environ(), check=False).returncode == 0

    def _packages(self) -> Path:
        """The folder of the environment's packages."""
        line = [str(self.python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        shown = subprocess.run(line, capture_output=True, encoding="utf-8", env=child_environ(), check=True).stdout
        return Path(shown.strip())

    def _create(self, installer: Installer) -> None:
        if Path(sys.prefix).resolve() == self.folder.resolve():
            raise SetupError(f"{self.folder} runs this very command and must be made anew; use another Python")
        _say(f"Creating an environment in {self.folder} (Python {sys.version.split()[0]}, {installer.name})")
        try:
            if self.folder.exists():
                shutil.rmtree(self.folder)
        except OSError as error:
            message = f"the old {self.folder} cannot be removed ({error.strerror}); delete it and start again"
            raise SetupError(message) from error
        created = subprocess.run(
            installer.create(self.folder),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=child_environ(),
            check=False,
        )
        if created.returncode or not self._works(installer):
            raise SetupError(_venv_failure(created.stdout + created.stderr))

    def _install(self, installer: Installer, extras: Sequence[str], torch_index: str | None) -> None:
        """Install torch alone from its own index, if one is given, then all else. Raises SetupError."""
        if self.own is None:
            steps = [["--editable", str(self.root) + (f"[{','.join(extras)}]" if extras else "")]]
        else:  # an editable installation writes into the program's folder
            steps = [own_folder.requirements(self.root / "pyproject.toml", extras)]
        if torch_index:
            torch = torch_build.requirement(self.root / "pyproject.toml")
            steps.insert(0, ["--no-deps", "--index-url", torch_index, torch])
        with InstallLog(self.log_file) as log:
            for packages in steps:
                command = installer.install(self.python, packages, child_environ())
                if code := _run(command, log, self.root):
                    log.show_tail()
                    message = f"the installation failed ({installer.name} exit code {code})"
                    raise SetupError(f"{message}; the whole log is {self.log_file}")
        if self.own is not None:
            own_folder.add_program(self._packages(), self.root)
        _say(f"Installed in {log.seconds:.0f} s")


def enter(arguments: Arguments, script: str, argv: Sequence[str]) -> int | None:
    """Bring the environment up to date and continue in it with the same command line.

    Returns None if this process already runs in the environment and must run the command, or an exit code if a child
    process ran the command or nothing is left to do. On POSIX, a call outside the environment replaces the process and
    does not return. Raises SetupError.

    script: path of `launch.py`. argv: the command line that `arguments` was parsed from.
    """
    extras = [EXTRAS[arguments.command]] if arguments.command in EXTRAS else []
    extras += ["window"] if arguments.window else []
    environment = Environment(root=Path(script).parent)
    ready = os.environ.pop(_READY, "")
    inside = ready in (str(environment.folder), str(own_folder.own_folder(environment.root)))
    if not inside:
        environment = environment.usable(extras, arguments.torch)
        environment.ensure(extras, arguments.torch)
        if advice := environment.advice():
            _say(advice)
    if arguments.command == "setup":
        _say(f"The environment in {environment.folder} is ready")
        return 0
    if inside:
        return None
    command = [str(environment.python), script, *argv]
    environ = {**child_environ(arguments.command), _READY: str(environment.folder)}
    if os.name != "nt":
        sys.stdout.flush()
        os.execve(command[0], command, environ)
    return run_and_wait(command, environ)


def child_environ(command: str = "") -> dict[str, str]:
    """Return the settings of a command and the variables of this process, without those that redirect Python or pip."""
    inherited = {name: value for name, value in os.environ.items() if name not in _REMOVED}
    return {**settings_of(command), **inherited}


def settings_of(command: str) -> dict[str, str]:
    """Return `SETTINGS`, for a command of _ONLINE_COMMANDS without the ban on the hub.

    Without the allocator's settings too where the user has set them, by whatever name.
    """
    dropped = {"HF_HUB_OFFLINE"} if command in _ONLINE_COMMANDS else set()
    if any(name in os.environ for name in _ALLOCATOR_SETTINGS):
        dropped.add("PYTORCH_ALLOC_CONF")
    return {name: value for name, value in SETTINGS.items() if name not in dropped}


def _run(command: list[str], log: InstallLog, folder: Path) -> int:
    """Run an installer in `folder`, hand its lines to the log, and return its exit code."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=child_environ(),
        cwd=folder,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            log.take(line.rstrip("\n"))
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def run_and_wait(command: list[str], environ: dict[str, str]) -> int:
    """Run the command in a child process, where the system cannot replace this one. Return its exit code.

    Ctrl-C reaches the child as well. This process ignores it and waits until the child has ended.
    """
    process = subprocess.Popen(command, env=environ)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def _identity(python: Path) -> str:
    """Return the real path, size and modification time of an interpreter; an empty string if it does not exist."""
    try:
        status = python.stat()
    except OSError:
        return ""
    return f"{os.path.realpath(python)} {status.st_size} {status.st_mtime_ns}"


def _venv_failure(output: str) -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if "ensurepip" in output or "python3-venv" in output:
        return (
            f"this Python ({sys.executable}) cannot create environments: its ensurepip module is missing; "
            f"on Debian or Ubuntu run: sudo apt install python{version}-venv"
        )
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "no message")
    return f"the environment cannot be created: {last.strip()}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
