"""Split a streamed answer into thinking and answer text."""

from dataclasses import dataclass

OPEN_TAG = "<think>"
CLOSE_TAG = "</think>"
EMPTY_BLOCK = f"{OPEN_TAG}\n\n{CLOSE_TAG}\n\n"
"""What models of the Qwen family, and those trained like them, read in place of thinking that is switched off."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A nonempty text, of the thinking or of the answer."""

    text: str
    thinking: bool


class ThinkSplitter:
    """Splits pushed text into pieces. `<think>` is a tag only at the start of the answer, after white space at most.

    The tags and the white space around them are dropped; all other text is returned once and in order, however it was
    split between pushes. Text that can be the start of a tag is held back until the next push. A block that is never
    closed is thinking to the end. inside: the prompt has already opened the block.
    """

    def __init__(self, *, inside: bool = False) -> None:
        self._phase = "thinking" if inside else "opening"
        self._held = ""
        self._at_start = True  # only white space so far in this phase

    @property
    def thinking(self) -> bool:
        """Whether what was pushed ends inside the block, its tags included."""
        return self._phase == "thinking"

    @property
    def in_open_tag(self) -> bool:
        """Whether what was pushed is a part of the opening tag, which the next text may complete."""
        return self._phase == "opening" and bool(self._held.strip())

    @property
    def in_close_tag(self) -> bool:
        """Whether what was pushed ends with a part of the closing tag, which the next text may complete."""
        return self.thinking and possible_prefix(self._held, CLOSE_TAG) > 0

    def push(self, text: str) -> list[Piece]:
        """Add text; return the pieces that are certain, in order."""
        self._held += text
        return self._take(final=False)

    def flush(self) -> list[Piece]:
        """Return what was held back, at the end of the answer."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> list[Piece]:
        """The pieces that are certain; with `final` all of them."""
        pieces: list[Piece] = []
        if self._phase == "opening":
            self._open(final=final)
        if self._phase == "thinking":
            pieces += self._think(final=final)
        if self._phase == "after":
            # drop the white space between the block and the answer
            self._held = self._held.lstrip()
            if self._held:
                self._phase = "answer"
        if self._phase == "answer" and self._held:
            pieces.append(Piece(text=self._held, thinking=False))
            self._held = ""
        return pieces

    def _open(self, *, final: bool) -> None:
        """Decide whether the answer begins with the tag, once there is enough text."""
        begin = self._held.lstrip()
        if begin.startswith(OPEN_TAG):
            self._held = begin.removeprefix(OPEN_TAG)
            self._phase = "thinking"
        elif final or not OPEN_TAG.startswith(begin):
            self._phase = "answer"

    def _think(self, *, final: bool) -> list[Piece]:
        if self._at_start:
            self._held = self._held.lstrip()
            self._at_start = not self._held
        text, closed, rest = self._held.partition(CLOSE_TAG)
        if closed:
            self._phase, self._held = "after", rest
            text = text.rstrip()
        elif not final:
            keep = len(text) - possible_prefix(text, CLOSE_TAG)
            keep = len(text[:keep].rstrip())  # white space before the tag is dropped: wait for what follows it
            text, self._held = text[:keep], text[keep:]
        else:
            self._held = ""
        return [Piece(text=text, thinking=True)] if text else []


def possible_prefix(text: str, tag: str) -> int:
    """Return the length of the longest suffix of `text` that is a proper prefix of `tag`."""
    for length in range(min(len(text), len(tag) - 1), 0, -1):
        if tag.startswith(text[-length:]):
            return length
    return 0
