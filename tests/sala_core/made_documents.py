"""Documents for the tests of the source viewer."""

import re

import numpy as np

from sala_core.ingest.document import Document, EncodedDocument


def encode(text: str, name: str = "a.txt", media_type: str = "text/plain", page_starts: tuple[int, ...] = ()):
    """A document with one token for each word."""
    starts = [match.start() for match in re.finditer(r"\S+\s*", text)] or [0]
    document = Document(
        name=name,
        media_type=media_type,
        num_bytes=len(text.encode()),
        text=text,
        page_starts=page_starts,
        content_hash=Document.hash_of(name, text),
    )
    return EncodedDocument(
        document=document,
        token_ids=np.arange(len(starts), dtype=np.int32),
        token_starts=np.array([0, *starts[1:]], np.int64),
    )
