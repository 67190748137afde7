"""Text for the haystacks: this program's own prose mixed with invented chronicles, or files of the user."""

import hashlib
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from sala_core.assets import ASSETS
from sala_core.errors import EvalError
from sala_core.evals.chronicle import LINE_CHARS, chronicle

_TEXTS = ASSETS / "quantize"
OWN_TEXTS = (
    _TEXTS / "calibration" / "prose.md",
    _TEXTS / "calibration" / "dialogue.md",
    _TEXTS / "held-out" / "letter.md",
)
"""Prose written for this program. It is short, so long haystacks repeat it."""

_CHRONICLES = 3  # generated paragraphs after each one of `OWN_TEXTS`; they never repeat


class TextSource:
    """An endless stream of the paragraphs of some files, in their order."""

    def __init__(self, files: Sequence[Path] = ()) -> None:
        """files: plain text in UTF-8; () takes `OWN_TEXTS`. Raises EvalError."""
        self._own = not files
        texts = [_read(file) for file in files or OWN_TEXTS]
        self._paragraphs = [part for text in texts for part in text.split("\n\n") if part.strip()]
        if self._own:
            self._paragraphs = [textwrap.fill(part, LINE_CHARS) for part in self._paragraphs]
        if not self._paragraphs:
            raise EvalError("the text is empty; give a file with prose in it")
        self.digest = hashlib.sha256("\n\n".join(self._paragraphs).encode()).hexdigest()[:16]
        self.name = "own" if self._own else ", ".join(file.name for file in files)

    def text(self, rng: Random, num_chars: int) -> str:
        """At least `num_chars` characters, beginning at a random paragraph."""
        parts, length = [], 0
        for part in self._stream(rng):
            parts.append(part)
            length += len(part) + 2
            if length >= num_chars:
                return "\n\n".join(parts)
        raise AssertionError("the stream has no end")

    def _stream(self, rng: Random) -> Iterator[str]:
        at = rng.randrange(len(self._paragraphs))
        while True:
            yield self._paragraphs[at % len(self._paragraphs)]
            at += 1
            if self._own:
                for _ in range(_CHRONICLES):
                    yield chronicle(rng)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").replace("\r\n", "\n").replace("\x00", "")
    except OSError as error:
        raise EvalError(f"{file} cannot be read ({error.strerror}); give a text file") from error
    except UnicodeDecodeError as error:
        raise EvalError(f"{file} is not UTF-8 text (byte {error.start}); convert it first") from error
