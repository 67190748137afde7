"""The program's own environment: created on the first run, updated when `pyproject.toml` changes.

Standard library only. The installation writes a stamp file last. A start that finds no valid stamp continues the
interrupted installation. A lock file makes sure that only one start installs at a time.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from app.grammar.parser import Arguments
from app.setup.install_lock import InstallLock
from app.setup.install_log import InstallLog

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

_REMOVED = (
    "PYTHONHOME",
    "__PYVENV_LAUNCHER__",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
)
_EXTRAS = {"test": "test", "check": "test", "bench": "bench", "eval": "bench", "train": "bench"}
"""Command -> the optional dependencies that it needs."""

_READY = "SALA_DESKTOP_ENVIRONMENT"


class SetupError(Exception):
    """The environment cannot be created. Not part of `sala_core.errors`: `sala_core` needs the environment."""


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What an installation was made from. If any value changes, the program installs again."""

    pyproject: str
    extras: tuple[str, ...]
    executable: str
    """Real path, size and modification time of the environment's interpreter, which change when Python is upgraded."""

    @classmethod
    def load(cls, file: Path) -> "Stamp | None":
        """Return the stamp in `file`; None if there is none or it is damaged."""
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return cls(pyproject=values["pyproject"], extras=tuple(values["extras"]), executable=values["executable"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, file: Path) -> None:
        """Write the stamp atomically."""
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(file)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The `.venv` beside `launch.py`."""

    root: Path
    """Folder of `pyproject.toml`."""

    @property
    def folder(self) -> Path:
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def stamp_file(self) -> Path:
        return self.folder / "installed.json"

    @property
    def log_file(self) -> Path:
        return self.folder / "install.log"

    def stamp(self, extras: Sequence[str]) -> Stamp:
        """Return the stamp of an installation with these extras, from the present `pyproject.toml` and interpreter."""
        digest = hashlib.sha256((self.root / "pyproject.toml").read_bytes()).hexdigest()
        return Stamp(pyproject=digest, extras=tuple(sorted(set(extras))), executable=_identity(self.python))

    def is_current(self, extras: Sequence[str]) -> bool:
        """Whether a finished installation fits `pyproject.toml` and the interpreter and has at least these extras."""
        installed = Stamp.load(self.stamp_file)
        if installed is None or not set(extras) <= set(installed.extras):
            return False
        current = self.stamp(extras)
        return installed.pyproject == current.pyproject and installed.executable == current.executable != ""

    def ensure(self, extras: Sequence[str]) -> None:
        """Create, repair or update the environment if needed. Prints progress to stderr. Raises SetupError."""
        if self.is_current(extras):
            return
        with self._lock():
            if self.is_current(extras):
                return
            installed = Stamp.load(self.stamp_file)
            extras = sorted({*extras, *(installed.extras if installed else ())})
            self.stamp_file.unlink(missing_ok=True)
            if not self._works():
                self._create()
            self._remove_partial_metadata()
            self._install(extras)
            self.stamp(extras).save(self.stamp_file)

    def _lock(self) -> InstallLock:
        """Return the lock of the installation. Raises SetupError if the folder is not writable."""
        try:
            return InstallLock(
                self.root / ".venv.lock",
                on_wait=lambda: _say("Another start of the program is installing; waiting for it"),
            )
        except OSError as error:
            message = f"{self.root} is not writable ({error.strerror}); copy the program to a folder of your own"
            raise SetupError(message) from error

    def _works(self) -> bool:
        """Whether the environment's Python starts, has pip, and has the version that its packages are for."""
        if not self.python.exists():
            return False
        probe = "import pip, sys, sysconfig, os; sys.exit(not os.path.isdir(sysconfig.get_path('purelib')))"
        command = [str(self.python), "-c", probe]
        return subprocess.run(command, capture_output=True, env=child_environ(), check=False).returncode == 0

    def _create(self) -> None:
        if Path(sys.prefix).resolve() == self.folder.resolve():
            raise SetupError(f"{self.folder} is damaged and runs this very command; use another Python")
        _say(f"Creating an environment in {self.folder} (Python {sys.version.split()[0]})")
        try:
            if self.folder.exists():
                shutil.rmtree(self.folder)
        except OSError as error:
            message = f"the old {self.folder} cannot be removed ({error.strerror}); delete it and start again"
            raise SetupError(message) from error
        created = subprocess.run(
            [sys.executable, "-m", "venv", str(self.folder)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=child_environ(),
            check=False,
        )
        if created.returncode or not self._works():
            raise SetupError(_venv_failure(created.stdout + created.stderr))

    def _remove_partial_metadata(self) -> None:
        """Remove the metadata of partly installed packages. pip writes RECORD last, but counts them as installed."""
        pattern = "Lib/site-packages/*.dist-info" if os.name == "nt" else "lib/python*/site-packages/*.dist-info"
        for metadata in self.folder.glob(pattern):
            if not (metadata / "RECORD").is_file():
                shutil.rmtree(metadata, ignore_errors=True)

    def _install(self, extras: Sequence[str]) -> None:
        target = str(self.root) + (f"[{','.join(extras)}]" if extras else "")
        command = [str(self.python), "-u", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        command += ["--progress-bar", "raw" if self._pip_version() >= (24, 1) else "off", "--editable", target]
        _say("Installing what the program needs (a few minutes the first time; safe to interrupt)")
        with InstallLog(self.log_file) as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                env=child_environ(),
                cwd=self.root,
            )
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    log.take(line.rstrip("\n"))
                code = process.wait()
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
            if code:
                log.show_tail()
                raise SetupError(f"the installation failed (pip exit code {code}); the whole log is {self.log_file}")
        _say(f"Installed in {log.seconds:.0f} s")

    def _pip_version(self) -> tuple[int, ...]:
        probe = "import pip; print(pip.__version__)"
        output = subprocess.run(
            [str(self.python), "-c", probe],
            capture_output=True,
            encoding="utf-8",
            env=child_environ(),
            check=False,
        ).stdout
        return tuple(int(part) for part in output.strip().split(".")[:2] if part.isdigit())


def enter(arguments: Arguments, script: str, argv: Sequence[str]) -> int | None:
    """Bring the environment up to date and continue in it with the same command line.

    Returns None if this process already runs in the environment and must run the command, or an exit code if a child
    process ran the command or nothing is left to do. On POSIX, a call outside the environment replaces the process and
    does not return. Raises SetupError.

    script: path of `launch.py`. argv: the command line that `arguments` was parsed from.
    """
    environment = Environment(root=Path(script).parent)
    inside = os.environ.pop(_READY, "") == str(environment.folder)
    if not inside:
        environment.ensure([_EXTRAS[arguments.command]] if arguments.command in _EXTRAS else [])
    if arguments.command == "setup":
        _say(f"The environment in {environment.folder} is ready")
        return 0
    if inside:
        return None
    command = [str(environment.python), script, *argv]
    environ = {**child_environ(), _READY: str(environment.folder)}
    if os.name != "nt":
        sys.stdout.flush()
        os.execve(command[0], command, environ)
    return _run_and_wait(command, environ)


def child_environ() -> dict[str, str]:
    """Return `SETTINGS` and the variables of this process, without those that redirect Python or pip."""
    inherited = {name: value for name, value in os.environ.items() if name not in _REMOVED}
    return {**SETTINGS, **inherited}


def _run_and_wait(command: list[str], environ: dict[str, str]) -> int:
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
