"""The program's own environment: made on first run, brought up to date when `pyproject.toml` changes.

Standard library only. A stamp is written last, so an interrupted installation is seen and continued at the
next start; a lock file lets two first runs take turns.
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
    "OMP_WAIT_POLICY": "passive",  # spinning threads slow each other a hundredfold beside a server
    # glibc gives freed buffers of some megabytes back at once, and page faults then cost more than the work in them
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
"""Set before anything is imported; a person's own values win."""

_FOREIGN = (
    "PYTHONHOME",
    "__PYVENV_LAUNCHER__",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
)
# what commands need beyond the program
_EXTRAS = {"test": "test", "bench": "bench", "eval": "bench", "train": "bench"}
_READY = "SALA_DESKTOP_ENVIRONMENT"


class SetupError(Exception):
    """The environment cannot be made. Outside `sala_core.errors`, which cannot be imported without it."""


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What a finished installation was made from; another value means installing again."""

    pyproject: str
    extras: tuple[str, ...]
    executable: str
    """Real path, size and time of the interpreter behind the environment: an upgraded Python is noticed."""

    @classmethod
    def load(cls, file: Path) -> "Stamp | None":
        """The stamp in `file`; None where there is none or it is damaged."""
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return cls(pyproject=values["pyproject"], extras=tuple(values["extras"]), executable=values["executable"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, file: Path) -> None:
        """Write the stamp in one step."""
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

    def wanted(self, extras: Sequence[str]) -> Stamp:
        """The stamp that an installation finished now would get."""
        digest = hashlib.sha256((self.root / "pyproject.toml").read_bytes()).hexdigest()
        return Stamp(pyproject=digest, extras=tuple(sorted(set(extras))), executable=_identity(self.python))

    def is_current(self, extras: Sequence[str]) -> bool:
        """Whether the installation is finished, from this `pyproject.toml`, with at least these extras."""
        stamp = Stamp.load(self.stamp_file)
        if stamp is None or not set(extras) <= set(stamp.extras):
            return False
        wanted = self.wanted(extras)
        return stamp.pyproject == wanted.pyproject and stamp.executable == wanted.executable != ""

    def ensure(self, extras: Sequence[str]) -> None:
        """Make, repair or update the environment where needed; progress goes to stderr. Raises SetupError."""
        if self.is_current(extras):
            return
        with self._turn():
            if self.is_current(extras):
                return
            stamp = Stamp.load(self.stamp_file)
            extras = sorted({*extras, *(stamp.extras if stamp else ())})
            self.stamp_file.unlink(missing_ok=True)
            if not self._works():
                self._create()
            self._forget_half_installed()
            self._install(extras)
            self.wanted(extras).save(self.stamp_file)

    def _turn(self) -> InstallLock:
        """The right to install; waits for another start that is installing."""
        try:
            return InstallLock(
                self.root / ".venv.lock",
                on_wait=lambda: _say("Another start of the program is installing; waiting for it"),
            )
        except OSError as error:
            message = f"{self.root} is not writable ({error.strerror}); copy the program to a folder of yours"
            raise SetupError(message) from error

    def _works(self) -> bool:
        """Whether the environment's Python starts, has pip, and is the version its packages are for."""
        if not self.python.exists():
            return False
        probe = "import pip, sys, sysconfig, os; sys.exit(not os.path.isdir(sysconfig.get_path('purelib')))"
        command = [str(self.python), "-c", probe]
        return subprocess.run(command, capture_output=True, env=child_environ(), check=False).returncode == 0

    def _create(self) -> None:
        if Path(sys.prefix).resolve() == self.folder.resolve():
            raise SetupError(f"{self.folder} is damaged and runs this very command; use another Python")
        _say(f"Making an environment in {self.folder} (Python {sys.version.split()[0]})")
        try:
            if self.folder.exists():
                shutil.rmtree(self.folder)
        except OSError as error:
            message = f"the old {self.folder} cannot be removed ({error.strerror}); delete it and start again"
            raise SetupError(message) from error
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(self.folder)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=child_environ(),
            check=False,
        )
        if made.returncode or not self._works():
            raise SetupError(_why_no_venv(made.stdout + made.stderr))

    def _forget_half_installed(self) -> None:
        """Drop the metadata of packages cut short: pip writes RECORD last, yet takes them for installed."""
        pattern = "Lib/site-packages/*.dist-info" if os.name == "nt" else "lib/python*/site-packages/*.dist-info"
        for metadata in self.folder.glob(pattern):
            if not (metadata / "RECORD").is_file():
                shutil.rmtree(metadata, ignore_errors=True)

    def _install(self, extras: Sequence[str]) -> None:
        target = str(self.root) + (f"[{','.join(extras)}]" if extras else "")
        command = [
            str(self.python),
            "-u",
            "-m",
            "pip",
            "install",
            "--no-input",
            "--disable-pip-version-check",
        ]
        command += [
            "--progress-bar",
            "raw" if self._pip_version() >= (24, 1) else "off",
            "--editable",
            target,
        ]
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
    """Bring the environment up to date and go on inside it with the same command line.

    Returns None where this process is the one to run the command, an exit code where a child ran it or
    nothing is left to do; on POSIX a first call replaces the process and does not return. Raises SetupError.
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
    """This process's variables without those that lead Python or pip elsewhere, over `SETTINGS`."""
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    return {**SETTINGS, **kept}


def _run_and_wait(command: list[str], environ: dict[str, str]) -> int:
    """Where a process cannot be replaced: Ctrl-C reaches the child too, which ends in its own way."""
    process = subprocess.Popen(command, env=environ)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def _identity(python: Path) -> str:
    """Real path, size and time of an interpreter; empty where it is gone."""
    try:
        status = python.stat()
    except OSError:
        return ""
    return f"{os.path.realpath(python)} {status.st_size} {status.st_mtime_ns}"


def _why_no_venv(output: str) -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if "ensurepip" in output or "python3-venv" in output:
        return (
            f"this Python ({sys.executable}) cannot make environments: its ensurepip module is missing; "
            f"on Debian or Ubuntu run: sudo apt install python{version}-venv"
        )
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "no message")
    return f"the environment cannot be made: {last.strip()}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
