"""The text of an answer while it is decoded."""

import re
import time
from dataclasses import dataclass, field

from sala_core.engine.generate import Token

_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”»)*_]*(?=\s|$)|\n")


@dataclass(kw_only=True)
class AnswerText:
    """Collects tokens into text and thinking, and times the thinking. Another thread may read it at any time.

    is_thinking: whether the tokens so far end inside the thinking; at first, whether the prompt opens it.
    """

    text: str = ""
    thinking: str = ""
    is_thinking: bool = False
    _began: float | None = field(default=None, init=False)
    _ended: float | None = field(default=None, init=False)

    @property
    def thinking_s(self) -> float | None:
        """Seconds from the first token of the thinking to its end, or to now; None if there was none."""
        if self._began is None:
            return None
        return (self._ended or time.monotonic()) - self._began

    def without_copies(self, repeated_chars: int) -> str:
        """The text without its last `repeated_chars` characters, which repeat what is before them.

        A sentence that this cuts is completed from the first copy.
        """
        end = len(self.text) - repeated_chars
        kept = self.text[:end]
        if not repeated_chars or not kept.strip() or _SENTENCE_END.search(kept.rstrip()[-3:]):
            return kept
        rest = _SENTENCE_END.search(self.text, end)
        return self.text[: rest.end()] if rest else kept

    def add(self, token: Token) -> None:
        """Append the token's text to the text or to the thinking."""
        if token.thinking:
            self._began = self._began or time.monotonic()
            self.thinking += token.text
        else:
            if self._began is not None and self._ended is None:
                self._ended = time.monotonic()
            self.text += token.text
        self.is_thinking = token.thinking
