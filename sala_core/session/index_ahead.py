"""The index of a session's documents, made while its state is restored: neither waits for the other."""

import threading
from functools import lru_cache

from sala_core.engine.release_memory import release_memory
from sala_core.errors import SalaError
from sala_core.evidence.finding import DocumentFinder
from sala_core.evidence.searched import searched_documents
from sala_core.ingest import SourceMap
from sala_core.session.context import SessionContext
from sala_core.session.stream import document_spans


def index_ahead(context: SessionContext) -> None:
    """Begin to index the documents on a thread of its own, for a question that the finder serves. Does nothing where
    the state is in memory: then nothing is restored meanwhile.

    A text that is damaged ends the thread; the turn mends it, and indexes the documents itself.
    """
    if context.state.state is not None:
        return
    library, session_id = context.library, context.session_id

    @lru_cache(1)
    def load(document_id: str) -> SourceMap:
        return SourceMap.of(library.load_document(document_id))

    spans = document_spans(library.parts(session_id), library.documents(session_id))
    finder = DocumentFinder(searched_documents(spans, load))
    threading.Thread(target=_prepare, args=(finder,), name="index", daemon=True).start()


def _prepare(finder: DocumentFinder) -> None:
    try:
        finder.prepare()
    except SalaError:
        return  # the question finds the same, and says so
    release_memory()  # building takes twice what is kept, just when the state grows
