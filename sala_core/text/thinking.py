"""Splits an answer that arrives in pieces into the thinking and the answer proper."""

from dataclasses import dataclass

OPEN_TAG = "<think>"
CLOSE_TAG = "</think>"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some text of one kind; never empty."""

    text: str
    thinking: bool


class ThinkSplitter:
    """Streams text into pieces; only a `<think>` that opens the answer, white space aside, counts as a tag.

    The tags and the white space around them are left out; everything else comes out once and in order,
    however the text was cut. Text that may begin a tag is held back until the next push. A block that is
    never closed is thinking to the end. Set `inside` where the prompt itself has opened the block.
    """

    def __init__(self, *, inside: bool = False) -> None:
        self._phase = "thinking" if inside else "opening"
        self._held = ""
        self._at_start = True  # nothing but white space came yet in this phase

    def push(self, text: str) -> list[Piece]:
        """Pieces that are certain now, in order."""
        self._held += text
        return self._take(final=False)

    def flush(self) -> list[Piece]:
        """What was held back, at the end of the answer."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> list[Piece]:
        pieces: list[Piece] = []
        if self._phase == "opening":
            self._open(final=final)
        if self._phase == "thinking":
            pieces += self._think(final=final)
        if self._phase == "after":
            # the white space between the block and the answer
            self._held = self._held.lstrip()
            if self._held:
                self._phase = "answer"
        if self._phase == "answer" and self._held:
            pieces.append(Piece(text=self._held, thinking=False))
            self._held = ""
        return pieces

    def _open(self, *, final: bool) -> None:
        """Decide whether the answer opens with the tag, once enough of it is there."""
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
            keep = len(text[:keep].rstrip())  # white space goes if the tag follows
            text, self._held = text[:keep], text[keep:]
        else:
            self._held = ""
        return [Piece(text=text, thinking=True)] if text else []


def possible_prefix(text: str, tag: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `tag`."""
    for length in range(min(len(text), len(tag) - 1), 0, -1):
        if tag.startswith(text[-length:]):
            return length
    return 0
