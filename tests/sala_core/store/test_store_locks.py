"""One writer per session; a killed writer leaves no lock behind."""

import errno
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from sala_core.errors import SessionBusyError, SessionNotFoundError
from sala_core.store import Library
from sala_core.store.locks import is_held

CHILD = """
import sys, time
from pathlib import Path
from sala_core.store import Library
with Library.open(Path(sys.argv[1])) as library, library.lock_session("book"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(library, new_session, environment):
    """Another process that holds the session `book`."""
    new_session("book")
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(library.folder)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_another_process_is_refused_at_once_and_told_what_to_do(library, holder):
    started = time.perf_counter()
    with (
        pytest.raises(SessionBusyError, match="another window or command since") as caught,
        library.lock_session("book"),
    ):
        pass
    assert time.perf_counter() - started < 2
    assert re.search(r"'book'.* since \d\d:\d\d:\d\d; wait until that is done", str(caught.value))


def test_a_locked_session_can_be_read_renamed_and_forked_but_not_deleted_or_evicted(library, store, save, holder):
    state = save()
    session = library.session("book").id
    library.set_head(session, state, 4)
    with pytest.raises(SessionBusyError):
        library.delete_session(session)
    assert library.evict(0) == 0
    assert library.session(session).head == state
    assert library.fork_session(session, "branch").head == state
    assert library.rename_session(session, "renamed").name == "renamed"


def test_a_killed_holder_does_not_block(library, holder):
    holder.kill()
    holder.wait()
    with library.lock_session("book") as session:
        assert session.name == "book"


def test_a_stale_holder_file_is_ignored(library, new_session):
    session = new_session()
    with library.lock_session(session):
        (library.locks_folder / f"{session}.holder").write_text('{"pid": 999999999, "since": 0}')
        with pytest.raises(SessionBusyError, match="another window or command since"), library.lock_session(session):
            pass
        (library.locks_folder / f"{session}.holder").write_text("{")
        with pytest.raises(SessionBusyError, match="another window or command;"), library.lock_session(session):
            pass


def test_threads_of_one_process_exclude_each_other(library, new_session):
    session = new_session()
    inside, overlaps, refused = [], [], []

    def work():
        for _ in range(20):
            try:
                with library.lock_session(session):
                    inside.append(1)
                    overlaps.append(len(inside))
                    time.sleep(0.002)
                    inside.pop()
            except SessionBusyError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(overlaps) == 1
    assert all("this program" in text or "another window" in text for text in refused)


def test_the_lock_is_free_after_an_exception_and_not_reentrant(library, new_session):
    session = new_session()
    with pytest.raises(KeyError), library.lock_session(session):
        raise KeyError
    with library.lock_session(session), pytest.raises(SessionBusyError), library.lock_session(session):
        pass
    with library.lock_session(session):
        pass


def test_an_unknown_session_cannot_be_locked(library):
    with pytest.raises(SessionNotFoundError), library.lock_session("unknown"):
        pass
    assert [path.name for path in library.locks_folder.iterdir()] == ["library.lock"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")
def test_a_lock_that_cannot_be_given_back_at_once_does_not_stay(tmp_path, monkeypatch):
    import fcntl

    real, failed = fcntl.flock, []

    def flock(descriptor, operation):
        if operation == fcntl.LOCK_UN and len(failed) < limit:
            failed.append(descriptor)
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    for limit in (1, 2, 3):
        with Library.open(tmp_path / "library") as library:
            session = library.create_session(f"book {limit}", model="A", fingerprint="f")
            assert not is_held(library.locks_folder, session.id)
            with library.lock_session(session.id):
                assert is_held(library.locks_folder, session.id)
            assert not is_held(library.locks_folder, session.id)
    assert len(failed) == 3
