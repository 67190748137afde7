"""The state of the files behind a session's documents, as the list of sources shows it."""

import pytest
from reading_helpers import last

from sala_core import Engine
from sala_core.session.folders import staleness
from sala_core.session.folders.staleness import DiskStates, changed_on_disk
from sala_core.session.session import Session

pytestmark = pytest.mark.usefixtures("one_thread")


def test_changed_and_gone_files_are_found_and_looked_for_now_and_then(library, random_model, tmp_path, monkeypatch):
    folder = tmp_path / "books"
    folder.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / name).write_text(f"The snow fell on {name}.\n" * 20)
    with Session.open(library, Engine.load(random_model), "s", create=True) as session:
        last(session.read([folder]))
        session_id = session.row.id
    states = DiskStates(library)
    assert changed_on_disk(library, session_id) == states.of(session_id) == {}
    (folder / "a.txt").write_text("The snow fell on z.txt.\n" * 20)
    (folder / "b.txt").unlink()
    names = {row.content_hash: row.name for row in library.documents(session_id)}
    found = {names[content_hash]: fate for content_hash, fate in changed_on_disk(library, session_id).items()}
    assert found == {"books/a.txt": "changed", "books/b.txt": "gone"}
    assert states.of(session_id) == {}, "it was looked at just now"
    monkeypatch.setattr(staleness, "_LOOK_EVERY_S", 0.0)
    assert len(DiskStates(library).of(session_id)) == 2
    assert DiskStates(library).of("") == {}
