"""Split a text into sentences: those of prose, and the lines of code, lists and registers."""

import re
from collections.abc import Iterator

SENTENCE_END = r"(?<!Mr)(?<!Mrs)(?<!Dr)(?<!St)[.!?]"
"""Pattern of the mark that ends a sentence of prose."""

NOT_AFTER_A_TITLE = r"(?<!Mr\.\s)(?<!Mrs\.\s)(?<!Dr\.\s)(?<!St\.\s)"
"""Pattern of a position after white space where a sentence can begin: not after a title."""

_BREAK = re.compile(
    rf"{SENTENCE_END}(?<!\b[A-Z]\.)[\"'”’)\]]*\s+"
    r"|\n[ \t]*\n\s*"
    r"|(?<=[:;{}),\]])[ \t]*\n(?=[ \t]+\S|[}\])@#])\s*"
    r"|\n[ \t]*(?=(?:(?:async|pub|static|export) )*(?:def|fn|func|function) \w+[(<]|class \w+[(:{])"
)
_LINE_END = re.compile(r"[ \t]*\n[ \t]*")
_FULL_LINE = 0.6  # a line shorter than this share of the longest line ends its sentence
_AROUND_CHARS = 1000
_OPENING, _CLOSING = "\"“‘«„'(*_#>-– \t\n", "\"”’»“' \t\n"


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) character offsets of every sentence, without quotation marks and white space around it.

    The end of a line ends a sentence if the line is much shorter than the longest one, or ends like a line of code.
    """
    breaks = {match.start() + len(match[0].rstrip()): match.end() for match in _BREAK.finditer(text)}
    longest, start = max(map(len, text.split("\n"))), 0
    for match in _LINE_END.finditer(text):
        if match.start() - start < _FULL_LINE * longest:
            breaks.setdefault(match.start(), match.end())
        start = match.end()
    at = 0
    for end, after in [*sorted(breaks.items()), (len(text), len(text))]:
        inner = text[at:end].lstrip(_OPENING)
        first = end - len(inner)
        if sentence := inner.rstrip(_CLOSING):
            yield first, first + len(sentence)
        at = max(at, after)


def sentences_around(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return (start, end) of the sentences that overlap text[start:end], as `sentences` gives them."""
    begin = max(0, start - _AROUND_CHARS)
    near = text[begin : end + _AROUND_CHARS]
    return [(begin + a, begin + b) for a, b in sentences(near) if begin + a < end and begin + b > start]
