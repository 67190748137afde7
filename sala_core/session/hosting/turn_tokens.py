"""The tokens of a client's turns, by their texts, so that a turn that comes back is the one that was answered.

An answer's text does not tell its tokens: the model has also written its thinking, and the same text can be written
with other tokens. They are kept for as long as the client has sessions here.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from sala_core.disk.files import make_folder, storage_error, write_file
from sala_core.remote.sala.order import OrderedTurn

_FOLDER = "turns"


class TurnTokens:
    """One client's turns. tokenizer: fingerprint of the one whose tokens are meant."""

    def __init__(self, folder: Path) -> None:
        """folder: of the client."""
        self._folder = folder / _FOLDER

    def put(self, turn: OrderedTurn, tokenizer: str, question: np.ndarray, answer: np.ndarray) -> None:
        """Keep the tokens of a turn. Raises DiskFullError, LibraryError.

        Args:
            turn: its texts.
            tokenizer: fingerprint.
            question, answer: int32 [n].
        """
        path = self._path(turn, tokenizer)
        data = json.dumps([question.tolist(), answer.tolist()]).encode()
        try:
            make_folder(self._folder, 0o700)
            write_file(path, [memoryview(data)])
        except OSError as error:
            raise storage_error(error, path) from error

    def get(self, turn: OrderedTurn, tokenizer: str) -> tuple[np.ndarray, np.ndarray] | None:
        """The tokens of a turn, int32 [n] each; None if they are not kept, or damaged."""
        with suppress(OSError, ValueError, TypeError):
            question, answer = json.loads(self._path(turn, tokenizer).read_bytes())
            return np.array(question, np.int32), np.array(answer, np.int32)
        return None

    def _path(self, turn: OrderedTurn, tokenizer: str) -> Path:
        texts = [tokenizer, *(" ".join(text.split()) for text in (turn.question, turn.answer))]
        return self._folder / hashlib.sha256("\0".join(texts).encode()).hexdigest()
