"""The first questions that the page proposes for a session."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from app.page.first_run.sample import questions, sample_session
from sala_core.errors import LibraryError
from sala_core.suggestions.suggest import MAX_CODE_FILES, MAX_TEXT_CHARS, Source, suggest

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace

_MAX_KEPT = 64


class FirstQuestions:
    """Proposes questions; those of a session are made once for the same documents. Safe to call from any thread."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._kept: OrderedDict[tuple[str, ...], list[str]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session_id: str) -> list[str]:
        """Questions that the session's documents answer; [] without documents, or where nothing in them is telling.

        Raises SessionNotFoundError.
        """
        library = self._workspace.library
        rows = library.documents(library.session(session_id).id)
        if len(rows) == 1 and session_id == sample_session(self._workspace):
            return questions()
        key = tuple(row.id for row in rows)
        with self._lock:  # also keeps two windows from doing the same work
            if key not in self._kept:
                self._kept[key] = suggest(list(self._sources(key)))
                while len(self._kept) > _MAX_KEPT:
                    self._kept.popitem(last=False)
            return self._kept[key]

    def _sources(self, document_ids: tuple[str, ...]) -> list[Source]:
        """The texts, up to a length in all. A text that is damaged is passed over: opening it says so."""
        sources: list[Source] = []
        room = 2 * MAX_TEXT_CHARS
        for document_id in document_ids[:MAX_CODE_FILES]:
            if room <= 0:
                break
            try:
                document = self._workspace.library.load_document(document_id).document
            except LibraryError:
                continue
            sources.append(Source(name=document.name, text=document.text[:room]))
            room -= len(document.text)
        return sources
