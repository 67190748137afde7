"""A process that is killed at any step of any operation leaves a library that is as before or as after."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from library_check import settled
from library_operations import CHANGES_NOTHING, OPERATIONS, STARTS, make_starts
from made_library import copy_of
from sqlite_calls import need_vfs

from app.cli import run
from app.grammar.parser import parse

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")

SCRIPT = Path(__file__).parents[2] / "crash_steps.py"
SHORT_KILLS = 4
"""Kills for each operation in the short form, spread over its steps. `--kills` above 20 kills at every step, up to that
many times for each operation."""


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """Start -> the folder with the library that operations start from."""
    need_vfs()
    return make_starts(tmp_path_factory.mktemp("start"))


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
    processes.stdin.write(f"{step} {folder} {operation}\n")
    processes.stdin.flush()
    answer = processes.stdout.readline().strip()
    assert answer == "killed" or answer.startswith("done "), f"{operation}, step {step}: {answer}"
    return answer


@pytest.mark.timeout(0)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_at_every_step_leaves_the_old_or_the_new(operation, starts, processes, tmp_path, pytestconfig):
    start = starts[STARTS.get(operation, "whole")]
    whole = copy_of(start, tmp_path / "done")
    steps = int(kill(processes, operation, 0, whole / "library").removeprefix("done "))
    new = settled(whole / "library")
    old = new if operation in CHANGES_NOTHING else settled(copy_of(start, tmp_path / "old") / "library")
    made = (whole / "made.sala").read_bytes() if operation == "export" else None
    kills = pytestconfig.getoption("--kills")
    kills = SHORT_KILLS if kills <= 20 else min(kills, steps)
    for step in sorted({1 + round(number * (steps - 1) / max(kills - 1, 1)) for number in range(kills)}):
        case = copy_of(start, tmp_path / "killed")
        assert kill(processes, operation, step, case / "library") == "killed"
        assert settled(case / "library") in (old, new), f"{operation}, step {step}"
        if made is not None and (case / "made.sala").exists():
            assert (case / "made.sala").read_bytes() == made, f"{operation}, step {step}"
    print(f"{operation}: {kills} kills, {steps} steps")


@pytest.mark.parametrize(
    "next_command", [["fork", "copy", "third"], ["delete", "copy", "--now"], ["export", "copy", "x.sala"]]
)
def test_what_a_killed_process_left_is_collected_by_the_next_command(starts, tmp_path, monkeypatch, next_command):
    case = copy_of(starts["whole"], tmp_path / "case")
    folder = case / "library"
    left = [
        folder / "states" / ("0" * 32 + ".segment.safetensors"),
        folder / "documents" / f".{'1' * 32}.tmp",
        folder / "sessions" / f".{'2' * 32}.tmp",
        folder / "library.copy.db.tmp",
        folder / "library.copy.db.tmp-journal",
        folder / "locks" / ("3" * 32 + ".lock"),
        folder / "locks" / ("4" * 32 + ".holder"),
    ]
    for path in left:
        path.write_bytes(b"x")
        os.utime(path, (time.time() + 7200, time.time() + 7200))
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 4 * 3600)
    monkeypatch.chdir(case)
    assert run(parse([*next_command, "--library", str(folder)], program="sala")) == 0
    assert [path.name for path in left if path.exists()] == []


def test_what_a_killed_export_left_is_collected_by_the_next_one(starts, processes, tmp_path):
    case = copy_of(starts["whole"], tmp_path / "case")
    steps = int(kill(processes, "export", 0, case / "library").removeprefix("done "))
    for step in range(steps - 1, 0, -1):
        copy_of(starts["whole"], case)
        kill(processes, "export", step, case / "library")
        if left := list(case.glob(".*.tmp")):
            break
    for path in left:
        os.utime(path, (1, 1))
    assert kill(processes, "export", 0, case / "library").startswith("done ")
    assert sorted(path.name for path in case.iterdir()) == ["given.sala", "library", "made.sala"]
