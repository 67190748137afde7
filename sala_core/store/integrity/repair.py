"""Repair: the database made anew from its copy and the files beside it, and everything that can be mended, mended."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from sala_core.disk.files import checksum, open_regular, read_whole, storage_error, sync_folder, write_file
from sala_core.disk.layout import decode_arrays, decode_blocks
from sala_core.errors import LibraryDamagedError, LibraryError, SalaError, SessionBusyError
from sala_core.store.checkpoints import BODY, FORMAT, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX
from sala_core.store.database import Database, library_error
from sala_core.store.integrity import seal
from sala_core.store.integrity.library_folder import DATABASE, FOLDERS, prepare_folder
from sala_core.store.integrity.records import latest_record, restore_record, revisions
from sala_core.store.integrity.salvage import salvage_sessions
from sala_core.store.integrity.soundness import UNFINISHED_REPAIR, rebuild_search
from sala_core.store.integrity.unreadable import readable_tokens, refuse_unreadable
from sala_core.store.library import Library
from sala_core.store.locks import is_held, library_lock

_NEW = "library.new.db"
_PARTS = ("", "-wal", "-shm", "-journal")
_MAX_HEADER_BYTES = 1 << 24
_LOCK_TIMEOUT_S = 1.0


def repair_library(folder: Path) -> Iterator[str]:
    """Mend a library, or make its database anew; yield one sentence for each thing that was done or is lost.

    Nothing is deleted: a damaged database is moved aside. A repair that is interrupted goes on when it is run again.
    Raises SessionBusyError if another process has the library open; LibraryError if there is none, or if a file of it
    is there and cannot be read.
    """
    if not any((folder / name).exists() for name in (DATABASE, *FOLDERS[:3])):
        raise LibraryError(f"there is no library in {folder}; choose another --library")
    with _errors_of(folder):
        (folder / "locks").mkdir(mode=0o700, parents=True, exist_ok=True)
        with library_lock(folder, _LOCK_TIMEOUT_S):
            _refuse_open_library(folder)
            problem = _problem(folder)
            seal.break_seal(folder)
            if problem:
                yield f"{DATABASE}: {problem}"
                yield from _replace_database(folder)
            else:
                yield f"{DATABASE} is sound"
                _mark(folder)
        with closing(_open_marked(folder)) as library:
            with library.database.read() as conn:
                (damaged,) = conn.execute("SELECT value FROM library WHERE key = ?", [UNFINISHED_REPAIR]).fetchone()
            yield from _mend(library, damaged)
            with library.database.write() as conn:
                conn.execute("DELETE FROM library WHERE key = ?", [UNFINISHED_REPAIR])
            if seal.sound_copy(folder) is None:
                seal.forget_copy(folder)
            library.keep_copy()


@contextmanager
def _errors_of(folder: Path) -> Iterator[None]:
    """Raise errors of the system and of SQLite as LibraryError, and one of a lock as SessionBusyError."""
    try:
        yield
    except Timeout:
        raise SessionBusyError(f"another process is opening the library {folder}; try again") from None
    except OSError as error:
        raise storage_error(error, folder / DATABASE) from error
    except sqlite3.Error as error:
        raise library_error(error, folder / DATABASE) or error from error


def _refuse_open_library(folder: Path) -> None:
    for path in (folder / "locks").glob("*.lock"):
        if path.stem != "library" and is_held(folder / "locks", path.stem):
            raise SessionBusyError(f"a session of {folder} is open in another process; close it there and try again")


def _problem(folder: Path) -> str:
    """What is wrong with the database as a whole, "" for nothing. It is brought to this version."""
    path = folder / DATABASE
    if not path.exists() and not path.is_symlink():
        return "missing"
    if not path.is_file() or (path.is_symlink() and not path.exists()):
        return "no regular file"
    if path.stat().st_size == 0 and not (folder / f"{DATABASE}-wal").exists():
        return "empty"
    try:
        with closing(Database(path)) as database:
            problem = database.outside(seal.check_pages)
            if not problem:
                with database.write() as conn:
                    rebuild_search(conn)
            return problem
    except LibraryDamagedError as error:
        return str(error.__cause__ or error)
    except (sqlite3.Error, UnicodeDecodeError, IndexError, TypeError, AssertionError) as error:  # of a damaged schema
        return str(error)


def _mark(folder: Path) -> None:
    """Note in the database that a repair is under way, so that an interrupted one is not taken for sound.

    The note of one that was interrupted stays: it names the database that was moved aside.
    """
    with closing(Database(folder / DATABASE)) as database, database.write() as conn:
        conn.execute("INSERT OR IGNORE INTO library (key, value) VALUES (?, '')", [UNFINISHED_REPAIR])


def _replace_database(folder: Path) -> Iterator[str]:
    """Put the copy of the database, or an empty one, in the place of the damaged one, which is moved aside."""
    new = folder / _NEW
    for part in _PARTS:
        Path(f"{new}{part}").unlink(missing_ok=True)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    copy = seal.sound_copy(folder)
    if copy is not None:
        address = f"{copy.absolute().as_uri()}?immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as source, closing(sqlite3.connect(new)) as target:
            source.backup(target)
    aside = f"library.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
    with closing(Database(new)) as database, database.write() as conn:
        conn.execute("UPDATE library SET value = ? WHERE key = 'born_at'", [repr(time.time())])
        conn.execute("INSERT OR REPLACE INTO library (key, value) VALUES (?, ?)", [UNFINISHED_REPAIR, f"{aside}.db"])
    with closing(Database(new)) as database:  # closing does this too, but says nothing if it fails
        database.outside(lambda conn: conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    for part in reversed(_PARTS):  # the database last: its journal must never be applied to another one
        with suppress(FileNotFoundError):
            os.rename(f"{folder / DATABASE}{part}", folder / f"{aside}.db{part}")
    sync_folder(folder)  # a power cut must not keep the new database beside the journal of the damaged one
    os.rename(new, folder / DATABASE)
    sync_folder(folder)
    if (folder / f"{aside}.db").exists():
        yield f"the damaged database is kept as {aside}.db"
    if copy is not None:
        date = time.strftime("%Y-%m-%d %H:%M", time.localtime(copy.stat().st_mtime))
        yield f"{DATABASE} was made anew from its copy of {date}"
    else:
        yield f"{DATABASE} was made anew, without a copy of it"


def _open_marked(folder: Path) -> Library:
    """Open a library whose repair is under way, without the checks that would refuse or mend it."""
    prepare_folder(folder)
    library = Library(folder, Database(folder / DATABASE), None)
    library.is_behind = True  # nothing is collected meanwhile
    return library


def _mend(library: Library, damaged: str) -> Iterator[str]:
    """damaged: name of the database that was moved aside; "" where it was not necessary."""
    yield from _mend_rows(library)
    yield from _take_up_records(library)
    if damaged and (library.folder / damaged).is_file():
        yield from salvage_sessions(library, library.folder / damaged)
    yield from _take_up_states(library)
    library.adopt_heads()
    with library.database.read() as conn:
        rows = conn.execute("SELECT id, name, head, position FROM sessions ORDER BY name").fetchall()
        known = {row["id"] for row in conn.execute("SELECT id FROM documents")}
    if damaged:
        yield from _write_texts(library, known)
    library.is_behind = False
    for row in rows:
        with suppress(SalaError):
            library.rewrite_record(row["id"])
        session = library.session(row["id"], in_bin=True)
        yield f"session {row['name']!r}: {session.num_tokens:,} tokens, {session.position:,} of them saved as state"


def _mend_rows(library: Library) -> Iterator[str]:
    with library.database.read() as conn:
        sessions, states = library.damaged_sessions(conn), library.damaged_checkpoints(conn)
    if states:
        yield from library.drop_checkpoints(states)
    for session_id in sessions:
        yield from library.mend_session(session_id)
    yield from library.accept_rest()


def _take_up_records(library: Library) -> Iterator[str]:
    """Add the sessions that the database lacks or has an earlier form of."""
    with library.database.read() as conn:
        present = {row["id"]: row["revision"] for row in conn.execute("SELECT id, revision FROM sessions")}
        names = {row["name"]: row["id"] for row in conn.execute("SELECT id, name FROM sessions")}
    for session_id, numbers in sorted(revisions(library.records_folder).items()):
        if numbers[-1] <= present.get(session_id, -1):
            continue
        record = latest_record(library.records_folder, session_id)
        if record is None:
            yield f"the record of session {session_id} is damaged, and the database does not have it: it is lost"
            continue
        if record.revision <= present.get(session_id, -1):
            continue
        name = str(record.session["name"])
        if names.get(name, session_id) != session_id:
            record.session["name"] = name = f"{name} ({session_id[:6]})"
        names[name] = session_id
        with library.database.write() as conn:
            lost = restore_record(conn, record, readable_tokens(library.document_tokens, library.documents_folder))
        yield f"session {name!r} was taken up from its record"
        yield from (f"session {name!r} has lost a part: {each}" for each in lost)


def _take_up_states(library: Library) -> Iterator[str]:
    """Add the rows of state files that name a chain and are what was written, parents first."""
    with library.database.read() as conn:
        known = {row["name"] for row in conn.execute("SELECT name FROM checkpoints")}
    found: dict[str, dict[str, str]] = {}
    for path in sorted(library.states_folder.glob(f"*{SEGMENT_SUFFIX}")):
        name = path.name.removesuffix(SEGMENT_SUFFIX)
        about = None if name in known else _header(path)
        if about is not None and about.get("name") == name and about.get("format") == str(FORMAT) and BODY in about:
            found[name] = about
    added = damaged = 0
    for name in sorted(found, key=lambda each: int(found[each]["start"])):
        about = found[name]
        if about["parent"] and about["parent"] not in known:
            continue
        segment = _read_state(library.states_folder / (name + SEGMENT_SUFFIX), about, "segment")
        snapshot = _read_state(library.states_folder / (name + SNAPSHOT_SUFFIX), about, "snapshot")
        if segment is None:
            damaged += 1
            continue
        now = time.time()
        with library.database.write() as conn:
            conn.execute(
                "INSERT INTO checkpoints (name, parent, fingerprint, format, start_token, end_token, keep,"
                " segment_bytes, segment_checksum, snapshot_bytes, snapshot_checksum, created_at, used_at)"
                " VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)",
                [
                    name, about["parent"] or None, about["fingerprint"], FORMAT, int(about["start"]), int(about["end"]),
                    *segment, *(snapshot or (0, None)), now, now,
                ],
            )  # fmt: skip
        known.add(name)
        added += 1
    if added or damaged:
        yield f"{added:,} saved states were taken up from their files; {damaged:,} are damaged and are read again"


def _header(path: Path) -> dict[str, str] | None:
    """The metadata of a state file, or None. Reads only its beginning."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            head = file.read(8)
            size = int.from_bytes(head, "little")
            if size > min(_MAX_HEADER_BYTES, path.stat().st_size):
                return None
            about = json.loads(file.read(size)).get("__metadata__", {})
        return {str(key): str(value) for key, value in about.items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        refuse_unreadable(path, error)
        return None


def _read_state(path: Path, about: dict[str, str], kind: str) -> tuple[int, str] | None:
    """Bytes and checksum of a state file that is what was written; None for another one."""
    try:
        num_bytes = path.lstat().st_size
        data = read_whole(path, num_bytes)
        _, metadata = decode_blocks(data)
        body = metadata.get(BODY)
        expected = {key: about[key] for key in ("name", "parent", "fingerprint", "start", "end", "format")}
        size = int.from_bytes(data[:8], "little")
        if body != checksum(data[8 + size :]) or metadata != expected | {"kind": kind, BODY: body}:
            return None
        return num_bytes, checksum(data)
    except (OSError, EOFError, ValueError, KeyError) as error:
        refuse_unreadable(path, error)
        return None


def _write_texts(library: Library, known: set[str]) -> Iterator[str]:
    """Write the texts that no session needs any more as plain files, so that they can be read again."""
    target = library.folder / "recovered"
    for path in sorted(library.documents_folder.glob("*.safetensors")):
        if path.stem in known:
            continue
        try:
            data = read_whole(path, path.lstat().st_size)
            if checksum(data) != path.stem:
                raise ValueError("its checksum does not match")
            arrays, metadata = decode_arrays(data)
            name = str(json.loads(metadata["document"])["name"])
        except (OSError, EOFError, ValueError, KeyError) as error:
            yield f"the text {path.name} belongs to no session and cannot be used ({error})"
            continue
        target.mkdir(mode=0o700, exist_ok=True)
        file = target / f"{path.stem[:8]}-{Path(name).name or 'text'}"
        if not file.exists():
            write_file(file, [memoryview(arrays["text"].tobytes())])
        yield f"the text of {name!r} belongs to no known session; it is in {target} to be read again"
