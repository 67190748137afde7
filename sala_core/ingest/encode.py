"""Encode a document to token ids with the character offset of each token."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sala_core.errors import IngestError
from sala_core.ingest.document import Document, EncodedDocument
from sala_core.ingest.parser_process import ReadingStoppedError
from sala_core.stopping import never

PIECE_CHARS = 256 * 1024


class ContentEncoder(Protocol):
    """The part of the tokenizer that is needed here. It never encodes text as a control token."""

    def encode_content_with_offsets(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return token ids [T] int32, and the character offset in `text` at which each begins, [T] int64."""
        ...


def pieces(text: str, max_chars: int = PIECE_CHARS) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of consecutive pieces of at most `max_chars` characters, split at line starts if possible.

    A line that begins with white space is avoided, because tokenizers merge a newline with the space after it.
    """
    start = 0
    while len(text) - start > max_chars:
        end = _cut(text, start, start + max_chars)
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)


def _cut(text: str, start: int, end: int) -> int:
    """Where to split: in the second half of text[start:end], best at a line start, else before a space, else at end."""
    earliest = start + (end - start) // 2
    newline = end
    for _ in range(200):
        newline = text.rfind("\n", earliest, newline)
        if newline < 0:
            break
        if not text[newline + 1].isspace():
            return newline + 1
    newline = text.rfind("\n", earliest, end)
    if newline >= 0:
        return newline + 1
    space = text.rfind(" ", earliest, end)
    # before the space: tokenizers merge a space with the word after it
    return space if space > start else end


def encode_document(
    document: Document,
    encoder: ContentEncoder,
    should_stop: Callable[[], bool] = never,
    max_tokens: int | None = None,
) -> EncodedDocument:
    """Encode a document piece by piece, so that only ids and offsets grow with its length.

    Args:
        document: its text is encoded.
        encoder: text to ids and offsets.
        should_stop: called before each piece.
        max_tokens: most tokens; None for no limit.

    Raises ReadingStoppedError if `should_stop` returns True, IngestError for a document of more tokens.
    """
    ids: list[NDArray[np.int32]] = []
    starts: list[NDArray[np.int64]] = []
    num_tokens = 0
    for start, end in pieces(document.text):
        if should_stop():
            raise ReadingStoppedError
        piece_ids, piece_starts = encoder.encode_content_with_offsets(document.text[start:end])
        if not len(piece_ids):
            continue
        ids.append(np.asarray(piece_ids, np.int32))
        starts.append(np.asarray(piece_starts, np.int64) + start)
        num_tokens += len(piece_ids)
        if max_tokens is not None and num_tokens > max_tokens:
            estimate = num_tokens * len(document.text) // max(end, 1)
            raise IngestError(f"about {estimate:,} tokens, over the limit of {max_tokens:,} for one file; divide it")
    token_ids = np.concatenate(ids) if ids else np.empty(0, np.int32)
    token_starts = np.concatenate(starts) if starts else np.empty(0, np.int64)
    # characters that a tokenizer skips belong to the token before them, or to the first token
    token_starts[:1] = 0
    np.maximum.accumulate(token_starts, out=token_starts)
    return EncodedDocument(document=document, token_ids=token_ids, token_starts=token_starts)
