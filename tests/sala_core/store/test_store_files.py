"""Files of the library are whole or absent, and on disk before the row that names them is committed."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from sala_core.errors import DiskFullError, LibraryError
from sala_core.store import Library, PartDraft


def fail_with(code):
    """A system call that always fails."""

    def call(*arguments, **options):
        raise OSError(code, os.strerror(code))

    return call


def test_a_state_is_fsynced_renamed_and_its_folder_fsynced_before_its_row_is_committed(library, save, monkeypatch):
    calls = []
    real_open, real_write, real_fsync, real_replace = os.open, os.write, os.fsync, os.replace

    def opened(path, flags, *rest, **options):
        descriptor = real_open(path, flags, *rest, **options)
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            assert os.path.dirname(path) == str(library.states_folder)
            calls.append("create")
        return descriptor

    def fsynced(descriptor):
        real_fsync(descriptor)
        calls.append("fsync folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "fsync")

    def written(descriptor, data):
        calls.append("write")
        return real_write(descriptor, data)

    def replaced(source, target):
        calls.append("rename")
        real_replace(source, target)

    for name, call in (("open", opened), ("fsync", fsynced), ("write", written), ("replace", replaced)):
        monkeypatch.setattr(f"sala_core.disk.files.os.{name}", call)
    library.database._conn.set_trace_callback(lambda statement: calls.append(statement.split()[0]))
    save(snapshot=False)
    library.database._conn.set_trace_callback(None)
    wanted = ("create", "write", "fsync", "rename", "fsync folder", "INSERT", "COMMIT")
    steps = [call for call in calls if call in wanted][1:]
    assert list(dict.fromkeys(steps)) == list(wanted), steps


def test_commits_are_durable_and_readers_do_not_block(library):
    with library.database.read() as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert conn.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert conn.execute("PRAGMA foreign_keys").fetchone()[0] == 1


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_deletes_the_file_and_reports_sizes(library, store, save, monkeypatch, call, code):
    name = save()
    with monkeypatch.context() as patched:
        patched.setattr(f"sala_core.disk.files.os.{call}", fail_with(code))
        with pytest.raises(DiskFullError, match=r"nothing was lost") as caught:
            save(name)
    assert "iB is free" in str(caught.value)
    assert len(list(library.states_folder.iterdir())) == 2
    assert store.load_segment(name)
    assert store.has(save(name)), "the same save works once there is room"


def test_a_failed_write_on_a_disk_with_space_is_a_library_error(library, save, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("sala_core.disk.files.os.fsync", fail_with(errno.EIO))
        with pytest.raises(LibraryError, match="Input/output error") as caught:
            save()
    assert not isinstance(caught.value, DiskFullError)
    assert list(library.states_folder.iterdir()) == []


@pytest.mark.parametrize("call", ["os.replace", "sync_folder"])
def test_a_failed_rename_or_folder_fsync_leaves_neither_file_nor_row(library, store, save, monkeypatch, call):
    with monkeypatch.context() as patched:
        patched.setattr(f"sala_core.disk.files.{call}", fail_with(errno.EIO))
        with pytest.raises(LibraryError):
            save()
    assert list(library.states_folder.iterdir()) == []
    assert store.has(save())


def test_a_full_disk_is_reported_for_documents_too(library, encoded, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("sala_core.disk.files.os.write", fail_with(errno.ENOSPC))
        with pytest.raises(DiskFullError):
            library.put_document(encoded(), "t")
    assert list(library.documents_folder.iterdir()) == []
    assert library.document(library.put_document(encoded(), "t")).name == "tale.txt"


def test_a_full_database_is_a_disk_full_error_and_rolls_back_the_whole_turn(library, new_session):
    session = new_session()
    with library.database.read() as conn:
        pages = conn.execute("PRAGMA page_count").fetchone()[0]
    library.database._conn.execute(f"PRAGMA max_page_count = {pages + 2}")
    part = PartDraft(kind="user", token_ids=np.arange(1 << 16, dtype=np.int32))
    with pytest.raises(DiskFullError, match="nothing was lost"):
        library.append_parts(session, [PartDraft(kind="user", token_ids=np.array([1])), part])
    assert len(library.parts(session)) == 1
    library.database._conn.execute("PRAGMA max_page_count = 1000000")
    library.append_parts(session, [part])
    assert len(library.parts(session)) == 2


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from sala_core.errors import LibraryError
from sala_core.store import Library
from sala_core.store.states import StateStore
with Library.open(Path(sys.argv[1])) as library:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        StateStore(library, "f").save(parent=None, token_ids=np.array([1]), start=0, keep=True, snapshot=None,
                                      segment={"k": torch.zeros(1 << 20)})
    except LibraryError as error:
        print(error)
    print(len(list(library.states_folder.iterdir())), library.usage().states_bytes)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
def test_a_write_that_the_system_interrupts_leaves_no_file(tmp_path, environment):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "library")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 0"


def test_an_exception_while_tensors_are_encoded_leaves_no_file(library, store):
    with pytest.raises(ValueError, match="complex64"):
        store.save(
            parent=None,
            token_ids=np.array([1]),
            start=0,
            segment={"z": torch.zeros(1, dtype=torch.complex64)},
            snapshot=None,
            keep=False,
        )
    assert list(library.states_folder.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_a_library_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(LibraryError, match="choose another folder"):
        Library.open(tmp_path / "file")
