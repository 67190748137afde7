"""The token stream of a session: system message, documents and turns. It only grows, and is cut into checkpoints."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from sala_core.evidence.places import DocumentSpan
from sala_core.ingest import EncodedDocument
from sala_core.model.fingerprint import CHUNK_TOKENS
from sala_core.store import DocumentRow, PartDraft, PartRow
from sala_core.text.chat_template import ChatLayout
from sala_core.text.prompt import SYSTEM_PROMPT, document_header
from sala_core.text.tokenizer import Tokenizer

SEGMENT_TOKENS = 4 * CHUNK_TOKENS
"""A segment is saved at every multiple of this."""

SNAPSHOT_TOKENS = 16 * SEGMENT_TOKENS
"""A snapshot is kept at every multiple of this, so that another session with the same beginning can branch off."""

TEXT = "text"
"""Kind of a part that another program has sent: a document that may come again with another text behind it."""


class StreamWriter:
    """Builds the parts of a stream with one model's tokenizer and chat template."""

    def __init__(self, tokenizer: Tokenizer, chat: ChatLayout) -> None:
        self.tokenizer = tokenizer
        self._chat = chat

    def system(self, prompt: str = "") -> PartDraft:
        """The system message, with which every stream begins. prompt: the session's own; "" for the program's."""
        return PartDraft(kind="system", token_ids=self._chat.message("system", self._content(prompt or SYSTEM_PROMPT)))

    def document(self, encoded: EncodedDocument, document_id: str) -> PartDraft:
        """A document as one user message: a header with its name, then its text."""
        head = np.concatenate(
            [self._chat.message_prefix("user"), self._content(document_header(encoded.document.name))]
        )
        ids = np.concatenate([head, encoded.token_ids, self._chat.message_suffix("user")])
        return PartDraft(kind="document", token_ids=ids, document_id=document_id, body_start=len(head))

    def num_around(self, name: str) -> int:
        """How many tokens `document` puts around the text of a document with this name."""
        affixes = len(self._chat.message_prefix("user")) + len(self._chat.message_suffix("user"))
        return affixes + len(self._content(document_header(name)))

    def question(self, text: str, message_id: str, *, think: bool | None = None) -> PartDraft:
        """A question, up to where the answer begins. think, and errors: as `ChatLayout.generation_prompt` takes it."""
        return self._question(text, message_id, self._chat.generation_prompt(think))

    def past_question(self, text: str, message_id: str) -> PartDraft:
        """A question before an answer that is known already, up to where `written_answer` begins."""
        return self._question(text, message_id, self._chat.message_prefix("assistant"))

    def answer(self, ids: Sequence[int], message_id: str) -> PartDraft:
        """The answer's tokens, then those that end its message."""
        answer_ids = np.asarray(ids, dtype=np.int32)
        return PartDraft(
            kind="assistant",
            token_ids=np.concatenate([answer_ids, self._chat.message_suffix("assistant")]),
            message_id=message_id,
        )

    def written_answer(self, text: str, message_id: str) -> PartDraft:
        """An answer from its text, for one that was decoded with another tokenizer.

        Its thinking is left out, as chat templates leave it out of past answers: nothing has read it yet.
        """
        return self.answer(self._content(text).tolist(), message_id)

    def _question(self, text: str, message_id: str, opening: np.ndarray) -> PartDraft:
        ids = np.concatenate([self._chat.message("user", self._content(text)), opening])
        return PartDraft(kind="user", token_ids=ids, message_id=message_id)

    def _content(self, text: str) -> np.ndarray:
        return self.tokenizer.encode_content(text)


def segment_ends(
    parts: Sequence[PartRow],
    start: int,
    end: int,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    first_changed: int | None = None,
) -> list[tuple[int, bool]]:
    """Where checkpoints end while tokens start ... end - 1 are prefilled, and whether each keeps its snapshot.

    Checkpoints end at the fixed places of the stream (`is_fixed`), and at `end`. Snapshots are kept at `end`, at the
    last fixed place before it, from which a later reading goes on, at the ends of large documents, where turns begin
    and end, because each can be asked again, at multiples of SNAPSHOT_TOKENS, and at the last checkpoint before the
    documents that have changed before: they are the most likely to change again. Texts that programs have sent keep one
    at the last multiple before their ends too: the next request often has a text that only ends in another way.

    Args:
        parts: the session's stream.
        start, end: the tokens to prefill.
        chunk_tokens: tokens per prefill chunk.
        first_changed: where the first document begins that was changed and read again; None if there is none.
    """
    books = {part.end for part in parts if _is_book(part)}
    places = books | (turns := _turn_bounds(parts))
    segment = max(SEGMENT_TOKENS, chunk_tokens)
    grid = range((start // segment + 1) * segment, end + 1, segment)
    fixed = {*grid, *(at for at in places if start < at <= end)}
    ends = sorted({*fixed, end} - {start})
    stable = max((at for at in ends if at <= (first_changed or 0)), default=end)
    kept = {end, stable, max(fixed, default=end), *((part.end - 1) // segment * segment for part in _texts(parts))}
    return [(at, at in kept or at in books or at in turns or at % SNAPSHOT_TOKENS == 0) for at in ends]


def is_fixed(parts: Sequence[PartRow], position: int, *, chunk_tokens: int = CHUNK_TOKENS) -> bool:
    """Whether every reading of the stream ends a checkpoint at this position, however it is stopped and continued.

    These are the multiples of SEGMENT_TOKENS, or of chunk_tokens where that is larger; the ends of documents of at
    least SNAPSHOT_TOKENS (a checkpoint for every file of a repository would cost more than its prefill), and of texts
    that a program has sent; and the beginning and the end of every turn. A reading that begins at one of them gives the
    state of one that was never stopped, bit for bit: it cuts the tokens into the same chunks.
    """
    if position % max(SEGMENT_TOKENS, chunk_tokens) == 0 or position in _turn_bounds(parts):
        return True
    return any(part.end == position and _is_book(part) for part in parts)


def _is_book(part: PartRow) -> bool:
    return part.kind == TEXT or (part.kind == "document" and part.end - part.start >= SNAPSHOT_TOKENS)


def _texts(parts: Sequence[PartRow]) -> list[PartRow]:
    return [part for part in parts if part.kind == TEXT]


def _turn_bounds(parts: Sequence[PartRow]) -> set[int]:
    """Where turns begin and end."""
    return {part.start if part.kind == "user" else part.end for part in parts if part.kind in ("user", "assistant")}


def document_spans(parts: Sequence[PartRow], documents: Sequence[DocumentRow]) -> list[DocumentSpan]:
    """Where each document's own text is in the stream, without headers."""
    by_id = {row.id: row for row in documents}
    return [
        DocumentSpan(
            document_id=part.document_id,
            name=by_id[part.document_id].name,
            start=part.start + part.body_start,
            end=part.start + part.body_start + by_id[part.document_id].num_tokens,
        )
        for part in parts
        if part.document_id is not None
    ]


class FileFinder:
    """Finds the document at a position of the stream."""

    def __init__(self, spans: Sequence[DocumentSpan]) -> None:
        self._starts = [span.start for span in spans]
        self._ends = [span.end for span in spans]
        self._names = [span.name for span in spans]

    @property
    def count(self) -> int:
        """Documents in the stream."""
        return len(self._names)

    def at(self, position: int) -> tuple[int, str]:
        """After `position` tokens: (documents that are complete, name of the current one; "" before the first)."""
        index = bisect_right(self._starts, position - 1) - 1
        return bisect_right(self._ends, position), self._names[index] if index >= 0 else ""
