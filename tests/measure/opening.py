"""How long a stored session takes to open and answer in a new process, and how much memory; of one or several trees.

    python tests/measure/opening.py LIBRARY SESSION QUESTION [TREE ...] [--runs N]

Each run asks a session of a copy of the library (files that never change are linked), so every run begins with the same
session and the library stays as it is. The trees take turns, because the speed of a machine changes from minute to
minute. Per tree: seconds from start to end, processor seconds of all threads (which other work on the machine changes
less), the largest memory, and that beside the state. A tree is a folder with `launch.py`; without one it is this one.
The processes run in this interpreter's environment.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("states", "documents")
"""Folders of a library whose files are never changed, only added and deleted."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process: wall clock and processor seconds, and the largest resident memory in bytes."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def copy_library(library: Path, target: Path) -> None:
    """Copy a library that nobody has open; states and texts are linked."""
    target.mkdir(mode=0o700)
    for entry in library.iterdir():
        if entry.name in LINKED:
            shutil.copytree(entry, target / entry.name, copy_function=os.link)
        elif entry.is_dir():
            shutil.copytree(entry, target / entry.name)
        else:
            shutil.copy2(entry, target / entry.name)


def ask(tree: Path, library: Path, session: str, question: str) -> Run:
    """Ask in a new process, as `launch.py` starts it once the environment is there."""
    with tempfile.TemporaryDirectory(dir=library.parent, prefix="opening-") as folder:
        copy_library(library, Path(folder) / "library")
        sys.path.insert(0, str(ROOT))
        from app.setup.environment import child_environ

        environ = child_environ() | {
            "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "kernels")]),
            "SALA_DESKTOP_ENVIRONMENT": str(tree / ".venv"),
        }
        environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
        command = [sys.executable, str(tree / "launch.py"), "--library", str(Path(folder) / "library")]
        started = time.monotonic()
        process = subprocess.Popen([*command, "ask", session, question], env=environ, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - started
        if status:
            raise SystemExit(f"{tree}: the process ended with status {os.waitstatus_to_exitcode(status)}")
        return Run(wall_s=wall_s, cpu_s=usage.ru_utime + usage.ru_stime, peak_bytes=usage.ru_maxrss * 1024)


def state_bytes(library: Path, session: str) -> int:
    """Bytes of a session's keys, values and recurrent states as they are stored."""
    from sala_core.store.library import Library

    with tempfile.TemporaryDirectory(dir=library.parent, prefix="opening-") as folder:
        copy_library(library, Path(folder) / "library")
        with Library.open(Path(folder) / "library") as opened:
            return opened.session_state_bytes(opened.session(session).id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("session")
    parser.add_argument("question")
    parser.add_argument("trees", type=Path, nargs="*", default=[ROOT])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    trees = [tree.resolve() for tree in options.trees]
    runs: dict[Path, list[Run]] = {tree: [] for tree in trees}
    for number in range(options.runs + 1):
        for tree in trees:
            run = ask(tree, options.library.resolve(), options.session, options.question)
            if number:  # the first one fills the disk cache and writes bytecode
                runs[tree].append(run)
                print(f"{tree}: {run.wall_s:.2f} s, {run.cpu_s:.2f} s processor, {run.peak_bytes / 2**20:.0f} MiB")
    size = state_bytes(options.library.resolve(), options.session)
    print(f"\nstate: {size / 2**20:.0f} MiB\n\n| tree | seconds, best (median) | processor | peak MiB | peak / state |")
    print("|---|---|---|---|---|")
    for tree, of_tree in runs.items():
        walls, cpus = [[getattr(run, name) for run in of_tree] for name in ("wall_s", "cpu_s")]
        peak = max(run.peak_bytes for run in of_tree)
        print(
            f"| {tree.name} | {min(walls):.2f} ({statistics.median(walls):.2f}) | {min(cpus):.2f} "
            f"({statistics.median(cpus):.2f}) | {peak / 2**20:.0f} | {peak / size:.2f} |"
        )


if __name__ == "__main__":
    main()
