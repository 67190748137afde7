"""From text to token ids that know which characters they stand for."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sala_core.ingest.document import Document, EncodedDocument
from sala_core.ingest.parser_process import ReadingStoppedError

PIECE_CHARS = 256 * 1024


class ContentEncoder(Protocol):
    """The part of the tokenizer that reading needs: text never becomes a control token."""

    def encode_content_with_offsets(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """int32 ids [T] and the int64 character offset in `text` at which each begins [T]."""
        ...


def pieces(text: str, max_chars: int = PIECE_CHARS) -> Iterator[tuple[int, int]]:
    """Bounds of consecutive parts of at most `max_chars` characters, cut where a line begins if there is one.

    A line that begins with white space is avoided, because tokenizers join a newline with the space after it.
    """
    start = 0
    while len(text) - start > max_chars:
        end = _cut(text, start, start + max_chars)
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)


def _cut(text: str, start: int, end: int) -> int:
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
    # Tokenizers keep a space with the word after it.
    return space if space > start else end


def encode_document(
    document: Document, encoder: ContentEncoder, should_stop: Callable[[], bool] = lambda: False
) -> EncodedDocument:
    """Encode the document's text piece by piece, so that only ids and offsets grow with its length.

    Raises ReadingStoppedError when `should_stop` says so.
    """
    ids: list[NDArray[np.int32]] = []
    starts: list[NDArray[np.int64]] = []
    for start, end in pieces(document.text):
        if should_stop():
            raise ReadingStoppedError
        piece_ids, piece_starts = encoder.encode_content_with_offsets(document.text[start:end])
        if not len(piece_ids):
            continue
        ids.append(np.asarray(piece_ids, np.int32))
        starts.append(np.asarray(piece_starts, np.int64) + start)
    token_ids = np.concatenate(ids) if ids else np.empty(0, np.int32)
    token_starts = np.concatenate(starts) if starts else np.empty(0, np.int64)
    # A character that a tokenizer leaves out belongs to the token before it, the first ones to the first
    # token.
    token_starts[:1] = 0
    np.maximum.accumulate(token_starts, out=token_starts)
    return EncodedDocument(document=document, token_ids=token_ids, token_starts=token_starts)
