"""Nothing is deleted because something else is missing, and the database can be made anew from the files."""

import errno
import os
import sqlite3
import time

import pytest
from made_library import FINGERPRINT, add_turn, content, copy_of, make_library

from sala_core.errors import LibraryDamagedError, LibraryError, SessionBusyError
from sala_core.store import Library
from sala_core.store.integrity import repair, seal
from sala_core.store.integrity.records import revisions
from sala_core.store.integrity.repair import repair_library
from sala_core.store.integrity.schema_pages import schema_pages
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


@pytest.mark.parametrize(
    ("failing", "kind"), [("open", "sessions"), ("open", "documents"), ("open", "states"), ("unlink", "")]
)
def test_what_cannot_be_read_now_is_not_lost(folder, monkeypatch, kind, failing):
    before = content(folder)
    lose(folder)
    seen, real = [], getattr(os, failing)

    def call(path, *arguments, **options):
        name = "copy.json" if failing == "unlink" else f"{kind}{os.sep}"
        is_reading = not (arguments and arguments[0] & (os.O_CREAT | getattr(os, "O_DIRECTORY", 0)))
        if name in str(path) and is_reading and not seen:
            seen.append(path)
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, failing, call)
    expected = "cannot write library.db" if failing == "unlink" else f"cannot read .*{kind}.*run `repair` again"
    with pytest.raises(LibraryError, match=expected):
        list(repair_library(folder))
    list(repair_library(folder))
    assert seen
    assert content(folder) == before
    assert faults(folder) == []


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


def tear(folder, name, *, with_copy=False):
    """Damage the first page of a table or an index, and lose all copies of its rows but, if asked, the database's.

    name: that of the table or index, or the number of a page.
    """
    path, page = folder / "library.db", name
    with sqlite3.connect(path) as conn:
        if isinstance(name, str):
            (page,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [name]).fetchone()
        (size,) = conn.execute("PRAGMA page_size").fetchone()
    copies = [] if with_copy else [*folder.glob("library.copy*")]
    for old in [*(folder / "sessions").iterdir(), folder / seal.SEAL, *copies]:
        old.unlink()
    data = bytearray(path.read_bytes())
    data[size * (page - 1) : size * page] = b"\xff" * size
    path.write_bytes(data)


@pytest.mark.parametrize("torn", ["jobs", "sessions_head", "messages_fts_data", "documents"])
def test_rows_without_record_and_copy_are_salvaged_from_the_damaged_database(folder, torn):
    before = content(folder)
    tear(folder, torn)
    with pytest.raises(LibraryDamagedError, match="repair"):
        Library.open(folder)
    said = list(repair_library(folder))
    assert content(folder) == before
    assert faults(folder) == []
    assert sum("was made anew from the rows" in line for line in said) == 2


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("with_copy", [True, False])
def test_rows_behind_a_damaged_list_of_tables_are_salvaged(folder, with_copy, place):
    with Library.open(folder) as library:
        library.fork_session("tale", "third")
    before = content(folder)
    with open(folder / "library.db", "rb") as file:
        pages = [number for number, _ in schema_pages(file, 4096)]
    assert len(pages) > 2
    tear(folder, pages[place], with_copy=with_copy)
    said = list(repair_library(folder))
    assert content(folder) == before
    assert faults(folder) == []
    assert sum("was made anew from the rows" in line for line in said) == (1 if with_copy else 3)


@pytest.mark.parametrize("torn", ["sessions", "messages", "parts", "token_runs"])
def test_what_can_be_known_of_a_session_is_kept_and_the_rest_is_said(folder, torn):
    before = content(folder)["tale"]
    tear(folder, torn)
    said = list(repair_library(folder))
    assert faults(folder) == []
    assert any(("tokens of a part" if torn == "token_runs" else f"not all rows of {torn}") in line for line in said)
    after = {name: row for name, row in content(folder).items() if name != "texts"}
    assert len(after) == 2
    for name, (_, model, _, position, tokens, messages, parts, _) in after.items():
        if torn == "sessions":
            assert (name[:9], model, position) == ("recovered", "unknown", 0)
        if torn == "messages":
            assert (messages, position) == ([], len(tokens))
        else:
            assert messages == before[5]
        if torn == "token_runs":
            assert [part[3] for part in parts] == [before[6][1][3]], "its text has the tokens of its own"
        elif torn != "parts":
            assert (tokens, parts) == (before[4], before[6])


def test_a_later_form_in_a_damaged_database_is_taken_if_it_is_whole(folder):
    with Library.open(folder) as library:
        add_turn(library, StateStore(library, FINGERPRINT), "Later.")
    before = content(folder)
    tear(folder, "sessions_head", with_copy=True)
    said = list(repair_library(folder))
    assert content(folder) == before, "the copy does not have the last turn"
    assert any("was made anew from its copy" in line for line in said)


def test_an_interrupted_repair_salvages_when_it_is_run_again(folder, monkeypatch):
    before = content(folder)
    tear(folder, "sessions_head")
    with monkeypatch.context() as patched:
        patched.setattr(repair, "_mend", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(repair_library(folder))
    with pytest.raises(LibraryDamagedError, match="interrupted"):
        Library.open(folder)
    list(repair_library(folder))
    assert content(folder) == before
