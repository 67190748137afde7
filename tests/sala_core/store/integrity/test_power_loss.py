"""After a power cut at any moment a library is as before or as after, never a mixture.

Every call that writes is recorded, those of SQLite among them; each prefix is played back into a copy, with un-synced
writes dropped, torn and reordered (`recorded_writes.py`).
"""

import os
import shutil

import pytest
from crash_steps import same_ids
from library_check import settled
from library_operations import CHANGES_NOTHING, OPERATIONS, STARTS, make_starts, run
from made_library import copy_of
from recorded_writes import Disk, power_cuts, recorded
from sqlite_calls import need_vfs

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows syncs no folders")

SHORT_CUTS, SHORT_ORDERS = 5, 1
"""The short form cuts at a few moments, spread over those at which something is not synced. `--kills` above 20 cuts at
every one, with that many orders, divided by 100, at random."""


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """Start -> the folder with the library that operations start from."""
    need_vfs()
    return make_starts(tmp_path_factory.mktemp("start"))


def files_of(folder):
    """Path -> content of the files that are recorded."""
    left_out = ("library.reserve", "locks")
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if path.parent.name not in left_out and not path.name.startswith(left_out)
    }


def record(operation, case, monkeypatch):
    """Do an operation; return what it wrote."""
    with monkeypatch.context() as patch:
        same_ids(patch)
        with recorded(case, patch) as events:
            run(operation, case / "library")
    return events


def disks(start, events, is_long):
    """The disk after each recorded call, or after some of them, with the number of calls so far."""
    disk = Disk(start)
    chosen = range(len(events) + 1)
    if not is_long:
        stride = max(1, len(events) // SHORT_CUTS)
        chosen = {*range(len(events), -1, -stride)}
    for number in range(len(events) + 1):
        if number:
            disk.take(events[number - 1])
        if number in chosen:
            yield number, disk


@pytest.mark.timeout(0)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_power_cut_leaves_the_old_or_the_new(operation, starts, tmp_path, monkeypatch, unsynced, pytestconfig):
    start = starts[STARTS.get(operation, "whole")]
    case = copy_of(start, tmp_path / "done")
    events = record(operation, case, monkeypatch)
    played = Disk(start)
    for event in events:
        played.take(event)
    played.write_to(tmp_path / "played", lambda is_name: True)
    assert files_of(tmp_path / "played") == files_of(case), "not every write was recorded"
    made = (case / "made.sala").read_bytes() if operation == "export" else None
    new = settled(case / "library")
    old = new if operation in CHANGES_NOTHING else settled(copy_of(start, tmp_path / "old") / "library")
    kills = pytestconfig.getoption("--kills")
    seen, checked = set(), 0
    for number, disk in disks(start, events, is_long=kills > 20):
        for order, choose, chance in power_cuts(kills // 100 if kills > 20 else SHORT_ORDERS):
            cut = tmp_path / "cut"
            shutil.rmtree(cut, ignore_errors=True)
            disk.write_to(cut, choose, chance)
            found = files_of(cut)
            key = hash(tuple(sorted(found.items())))
            if key in seen and number < len(events):
                continue
            seen.add(key)
            checked += 1
            where = f"{operation}, after {number} of {len(events)} calls ({events[number - 1 : number]}), {order}"
            if made is not None and (cut / "made.sala").exists():
                assert (cut / "made.sala").read_bytes() == made, where
            try:
                after = settled(cut / "library")
            except Exception as error:
                raise AssertionError(where[:2000]) from error
            assert after in (old, new), where[:2000]
            assert after == new or number < len(events), f"{operation} is done, and lost: {order}"
    print(f"{operation}: {len(events)} calls, {checked} power cuts")
