"""What a server's session holds of one of ours, and the text that is appended to it.

The text is ChatML, which the MiniCPM models speak: the server appends it as it is, without a chat template of its own.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sala_core.disk.files import make_folder, write_file
from sala_core.remote.engine import PastTurn, SessionText
from sala_core.remote.prompt import TEXT_HEAD, TEXT_TASK
from sala_core.text.prompt import document_header

_FOLDER, _FILE = "engines", "sglang.json"
AFTER_STOP, AFTER_LENGTH = "\n", "<|im_end|>\n"
"""What an answer lacks that ended by itself, with its end mark, and one that was cut at its limit."""

_USER, _ASSISTANT, _END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n"
_CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "</s>", "<s>")


@dataclass(frozen=True, kw_only=True)
class ServerSession:
    """A session of the server.

    id: its name there. pieces: digests of what was appended, in order: the documents, then one for each turn. tokens:
    how many it holds. before: what has to stand before the next message, because the last answer lacks it.
    """

    id: str
    pieces: tuple[str, ...]
    tokens: int
    before: str = ""


def pieces_of(session: SessionText) -> tuple[str, ...]:
    """Digests of what a server's session has to hold before the next question."""
    documents = [f"{document.name}\0{document.content_hash}" for document in session.documents]
    return (_digest(documents), *(turn_digest(turn.question, turn.answer) for turn in session.turns))


def turn_digest(question: str, answer: str) -> str:
    """The digest of one turn."""
    return _digest([question, answer.strip()])


def beginning(session: SessionText) -> str:
    """All documents as one message, up to its end."""
    texts = "\n\n".join(document_header(document.name) + document.text() for document in session.documents)
    return f"{_USER}{TEXT_HEAD}\n\n{_plain(texts)}\n\n{TEXT_TASK}{_END}"


def continuation(held: ServerSession, turns: Sequence[PastTurn], question: str) -> str:
    """What follows: turns that the server has not seen, and the question, up to where its answer begins.

    Args:
        held: what it holds.
        turns: those it has not seen.
        question: the present one.
    """
    past = "".join(f"{_USER}{_plain(turn.question)}{_END}{_ASSISTANT}{_plain(turn.answer)}{_END}" for turn in turns)
    return f"{held.before}{past}{_USER}{_plain(question)}{_END}{_ASSISTANT}"


def _plain(text: str) -> str:
    """A text that holds no control token: a space is put into what the server would read as one."""
    for mark in _CONTROL:
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]


class KnownSessions:
    """The servers' sessions that a library knows, on disk. What is lost of them is read again there."""

    def __init__(self, library: Path) -> None:
        """library: its folder."""
        self._file = library / _FOLDER / _FILE

    def get(self, key: str) -> ServerSession | None:
        """The one under a key; None for an unknown or damaged one."""
        try:
            raw = self._all()[key]
            return ServerSession(
                id=str(raw["id"]),
                pieces=tuple(map(str, raw["pieces"])),
                tokens=int(raw["tokens"]),
                before=str(raw["before"]),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def put(self, key: str, session: ServerSession | None) -> None:
        """Note one, or forget it. Raises LibraryError."""
        known = self._all()
        known.pop(key, None)
        if session is not None:
            known[key] = asdict(session)
        make_folder(self._file.parent, 0o700)
        write_file(self._file, [memoryview(json.dumps(known).encode())])

    def _all(self) -> dict[str, dict[str, Any]]:
        try:
            raw = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return raw if isinstance(raw, dict) else {}
