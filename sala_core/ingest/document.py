"""What a file becomes on its way to the model: a document, a document with token ids, or a reason to skip it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

MIB = 1 << 20
TREE_MEDIA_TYPE = "text/x-file-tree"
"""Media type of the tree that stands before a repository. It describes what follows it at the first reading: when the
repository is read again, the tree stays as it is, because everything behind it would have to be read again."""
SHEET_MEDIA_TYPES = (
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.oasis.opendocument.spreadsheet",
)
"""Media types of spreadsheets. Their pages are sheets, and places in them have the names of the columns."""
TABLE_MEDIA_TYPE = "text/csv"
"""Media type of CSV and TSV files. Places in them have row numbers and the names of the columns."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on the cost of reading files. A file beyond them is skipped with a reason."""

    max_file_bytes: int = 64 * MIB
    """Largest text or HTML file, and the most text (as UTF-8) that any file may give."""
    max_container_bytes: int = 512 * MIB
    """Largest PDF or EPUB. Most of their bytes are pictures."""
    max_unpacked_bytes: int = 256 * MIB
    """Most bytes unpacked from one EPUB."""
    max_archive_bytes: int = 1024 * MIB
    """Most bytes unpacked from one archive. Its other members are skipped."""
    max_archive_ratio: int = 250
    """Most bytes unpacked for each byte of a packed file, beyond the first 8 MiB."""
    max_parse_s: float = 120.0
    """Wall-clock time for parsing one PDF, EPUB or HTML file, and for unpacking one archive."""
    max_wasted_parse_s: float = 120.0
    """Wall-clock time for all files of one reading that are given up, beyond what any file may take (`TimeBudget`)."""
    max_ocr_s: float = 3600.0
    """Wall-clock time for the recognition (OCR) of all scanned pages of one file, beyond `max_parse_s`."""
    max_parse_memory_bytes: int = 1024 * MIB
    """Memory of the parser process."""
    max_files: int = 100_000
    """Most files in one call of `walk`, and most members of one archive."""
    max_file_tokens: int = 1 << 21
    """Most tokens of one file. A session holds no more, so a longer one could not be read."""

    def __post_init__(self) -> None:
        """Raise ValueError for a limit that is not positive."""
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A file or a whole folder that is not read. name: relative; path: absolute; reason: shown to the user.

    is_failed: its format is known, and its text cannot be read. is_locked: a password would open it.
    """

    name: str
    path: str
    reason: str
    is_failed: bool = False
    is_locked: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON types; `is_failed` and `is_locked` only where they are true."""
        marks = {key: True for key in ("is_failed", "is_locked") if getattr(self, key)}
        return {"name": self.name, "path": self.path, "reason": self.reason, **marks}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote. Missing keys become "", unknown ones are ignored."""
        name, path, reason = (str(raw.get(key, "")) for key in ("name", "path", "reason"))
        is_failed, is_locked = (bool(raw.get(key, False)) for key in ("is_failed", "is_locked"))
        return cls(name=name, path=path, reason=reason, is_failed=is_failed, is_locked=is_locked)


@dataclass(frozen=True, kw_only=True)
class Document:
    """The text of one file as the model reads it."""

    name: str
    """Relative POSIX path, shown to the user and the model."""
    media_type: str
    num_bytes: int
    """Size of the file, not of the text."""
    text: str
    """Newlines are `\\n`; no NUL and no lone surrogate."""
    page_starts: tuple[int, ...] = ()
    """Character offset of each page, nondecreasing; () if the format has no pages."""
    warnings: tuple[str, ...] = ()
    """What could not be read, and on which pages: `pages 3, 7-9: no text (scanned?)`."""
    content_hash: str
    """xxh3-128 of name and text, hexadecimal."""
    path: str = field(default="", compare=False)
    """Absolute path of the file that was just read. It is not stored with the text."""

    @staticmethod
    def hash_of(name: str, text: str) -> str:
        """Return the `content_hash` of a document with this name and text."""
        digest = xxhash.xxh3_128(name.encode())
        digest.update(b"\0")
        digest.update(text.encode())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedDocument:
    """A document and the tokens of its body (without the header that names it).

    token_ids: int32 [T]. token_starts: int64 [T], character offset in `document.text` at which each token begins;
    nondecreasing, the first is 0. Token i covers the characters up to the next greater start.
    """

    document: Document
    token_ids: NDArray[np.int32]
    token_starts: NDArray[np.int64]

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the body."""
        return len(self.token_ids)

    def __eq__(self, other: Any) -> bool:
        """Whether documents, token ids and token starts are equal."""
        if not isinstance(other, EncodedDocument):
            return NotImplemented
        return (
            self.document == other.document
            and np.array_equal(self.token_ids, other.token_ids)
            and np.array_equal(self.token_starts, other.token_starts)
        )

    __hash__ = None  # type: ignore[assignment]
