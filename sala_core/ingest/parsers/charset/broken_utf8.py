"""UTF-8 that is broken in places: surrogate pairs (CESU-8), and lines that were written in another encoding."""

import math
import re
import unicodedata
from collections.abc import Iterable

from .decoders import decode_with
from .guess import guess_codec, likelihood
from .labels import web_name
from .profiles import profiles

_SEQUENCE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_PAIR = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")
_MIN_LETTERS = 2
_SAMPLE_BYTES = 1 << 16
_SAMPLE_LINES = 1000
_MIN_NEW_ALPHABET = 4  # letters: fewer do not show a language that the other lines do not have
# log-probability of the characters beyond ASCII: letters and signs of a language have -2 to -7
_MIN_MEAN = -9.0


def without_surrogates(data: bytes) -> tuple[bytes, int]:
    """Return (`data` with every surrogate pair of CESU-8 as one character of UTF-8, their number)."""
    return _PAIR.subn(_joined, data) if b"\xed" in data else (data, 0)


def _joined(match: re.Match[bytes]) -> bytes:
    return match[0].decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass").decode("utf-16-le").encode()


def is_mostly_utf8(data: bytes) -> bool:
    """Whether the bytes beyond ASCII are UTF-8, except for a few: one broken place for three valid characters.

    More places may be broken where the valid characters are letters and signs that some language uses.
    """
    if _is_utf8_line(data):
        return True
    num_valid = len(_SEQUENCE.findall(data[:_SAMPLE_BYTES]))
    text = data[:_SAMPLE_BYTES].decode(errors="replace")
    return (
        num_valid >= _MIN_LETTERS
        and text.count("\ufffd") <= 2 * num_valid
        and _mean(text.replace("\ufffd", "")) >= _MIN_MEAN
    )


def _is_utf8_line(data: bytes) -> bool:
    """Whether there is at most one broken place for three valid characters beyond ASCII."""
    try:
        data.decode()
    except UnicodeDecodeError:
        pass
    else:
        return True
    num_valid = len(_SEQUENCE.findall(data))
    if not num_valid:
        return False
    text = data.decode(errors="replace")
    num_broken = text.count("\ufffd") - data.count("\ufffd".encode())
    # a file that was cut inside a character is broken at its end only
    return (num_broken == 1 and text.endswith("\ufffd")) or num_broken * 3 <= num_valid


def _mean(text: str) -> float:
    """Log-probability of the characters of a text beyond ASCII, in the middle."""
    signs = "".join(char for char in text if char > "\x7f")[:_SAMPLE_BYTES]
    return likelihood(signs, tuple(profiles())) / len(signs) if any(map(str.isalpha, signs)) else -math.inf


def _alphabets(text: Iterable[str]) -> set[str]:
    """First words of the Unicode names of the letters beyond ASCII: LATIN, CYRILLIC, CJK."""
    return {unicodedata.name(char, "").split(" ")[0] for char in text if char > "\x7f" and char.isalpha()}


def decode_lines(data: bytes) -> tuple[str, str] | None:
    """Return (text, note) if some lines are UTF-8 and others, as a whole, text in one other encoding; otherwise None.

    In a line that is mostly UTF-8, invalid bytes become U+FFFD.
    """
    lines = data.splitlines(keepends=True)
    beyond = [number for number, line in enumerate(lines) if not line.isascii()]
    # most files are in one encoding: a part of the lines shows it
    sample = [lines[number] for number in beyond[:: len(beyond) // _SAMPLE_LINES + 1]]
    own = b"".join(line for line in sample if _is_utf8_line(line))
    if _mean(own.decode(errors="ignore")) < _MIN_MEAN:
        return None
    foreign = {number for number in beyond if not _is_utf8_line(lines[number])}
    if not foreign or len(foreign) == len(beyond):
        return None
    others = b"".join(lines[number] for number in sorted(foreign))
    codec = guess_codec(others, utf16=False)
    text = decode_with(others, codec)
    letters = [char for char in text if char > "\x7f" and char.isalpha()]
    is_new_alphabet = not _alphabets(letters) <= _alphabets(own.decode(errors="ignore"))
    if "\ufffd" in text or _mean(text) < _MIN_MEAN or (is_new_alphabet and len(letters) < _MIN_NEW_ALPHABET):
        return None
    decoded = [
        decode_with(line, codec) if number in foreign else line.decode(errors="replace")
        for number, line in enumerate(lines)
    ]
    lines_are = f"{len(foreign):,} lines are" if len(foreign) > 1 else "1 line is"
    note = f"{lines_are} not UTF-8, first line {min(foreign) + 1:,}: read as {web_name(codec)} (guessed)"
    return "".join(decoded), note
