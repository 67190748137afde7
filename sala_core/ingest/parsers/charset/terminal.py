"""Control sequences of terminals in a text: colors and overprinted letters of logs and manual pages, left out."""

import re

# ECMA-48: control sequences; operating system commands up to their end; other escape sequences
_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]P^_X][^\x07\x1b\n]*(?:\x07|\x1b\\)|\x1b[()*+][0-9A-B]|\x1b[=>78cDEHMNOZ]"
)
_OVERPRINT = re.compile(r"_\x08(.)|(.)\x08(?:\2|_)")
_MAX_PASSES = 4  # bold and underlined at once: a letter, printed up to four times


def without_sequences(text: str) -> tuple[str, str | None]:
    """Return (text as a terminal shows its words, note with the number of sequences that are left out or None)."""
    number = 0
    if "\x1b" in text:
        text, number = _SEQUENCE.subn("", text)
    if "\b" in text:
        for _ in range(_MAX_PASSES):
            text, more = _OVERPRINT.subn(lambda match: match[1] or match[2], text)
            number += more
            if not more:
                break
    if not number:
        return text, None
    return text, f"{number:,} control sequence{'s' * (number > 1)} of a terminal (colors, bold) left out"
