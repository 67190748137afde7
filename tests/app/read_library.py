"""A workspace without a model over a real library, in which files were read and questions answered."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from fake_workspace import FakeWorkspace

from sala_core.attention_map import AttentionMap
from sala_core.events import AnswerStats, Evidence, Quotation
from sala_core.ingest import SourceMap, prepare
from sala_core.session.folders.file_state import hash_of, state_of
from sala_core.store import Library, MessageDraft, PartDraft
from sala_core.store.rows import SourceRow

SESSION = "shelf"


class _Words:
    """A tokenizer with one token for each word."""

    def encode_content_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        starts = [match.start() for match in re.finditer(r"\S+\s*", text)]
        return np.arange(len(starts), dtype=np.int32), np.array(starts, np.int64)


class ReadWorkspace(FakeWorkspace):
    """The page's view of such a library. Its session is SESSION; it starts no jobs."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.library = Library.open(folder)  # type: ignore[assignment]
        self.session_id = self.library.create_session(SESSION, model="embedded", fingerprint="").id
        self.ids: dict[str, str] = {}
        """Name of a document -> its id."""

    def read(self, *paths: Path) -> None:
        """Read files, and note where they are."""
        sources = self.library.sources(self.session_id)
        for path in paths:
            for encoded in prepare([path], _Words()):
                document = encoded.document
                self.ids[document.name] = self.library.put_document(encoded, "words")
                part = PartDraft(kind="document", token_ids=encoded.token_ids, document_id=self.ids[document.name])
                self.library.append_parts(self.session_id, [part])
                row = SourceRow(
                    path=str(path),
                    root=str(path),
                    name=document.name,
                    content_hash=document.content_hash,
                    num_bytes=path.stat().st_size,
                    mtime_ns=state_of(str(path)).trusted_mtime_ns,
                    file_hash=hash_of(str(path)),
                )
                sources.append(row)  # type: ignore[arg-type]
        self.library.put_sources(self.session_id, sources)

    def answer(self, question: str, text: str, *, quoted=(), evidence=(), lost=(), has_map: bool = True) -> str:
        """Add a turn; returns the answer's id. quoted, evidence: (name of a document, passage).

        lost: (name, passage) of quotations that are noted for the first line, and do not stand there.
        """
        quotations = [Quotation(text=passage, **self._place(name, passage)) for name, passage in quoted]
        for name, passage in lost:
            where = {"page": None, "line_start": 1, "line_end": 1}
            quotations.append(Quotation(text=passage, document=name, document_id=self.ids[name], **where))
        places = tuple(
            Evidence(text=self._lines(name, passage), score=1 / rank, **self._place(name, passage))
            for rank, (name, passage) in enumerate(evidence, start=1)
        )
        stats = AnswerStats(quotations=tuple(quotations), attention_map=self._map(evidence) if has_map else None)
        asked = MessageDraft(role="user", text=question)
        reply = MessageDraft(role="assistant", text=text, evidence=places, stats=stats)
        parts = [
            PartDraft(kind=message.role, token_ids=np.arange(3, dtype=np.int32), message_id=message.id)
            for message in (asked, reply)
        ]
        self.library.commit_turn(self.session_id, parts, [asked, reply], None, 0)
        return reply.id

    def close(self) -> None:
        self.library.close()

    def _source(self, name: str) -> SourceMap:
        encoded = self.library.load_document(self.ids[name])
        document = encoded.document
        return SourceMap(document.text, document.page_starts, encoded.token_starts, media_type=document.media_type)

    def _place(self, name: str, passage: str) -> dict:
        place = self._source(name).find(passage)
        assert place is not None, passage
        where = {"page": place.page, "line_start": place.line_start, "line_end": place.line_end}
        return {"document": name, "document_id": self.ids[name], **where}

    def _lines(self, name: str, passage: str) -> str:
        source = self._source(name)
        return source.whole_lines(source.find(passage))

    def _map(self, evidence) -> AttentionMap:
        """A map of 100 cells in which the first piece of evidence has half of the attention, the second a quarter."""
        documents, at = [], 0
        for row in self.library.documents(self.session_id):
            documents.append((row.id, at))
            at += row.num_tokens
        starts = dict(documents)
        num_cells = min(100, at)
        peaks = np.arange(num_cells, dtype=np.int64) * at // num_cells
        shares = np.full(num_cells, 1e-6)
        for rank, (name, passage) in enumerate(evidence, start=1):
            source = self._source(name)
            place = source.find(passage)
            token = starts[self.ids[name]] + source.tokens_of_chars(place.char_start, place.char_end)[0]
            cell = ((token + 1) * num_cells - 1) // at
            peaks[cell], shares[cell] = token, 0.5**rank
        return AttentionMap.of(shares, peaks, documents, at)
