"""Nothing is deleted because something else is missing, and the database can be made anew from the files."""

import os
import sqlite3
import time

import pytest
from made_library import FINGERPRINT, add_turn, content, copy_of, make_library

from sala_core.errors import LibraryDamagedError, LibraryError, SessionBusyError
from sala_core.store import Library
from sala_core.store.integrity import seal
from sala_core.store.integrity.records import revisions
from sala_core.store.integrity.repair import repair_library
from sala_core.store.integrity.verify import verify_library
from sala_core.store.states import StateStore


@pytest.fixture
def folder(tmp_path):
    """A closed library."""
    make_library(tmp_path / "library")
    return tmp_path / "library"


def lose(folder, *, copy=True):
    """Delete the database, and with `copy` the copy of it too."""
    for path in folder.glob("library.*"):
        if path.name.startswith("library.db") or (copy and "copy" in path.name):
            path.unlink()


def faults(folder):
    with Library.open(folder) as library:
        return [each for each in verify_library(library) if each.problem]


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.parent.name != "locks")


def test_a_lost_database_is_never_replaced_by_an_empty_one(folder):
    lose(folder)
    before = files(folder)
    for _ in range(2):
        with pytest.raises(LibraryDamagedError, match=r"missing or empty.*states.*repair"):
            Library.open(folder)
        (folder / "library.db").unlink(missing_ok=True)
        (folder / "library.db").touch()
    assert files(folder) == before


@pytest.mark.parametrize("with_copy", [True, False])
def test_repair_makes_a_lost_database_anew_with_everything_in_it(folder, with_copy):
    before = content(folder)
    lose(folder, copy=not with_copy)
    said = list(repair_library(folder))
    assert content(folder) == before
    assert faults(folder) == []
    assert any("'tale'" in line and "66 tokens, 66 of them" in line for line in said)
    with Library.open(folder) as library:
        assert StateStore(library, FINGERPRINT).load_snapshot(library.session("tale").head)
        assert library.sessions("best"), "the search finds words of messages"


def test_repair_takes_up_what_was_said_after_the_copy(folder):
    with Library.open(folder) as library:
        add_turn(library, StateStore(library, FINGERPRINT), "Later.")
    before = content(folder)
    lose(folder, copy=False)
    list(repair_library(folder))
    assert content(folder) == before


def test_a_deleted_session_does_not_come_back(folder):
    with Library.open(folder) as library:
        library.delete_session("copy")
        assert set(revisions(library.records_folder)) == {library.session("tale").id}
    lose(folder)
    list(repair_library(folder))
    assert set(content(folder)) == {"tale", "texts"}


def test_an_earlier_database_collects_nothing_and_repair_brings_it_up_to_date(folder, tmp_path):
    earlier = (folder / "library.db").read_bytes()
    with Library.open(folder) as library:
        add_turn(library, StateStore(library, FINGERPRINT), "Later.")
    before, there = content(folder), files(folder)
    (folder / "library.db").write_bytes(earlier)
    (folder / seal.SEAL).unlink()
    for path in folder.glob("*/*"):
        os.utime(path, (1, 1))
    with Library.open(folder) as library:
        assert any("older than the files" in note for note in library.take_notices())
        with library.database.write() as conn:
            conn.execute("UPDATE library SET value = '0' WHERE key = 'born_at'")
        assert library.collect_garbage(min_age_s=0) == 0
        with pytest.raises(LibraryDamagedError, match="earlier form"), library.lock_session("tale"):
            pass
    assert files(folder) == there
    list(repair_library(folder))
    assert content(folder) == before


def test_files_older_than_the_database_are_not_collected(tmp_path):
    with Library.open(tmp_path / "new") as library:
        unknown = library.states_folder / ("0" * 32 + ".segment.safetensors")
        unknown.write_bytes(b"x")
        os.utime(unknown, (time.time() - 9e5, time.time() - 9e5))
        library.collect_garbage()
        assert unknown.exists()


@pytest.mark.parametrize("damage", ["noise", "truncated", "folder", "pipe", "empty", "one page"])
def test_a_damaged_database_is_refused_kept_aside_and_made_anew(folder, damage):
    before, path = content(folder), folder / "library.db"
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    else:
        changed = {"noise": b"\xff" * len(data), "truncated": data[:9000], "empty": b""}.get(damage)
        path.write_bytes(data[:8192] + b"\xff" * 4096 + data[12288:] if changed is None else changed)
    with pytest.raises(LibraryDamagedError, match="repair"):
        Library.open(folder)
    list(repair_library(folder))
    assert content(folder) == before
    assert faults(folder) == []
    assert list(folder.glob("library.damaged-*.db"))


def test_a_text_without_a_session_is_written_as_a_plain_file(folder):
    for path in (folder / "sessions").iterdir():
        path.unlink()
    lose(folder)
    said = list(repair_library(folder))
    (text,) = (folder / "recovered").iterdir()
    assert text.read_text().startswith("It was the best")
    assert any("tale.txt" in line for line in said)
    with Library.open(folder) as library:
        library.collect_garbage(min_age_s=0)
    assert len(list((folder / "documents").iterdir())) == 1


def test_repair_is_refused_where_a_session_is_open_or_nothing_is_there(folder, tmp_path):
    with Library.open(folder) as library, library.lock_session("tale"), pytest.raises(SessionBusyError):
        list(repair_library(folder))
    with pytest.raises(LibraryError, match="no library"):
        list(repair_library(tmp_path / "nothing"))


def test_repair_of_a_sound_library_changes_nothing(folder):
    before, there = content(folder), files(folder)
    assert next(iter(list(repair_library(folder)))) == "library.db is sound"
    assert (content(folder), files(folder)) == (before, there)


def test_a_copy_is_kept_once_for_each_change_and_only_of_a_sound_database(folder, monkeypatch):
    monkeypatch.setattr(seal, "_COPY_AGE_S", 0.0)
    with Library.open(folder) as library:
        assert library.keep_copy(), "closing has changed the file"
        library.create_session("new", model="A", fingerprint="f")
    with Library.open(folder) as library:
        assert library.keep_copy()
        assert not library.keep_copy()
    kept = (folder / seal.COPY).read_bytes()
    monkeypatch.setattr(seal, "check_pages", lambda conn: "damaged")
    with Library.open(copy_of(folder, folder.with_name("other"))) as library:
        library.rename_session("new", "newer")
    with sqlite3.connect(folder / "library.db") as conn:
        assert not seal.keep_copy(conn, folder)
    assert (folder / seal.COPY).read_bytes() == kept
