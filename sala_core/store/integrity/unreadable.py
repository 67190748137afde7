"""Files that are there and cannot be read at this moment: `repair` must not take what they hold for lost."""

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sala_core.errors import CorruptStateError, LibraryError

_NO_FILE = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO)
"""Errors of a name without a regular file: what belongs there is lost."""


def refuse_unreadable(path: Path, error: BaseException | None) -> None:
    """Raise LibraryError if the system could not read a file that is there, as on a failing disk.

    path: of the file. error: what reading it has raised, or the cause of that.
    """
    if isinstance(error, OSError) and error.errno not in _NO_FILE:
        raise LibraryError(
            f"cannot read {path} ({error.strerror}); nothing is given up for lost: check the disk and who may read it, "
            "and run `repair` again. If it stays so, move this file out of the library, and `repair` goes on without it"
        ) from error


def readable_tokens(document_tokens: Callable[[str], np.ndarray], folder: Path) -> Callable[[str], np.ndarray]:
    """As `document_tokens` (id of a document -> int32 [T]), but a file that cannot be read now raises LibraryError.

    folder: of the documents.
    """

    def read(document_id: str) -> np.ndarray:
        try:
            return document_tokens(document_id)
        except CorruptStateError as error:
            refuse_unreadable(folder / f"{document_id}.safetensors", error.__cause__)
            raise

    return read
