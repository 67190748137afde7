"""Every system call that fails gives one error of ours, loses nothing, and deleting is always possible."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from crash_steps import same_ids
from library_check import settled
from library_operations import CHANGES_NOTHING, OPERATIONS, STARTS, make_starts, run
from made_library import FINGERPRINT, content, copy_of, encoded, make_library, save
from sqlite_calls import GO_ON, need_vfs, watched

from sala_core.errors import DiskFullError, LibraryError, SalaError
from sala_core.store import Library
from sala_core.store.integrity import library_folder
from sala_core.store.states import StateStore

CALLS = ("write", "fsync", "replace", "rename", "unlink", "open", "chmod", "mkdir", "flock")
SQLITE_CALLS = {"write": 778, "sync": 1034, "truncate": 1546, "delete": 2570, "open": 14}
"""Call of SQLite -> the result code for a failing disk."""
SQLITE_FULL = 13
FULL_CALLS = ("write", "open", "sqlite write")
"""Calls that fail on a full disk, from the first failure on."""
DELETE = ("delete", "bin", "empty bin", "delete turn", "evict")
"""Operations that have to succeed on a full disk."""
SHORT_FAILURES = 2
"""The short form lets one more call of each kind than these fail, spread over all; `--kills` above 20 every one."""


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """Start -> the folder with the library that operations start from."""
    need_vfs()
    return make_starts(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def whole(starts):
    """A sound, closed library."""
    return starts["whole"] / "library"


@contextmanager
def failing(monkeypatch, call, number, code):
    """Let the call with this number fail, and every later one of a full disk, until the library deletes a file.

    Yields how many came.
    """
    seen, freed, real_unlink = [0], [], os.unlink

    def fails():
        seen[0] += 1
        is_full = code == errno.ENOSPC and seen[0] > number > 0 and call in FULL_CALLS
        return seen[0] == number or (is_full and not freed)

    def unlink(path, *arguments, **options):
        real_unlink(path, *arguments, **options)
        if not str(path).endswith(".tmp"):
            freed.append(path)

    def watch(name, *_):
        if call != f"sqlite {name}" or not fails():
            return GO_ON
        return SQLITE_FULL if code == errno.ENOSPC else SQLITE_CALLS[name]

    module = fcntl if call == "flock" else os
    real = None if call.startswith("sqlite") else getattr(module, call)

    def sometimes(*arguments, **options):
        is_for_reading = call == "open" and not arguments[1] & os.O_CREAT
        if not (is_for_reading and code == errno.ENOSPC) and fails():
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    with monkeypatch.context() as patched, watched(watch):
        same_ids(patched)
        if call in FULL_CALLS:
            patched.setattr(os, "unlink", unlink)
        if real is not None:
            patched.setattr(module, call, sometimes)
        yield seen


def failure_of(operation, case):
    """Do an operation; the error of ours that it ends with, or None. Any other fails the test."""
    try:
        run(operation, case / "library")
    except SalaError as error:
        return error
    return None


@pytest.mark.timeout(0)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_every_failing_call_gives_one_error_of_ours_and_leaves_a_sound_library(
    starts, tmp_path, monkeypatch, unsynced, pytestconfig, operation, code
):
    start = starts[STARTS.get(operation, "whole")]
    done = copy_of(start, tmp_path / "done")
    with failing(monkeypatch, "write", 0, errno.EIO):
        assert failure_of(operation, done) is None
    new = settled(done / "library")
    old = new if operation in CHANGES_NOTHING else settled(copy_of(start, tmp_path / "old") / "library")
    failures, wrong = 0, []
    calls = [*CALLS, *(f"sqlite {name}" for name in SQLITE_CALLS)]
    if code == errno.ENOSPC:
        calls = [*FULL_CALLS, "fsync", "replace"]
    for call in calls:
        with failing(monkeypatch, call, 0, errno.EIO) as seen:
            assert failure_of(operation, copy_of(start, tmp_path / "library")) is None
        for number in chosen(seen[0], pytestconfig.getoption("--kills")):
            case = copy_of(start, tmp_path / "library")
            with failing(monkeypatch, call, number, code):
                error = failure_of(operation, case)
            failures += error is not None
            if problem := what_is_wrong(operation, case, error, code, old=old, new=new):
                wrong.append(f"{call} {number} of {seen[0]}: {problem}; said: {error!r}")
    assert not wrong, "\n".join(wrong)
    print(f"{operation}: {failures} errors")


def what_is_wrong(operation, case, error, code, *, old, new):
    """Whether an operation that ended with this error, or with none, did or said something wrong; "" if not."""
    said = str(error or "")
    if "permission" in said or "Errno" in said:
        return "no clear message"
    if error is not None and code == errno.ENOSPC and not isinstance(error, DiskFullError):
        return "a full disk is not called full"
    if error is not None and code == errno.ENOSPC and operation in DELETE:
        return "deleting is not possible on a full disk"
    if error is not None and (case / "made.sala").exists():
        return "a file of the operation that failed is there"
    try:
        found = settled(case / "library")
    except (AssertionError, SalaError) as problem:
        return f"not sound: {problem!r}"
    return "" if found == (new if error is None else old) else "neither as before nor as after"


def chosen(total, kills):
    """Which of so many calls fail."""
    if kills > 20:
        return range(1, total + 1)
    if not total:
        return []
    return sorted({1 + round(each * (total - 1) / SHORT_FAILURES) for each in range(SHORT_FAILURES + 1)})


@pytest.mark.parametrize("operation", ["delete", "drop", "evict", "collect"])
def test_deleting_uses_the_space_that_was_set_aside(whole, tmp_path, monkeypatch, operation):
    folder = copy_of(whole, tmp_path / "library")
    with Library.open(folder) as library:
        real = library.database.write

        @contextmanager
        def write():
            if (folder / "library.reserve").exists():
                raise DiskFullError("the disk is full")
            with real() as conn:
                yield conn

        monkeypatch.setattr(library.database, "write", write)
        work = {
            "delete": lambda: library.delete_session("tale"),
            "drop": lambda: library.drop_state("tale") + library.drop_state("copy"),
            "evict": lambda: library.evict(0),
            "collect": lambda: library.collect_garbage(min_age_s=0),
        }[operation]
        work()
        assert (folder / "library.reserve").exists(), "it is set aside again"
        monkeypatch.undo()
        assert operation != "delete" or [row.name for row in library.sessions()] == ["copy"]


def test_where_that_is_not_enough_the_states_of_the_deleted_session_make_room(whole, tmp_path, monkeypatch):
    folder = copy_of(whole, tmp_path / "library")
    with Library.open(folder) as library:
        library.delete_session("copy")
        real, size = library.database.write, len(list((folder / "states").iterdir()))

        @contextmanager
        def write():
            if len(list((folder / "states").iterdir())) == size:
                raise DiskFullError("the disk is full")
            with real() as conn:
                yield conn

        monkeypatch.setattr(library.database, "write", write)
        library.delete_session("tale")
        monkeypatch.undo()
        assert library.sessions() == []


FULL = """
import os, sys
from pathlib import Path
from sala_core.errors import DiskFullError
from sala_core.store import Library, PartDraft
import numpy as np
folder = Path(sys.argv[1])
with Library.open(folder) as library:
    for name in "abc":
        session = library.create_session(name, model="A", fingerprint="f")
        library.append_parts(session.id, [PartDraft(kind="system", token_ids=np.arange(20_000) + ord(name))])
with open(folder.parent / "filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(bytes(4096))
    except OSError:
        pass
with Library.open(folder) as library:
    try:
        for step in range(200):
            library.append_parts("a", [PartDraft(kind="user", token_ids=np.arange(step, step + 20_000))])
    except DiskFullError as error:
        print("full:", "delete sessions" in str(error), "permission" in str(error))
    for name in "abc":
        library.delete_session(name)
    print("left:", len(library.sessions()))
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk")
def test_on_a_disk_that_is_really_full_sessions_can_be_deleted(tmp_path, environment):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(disk / "library")], env=environment, capture_output=True, text=True
        )
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert done.stdout.splitlines() == ["full: True False", "left: 0"], done.stderr[-2000:]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_folder_and_files_are_private_or_the_reason_is_given(tmp_path, monkeypatch):
    old, other = tmp_path / "old", tmp_path / "photos"
    make_library(old)
    before = content(old)
    for path in (old, old / "states", old / "library.db"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert content(old) == before
    assert {oct(path.stat().st_mode & 0o077) for path in (old, old / "states", old / "library.db")} == {"0o0"}
    other.mkdir(mode=0o755)
    other.chmod(0o755)
    Library.open(other).close()
    assert other.stat().st_mode & 0o777 == 0o700, "an empty folder becomes private"
    shutil.rmtree(other)
    other.mkdir()
    other.chmod(0o755)
    (other / "holiday.jpg").touch()
    with pytest.raises(LibraryError, match=r"mode 755.*holiday\.jpg.*chmod 700"):
        Library.open(other)
    assert [path.name for path in other.iterdir()] == ["holiday.jpg"]
    old.chmod(0o755)
    monkeypatch.setattr(library_folder.os, "chmod", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no owner")))
    with pytest.raises(LibraryError, match="its owner has to run: chmod 700"):
        Library.open(old)


READ_ONLY = """
import os, sys
from pathlib import Path
from sala_core.errors import LibraryError
from sala_core.store.library import Library
from sala_core.store.integrity.verify import verify_library
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
with Library.open_to_read(Path(sys.argv[1])) as library:
    print([row.name for row in library.sessions()], len(library.messages("tale")))
    print([each.problem for each in verify_library(library) if each.problem])
    try:
        library.rename_session("tale", "other")
    except LibraryError as error:
        print("read-only" in str(error))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_a_read_only_library_can_be_read_and_verified(whole, tmp_path, environment):
    folder = copy_of(whole, tmp_path / "library")
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    above = [path for path in (tmp_path, *tmp_path.parents) if Path(tempfile.gettempdir()) in path.parents]
    for path in above:
        path.chmod(0o755)
    try:
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(folder)], env=environment, capture_output=True, text=True
        )
    finally:
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            path.chmod(0o700)
    assert done.stdout.splitlines() == ["['copy', 'tale'] 2", "[]", "True"], done.stderr[-2000:]


def test_the_quota_is_kept_and_makes_room_from_what_was_not_used_for_longest(tmp_path):
    with Library.open(tmp_path / "library") as library:
        store = StateStore(library, FINGERPRINT)
        ids = encoded().token_ids
        for name in ("old", "new"):
            session = library.create_session(name, model="A", fingerprint=FINGERPRINT)
            library.append_parts(session.id, [part(name, ids)])
            library.set_head(session.id, save(store, None, ids + ord(name[0]), 0), len(ids))
        used = library.usage().states_bytes
        library.set_quota(used)
    with Library.open(tmp_path / "library") as library, library.lock_session("new"):
        store = StateStore(library, FINGERPRINT)
        assert library.max_state_bytes == used
        save(store, None, ids + 7, 0)
        assert library.session("old").head is None, "its tokens and texts stay"
        assert library.session("old").num_tokens == len(ids)
        assert library.session("new").head is not None, "an open session is not touched"
        library.set_quota(None)
    with Library.open(tmp_path / "library") as library:
        assert library.max_state_bytes is None


def part(name, ids):
    from sala_core.store import PartDraft

    return PartDraft(kind="system", token_ids=ids + ord(name[0]))


def test_the_quota_first_drops_snapshots_that_no_session_stands_on(whole, tmp_path):
    with Library.open(copy_of(whole, tmp_path / "library")) as library:
        before = library.usage()
        head = library.session("tale").head
        library.make_room(before.states_bytes - 1)
        after = library.usage()
        assert (after.segments_bytes, library.session("tale").head) == (before.segments_bytes, head)
        assert after.snapshots_bytes < before.snapshots_bytes


def test_lock_files_of_deleted_sessions_go(whole, tmp_path):
    with Library.open(copy_of(whole, tmp_path / "library")) as library:
        gone = library.locks_folder / ("0" * 32 + ".lock")
        gone.touch()
        with library.lock_session("tale") as row:
            library.collect_garbage()
            assert {path.stem for path in library.locks_folder.glob("*.lock")} == {"library", row.id}
