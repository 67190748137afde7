"""The sample: a short book of the program's own, read into a new library at its first start. Deleting it is final."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sala_core.assets import ASSETS
from sala_core.errors import LibraryError, SalaError
from sala_core.store.rows import READING_KINDS

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace

FACT = "sample"
"""The library keeps the id of the sample's session under it, also when the session is gone."""
NAME = "Sample: two cases of Sherlock Holmes"
BOOK = ASSETS / "sample" / "Two Adventures of Sherlock Holmes.txt"


def questions() -> list[str]:
    """Questions that the embedded model answers from the sample."""
    return [str(each) for each in json.loads((ASSETS / "sample" / "questions.json").read_text(encoding="utf-8"))]


def make_sample(workspace: Workspace, book: Path = BOOK) -> str:
    """Have the sample read in the background where the library is new, or go on with a reading that was killed.

    Only with the embedded model, which reads it in seconds. Returns the session's id, "" if there is nothing to do.
    Raises LibraryError.
    """
    library = workspace.library
    if not workspace.model_info().is_demonstration:
        return ""
    session_id = library.fact(FACT)
    if session_id is None:
        if library.sessions() or library.sessions_in_bin():
            return ""
        with library.database.write():  # both or neither: a killed start makes the sample at the next one
            session_id = workspace.new_session(NAME).id
            library.note_fact(FACT, session_id)
    elif not _was_cut(workspace, session_id):
        return ""
    workspace.submit_read(session_id, [book])
    return session_id


def sample_session(workspace: Workspace) -> str:
    """The id of the sample's session; "" if there is none (any more)."""
    session_id = workspace.library.fact(FACT)
    try:
        return workspace.library.session(session_id).id if session_id else ""
    except LibraryError:
        return ""


def _was_cut(workspace: Workspace, session_id: str) -> bool:
    """Whether the program ended while it read the sample."""
    try:
        row = workspace.library.session(session_id)
        readings = [job for job in workspace.library.jobs(row.id) if job.kind in READING_KINDS]
    except SalaError:
        return False
    return not readings or readings[-1].status == "interrupted"
