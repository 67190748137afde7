"""A process that is killed at any step of any operation leaves a library that is as before or as after."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from made_library import content, copy_of, make_library

from sala_core.errors import LibraryDamagedError
from sala_core.store import Library
from sala_core.store.integrity.repair import repair_library
from sala_core.store.integrity.verify import verify_library

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")

SCRIPT = Path(__file__).parents[2] / "crash_steps.py"
FIRST_SCHEMA = Path(__file__).with_name("first-schema.tar.xz")
FEW_KILLS = 20
STRIDE = 4
"""The short form kills at every fourth step, `--kills` above 20 at every step."""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Operation -> the library that it starts from."""
    base = tmp_path_factory.mktemp("start")
    make_library(base / "whole")
    lost = copy_of(base / "whole", base / "lost")
    for path in lost.glob("library.*"):
        if path.name.startswith("library.db") or "copy" in path.name:
            path.unlink()
    with tarfile.open(FIRST_SCHEMA) as archive:
        archive.extractall(base / "first", filter="data")
    return {"repair": lost, "migrate": base / "first", "": base / "whole"}


@pytest.fixture(scope="module")
def processes():
    """The process that forks those that are killed."""
    root = Path(__file__).parents[4]
    path = os.pathsep.join([str(root), str(root / "kernels"), str(root / "tests" / "sala_core")])
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    yield process
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


def kill(processes, operation, step, folder):
    processes.stdin.write(f"{operation} {step} {folder}\n")
    processes.stdin.flush()
    return processes.stdout.readline().strip()


def without_state(found):
    """Content without heads: which states are there is not part of what was said."""
    return {name: (*row[:2], *row[4:]) if isinstance(row, tuple) else row for name, row in found.items()}


def settled(folder):
    """Open, and repair first if that is asked for; what a library holds then, after all checks."""
    try:
        Library.open(folder).close()
    except LibraryDamagedError:
        list(repair_library(folder))
    with Library.open(folder) as library:
        assert library.take_notices() == []
        assert [each for each in verify_library(library) if each.problem] == []
        library.collect_garbage(min_age_s=0)
        assert library.usage().stray_bytes == 0
        known = {row.id for row in library.sessions()} | {"library"}
        assert {path.stem for path in library.locks_folder.glob("*.lock")} <= known
    assert not [path for path in folder.rglob("*.tmp")], "half-written files are collected"
    return without_state(content_of(folder))


def content_of(folder):
    with Library.open(folder) as library:
        if "tale" not in {row.name for row in library.sessions()}:
            return {row.name: (row.id, len(library.messages(row.id))) for row in library.sessions()}
    return content(folder)


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "operation", ["open", "read", "turn", "fork", "rename", "delete", "evict", "copy", "migrate", "repair"]
)
def test_a_kill_at_every_step_leaves_the_old_or_the_new(operation, start, processes, tmp_path, pytestconfig):
    origin = start.get(operation, start[""])
    whole = copy_of(origin, tmp_path / "done")
    assert kill(processes, operation, 0, whole) == "done"
    new = settled(whole)
    old = new if operation in ("migrate", "repair") else settled(copy_of(origin, tmp_path / "old"))
    names = {"turn": "tale", "fork": "third", "rename": "tale of two"}
    stride = STRIDE if pytestconfig.getoption("--kills") <= FEW_KILLS else 1
    kills = 0
    for step in range(1, 2000, stride):
        folder = copy_of(origin, tmp_path / "killed")
        if kill(processes, operation, step, folder) == "done":
            break
        kills += 1
        found = settled(folder)
        if operation in ("turn", "fork"):  # ids are made anew each time
            found, expected = sizes(found), (sizes(old), sizes(new))
        else:
            expected = (old, new)
        assert found in expected, f"{operation}, step {step}, {names.get(operation)}"
    assert kills > 0, "no step was ever reached"
    print(f"{operation}: {kills} kills")


def sizes(found):
    return {name: [len(each) for each in row if isinstance(each, list)] for name, row in found.items() if row}
