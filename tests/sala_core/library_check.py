"""The check that every crash test ends with: whatever a library says it holds is there, whole."""

from pathlib import Path

from sala_core.store import Library
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
