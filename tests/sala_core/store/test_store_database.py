"""A library opens, migrates, refuses what it does not know, and serves threads and processes together."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

from sala_core.errors import LibraryError
from sala_core.store import Library
from sala_core.store.database import MIGRATIONS
from sala_core.store.migrations import Tables, migrations


def test_a_library_keeps_its_content_across_a_restart(library, new_session):
    session = new_session()
    library.close()
    library.close()
    with Library.open(library.folder) as again:
        assert again.session(session).num_tokens == 64


def test_applied_migrations_are_recorded(library):
    with library.database.read() as conn:
        rows = conn.execute("SELECT migration_set, name FROM _sqlite_migrations").fetchall()
    assert sorted(tuple(row) for row in rows) == [("sala-library", name) for name in sorted(MIGRATIONS)]


def test_every_migration_is_known_without_sqlite_utils():
    tables = Tables(memory=True, execute_plugins=False)
    assert {migration.name for migration in migrations.pending(tables)} == MIGRATIONS
    tables.close()


def test_a_library_of_a_newer_version_is_refused(library):
    with library.database.write() as conn:
        conn.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('sala-library', 'm999', '')"
        )
    library.close()
    with pytest.raises(LibraryError, match=r"newer version.*m999.*update"):
        Library.open(library.folder)


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_not_a_database_is_refused_and_unchanged(tmp_path, content):
    (tmp_path / "library.db").write_bytes(content)
    with pytest.raises(LibraryError, match="damaged or no library"):
        Library.open(tmp_path)
    assert (tmp_path / "library.db").read_bytes() == content


def test_an_sqlite_that_is_too_old_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 30, 0))
    with pytest.raises(LibraryError, match="too old"):
        Library.open(tmp_path)


def test_a_closed_library_says_so(library):
    library.close()
    for call in (library.sessions, library.recover_jobs):
        with pytest.raises(LibraryError, match="is closed"):
            call()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_only_its_owner_can_read_the_folder(library):
    assert stat.S_IMODE(library.folder.stat().st_mode) == 0o700


def test_an_exception_rolls_back_the_whole_transaction(library):
    def insert_and_fail():
        with library.database.write() as conn:
            conn.execute("INSERT INTO token_runs (hash, ids) VALUES ('h', x'00')")
            raise KeyError

    with pytest.raises(KeyError):
        insert_and_fail()
    with library.database.read() as conn:
        assert conn.execute("SELECT count(*) FROM token_runs").fetchone()[0] == 0


def test_a_long_lock_of_another_connection_is_a_library_error(library, new_session):
    library.database._conn.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(library.folder / "library.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LibraryError, match="locked"):
        new_session()
    assert library.sessions() == [], "reading goes on while another writes"
    other.execute("ROLLBACK")
    other.close()
    assert new_session()


def test_a_write_excludes_other_writers_from_its_start(library):
    other = sqlite3.connect(library.folder / "library.db", isolation_level=None, timeout=0)
    with library.database.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_threads_share_one_library(library):
    errors = []

    def work(number):
        try:
            for step in range(10):
                name = f"{number}-{step}"
                library.create_session(name, model="A", fingerprint="f")
                assert library.session(name).name == name
                library.sessions("1-1")
        except (LibraryError, sqlite3.Error, AssertionError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(library.sessions()) == 60


CHILD = """
import sys
from pathlib import Path
from sala_core.store import Library
with Library.open(Path(sys.argv[1])) as library:
    for step in range(15):
        library.create_session(f"{sys.argv[2]}-{step}", model="A", fingerprint="f")
"""


def test_processes_open_a_new_library_together_and_write_to_it(tmp_path, environment):
    folder = tmp_path / "library"
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(folder), str(number)], env=environment)
        for number in range(3)
    ]
    assert [child.wait(timeout=120) for child in children] == [0, 0, 0]
    with Library.open(folder) as library:
        assert len(library.sessions()) == 45


def test_a_library_with_a_quota_keeps_it(tmp_path):
    with Library.open(tmp_path / "library", max_state_bytes=10) as library:
        assert library.max_state_bytes == 10
