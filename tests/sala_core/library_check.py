"""The checks that tests of crashes end with: whatever a library says it holds is there, whole, and nothing else."""

from pathlib import Path

from made_library import content

from sala_core.errors import LibraryDamagedError
from sala_core.store import Library
from sala_core.store.integrity.repair import repair_library
from sala_core.store.integrity.verify import verify_library
from sala_core.store.states import StateStore


def verify(folder: Path, fingerprint: str) -> None:
    """Check that the database is sound and every file it names whole; AssertionError or CorruptStateError."""
    with Library.open(folder) as library:
        store = StateStore(library, fingerprint)
        with library.database.read() as conn:
            assert conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
            names = [row["name"] for row in conn.execute("SELECT name FROM checkpoints ORDER BY end_token")]
            documents = [row["id"] for row in conn.execute("SELECT id FROM documents")]
        for name in names:
            store.load_segment(name)
            if store.checkpoint(name).has_snapshot:
                store.load_snapshot(name)
        for document_id in documents:
            library.load_document(document_id)


def settled(folder: Path) -> dict[str, object]:
    """Open a library after a crash, after `repair` if it asks for that; return what it holds then, without states.

    AssertionError if anything is damaged, is mended a second time, or is left of work that was not finished.
    """
    try:
        Library.open(folder).close()
    except LibraryDamagedError:
        list(repair_library(folder))
    with Library.open(folder) as library:
        assert library.take_notices() == []
        assert [each for each in verify_library(library) if each.problem] == []
        library.collect_garbage(min_age_s=0)
        assert library.usage().stray_bytes == 0
        known = {row.id for row in (*library.sessions(), *library.sessions_in_bin())} | {"library"}
        assert {path.stem for path in library.locks_folder.iterdir()} <= known
        assert not list(library.locks_folder.glob("*.holder")), "nobody holds a session"
    assert not [path for path in folder.rglob("*.tmp*")], "half-written files are collected"
    return without_state(content(folder))


def without_state(found: dict[str, object]) -> dict[str, object]:
    """Content without heads: which states are there is not part of what was said."""
    return {name: (*row[:2], *row[4:]) if isinstance(row, tuple) else row for name, row in found.items()}
