"""Every system call that fails gives one error of ours, loses nothing, and deleting is always possible."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from made_library import FINGERPRINT, TURN, add_turn, content, copy_of, encoded, make_library, save

from sala_core.errors import DiskFullError, LibraryError, SalaError
from sala_core.store import Library
from sala_core.store.integrity import library_folder
from sala_core.store.integrity.repair import repair_library
from sala_core.store.integrity.verify import verify_library
from sala_core.store.states import StateStore

CALLS = ("write", "fsync", "replace", "rename", "unlink", "open", "chmod")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sound, closed library."""
    folder = tmp_path_factory.mktemp("whole") / "library"
    make_library(folder)
    return folder


@contextmanager
def failing(monkeypatch, call, number, code):
    """Let the call with this number of os.`call` fail, and every later one of a full disk. Yields how many came."""
    real, seen = getattr(os, call), [0]

    def sometimes(*arguments, **options):
        seen[0] += 1
        if seen[0] == number or (code == errno.ENOSPC and seen[0] > number and call in ("write", "open")):
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, sometimes)
        yield seen


def read(folder):
    with Library.open(folder) as library:
        library.put_document(encoded("Another text.\n"), "tokenizer-a")


def turn(folder):
    with Library.open(folder) as library, library.lock_session("tale"):
        add_turn(library, StateStore(library, FINGERPRINT), "Later.")


def fork(folder):
    with Library.open(folder) as library:
        library.fork_session("tale", "third")


def delete(folder):
    with Library.open(folder) as library:
        library.delete_session("tale")


def evict(folder):
    with Library.open(folder) as library:
        library.evict(0)
        library.collect_garbage(min_age_s=0)


OPERATIONS = {"read": read, "turn": turn, "fork": fork, "delete": delete, "evict": evict, "repair": repair_library}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_every_failing_call_gives_one_error_of_ours_and_leaves_a_sound_library(
    whole, tmp_path, monkeypatch, operation, code
):
    failures = 0
    for call in CALLS:
        for number in range(1, 200):
            folder = copy_of(whole, tmp_path / "library")
            error = None
            with failing(monkeypatch, call, number, code) as seen:
                try:
                    for _ in OPERATIONS[operation](folder) or ():
                        pass
                except SalaError as caught:
                    error = caught
            if seen[0] < number:
                break
            if error is not None:
                failures += 1
                assert code == errno.EIO or "permission" not in str(error), error
                assert code == errno.EIO or isinstance(error, DiskFullError) or call not in ("write", "fsync"), error
            if operation == "repair" and error is not None:
                list(repair_library(folder))
            with Library.open(folder) as library:
                wrong = [each for each in verify_library(library) if each.problem]
                assert [each for each in wrong if each.kind != "record"] == [], (call, number)
            content_is_whole(folder, operation)
    assert failures > 0 or operation in ("delete", "evict"), "nothing has failed"


def content_is_whole(folder, operation):
    """What the operation does not touch is there, and what it does is there or not, but not in part."""
    with Library.open(folder) as library:
        names = {row.name for row in library.sessions()}
        assert "copy" in names
        assert operation == "delete" or "tale" in names
        for name in names:
            row = library.session(name)
            assert len(library.token_ids(row.id, 0, row.num_tokens)) in (66, 66 + len(TURN))
            assert len(library.messages(row.id)) in (2, 4)


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
