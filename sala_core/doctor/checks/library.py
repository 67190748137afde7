"""The library: whether it opens, whether its tables are sound, and whether its files are there. No content is read."""

import shutil
from collections.abc import Iterator

from sala_core.doctor.records import Examination, Figure, Outcome, failed, not_possible, ok
from sala_core.store import Library
from sala_core.store.checkpoints import SEGMENT_SUFFIX, SNAPSHOT_SUFFIX
from sala_core.store.locks import is_held

_GIB = 2**30


def library(examination: Examination) -> Iterator[Outcome]:
    """The check "library". A library that does not exist is not made. Raises LibraryError where it does not open."""
    folder = examination.library
    if not (folder / "library.db").is_file():
        yield not_possible("library", "there is no library yet; the first `read` makes it")
        return
    with Library.open(folder) as opened:
        yield _examine(opened, quick=examination.quick)


def _examine(opened: Library, *, quick: bool) -> Outcome:
    usage, lost, wrong = opened.usage(), 0, 0
    with opened.database.read() as conn:
        counts = {
            table: conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("sessions", "documents", "checkpoints", "jobs")
        }
        soundness = conn.execute("PRAGMA quick_check" if quick else "PRAGMA integrity_check").fetchone()[0]
        foreign = len(conn.execute("PRAGMA foreign_key_check").fetchall())
        migrations = conn.execute("SELECT name FROM _sqlite_migrations ORDER BY name").fetchall()
        sessions = [row["id"] for row in conn.execute("SELECT id FROM sessions")]
        files = conn.execute("SELECT name, segment_bytes, snapshot_bytes FROM checkpoints").fetchall()
    for row in files:
        for suffix, num_bytes in ((SEGMENT_SUFFIX, row["segment_bytes"]), (SNAPSHOT_SUFFIX, row["snapshot_bytes"])):
            file = opened.states_folder / (row["name"] + suffix)
            lost += bool(num_bytes) and not file.is_file()
            wrong += file.is_file() and bool(num_bytes) and file.stat().st_size != num_bytes
    figures: dict[str, Figure] = {
        **counts,
        "migrations": ", ".join(row["name"] for row in migrations),
        "sessions that are held for writing": sum(is_held(opened.locks_folder, name) for name in sessions),
        "bytes of states": usage.segments_bytes + usage.snapshots_bytes,
        "bytes of documents": usage.documents_bytes,
        "bytes of the database": usage.database_bytes,
        "bytes that no row names": usage.stray_bytes,
        "state files that are missing": lost,
        "state files of another size": wrong,
        "SQLite's check": str(soundness),
        "rows that refer to nothing": foreign,
        "free disk": f"{shutil.disk_usage(opened.folder).free / _GIB:.1f} GiB",
    }
    if soundness != "ok" or foreign:
        reason = f"the database is damaged: SQLite says {soundness!r}, {foreign} rows refer to nothing"
        return failed("library", reason, "run `repair`, which makes it anew from the files", figures)
    if lost or wrong:
        reason = f"{lost} state files are missing and {wrong} have another size than the database says"
        return failed("library", reason, "run `read SESSION --again` for the sessions that do not open", figures)
    return ok("library", figures)
