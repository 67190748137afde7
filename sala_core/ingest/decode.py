"""Decode the bytes of a text file in any encoding, with a warning if the encoding is a guess."""

import codecs
import re

from charset_normalizer import from_bytes

from sala_core.ingest.parsers.result import normalize_text
from sala_core.ingest.sniff import HEAD_BYTES, looks_like_utf16

SAMPLE_BYTES = 64 * 1024
# UTF-32 before UTF-16: the UTF-32 little-endian mark begins with the UTF-16 one.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WESTERN_SIGNS = "\u00a0£§©«®°·»€‘’“”–—…•™"


def decode_text(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return (text, warnings) for the bytes of a file. Never raises: invalid bytes become U+FFFD.

    The byte order mark is dropped, and the text is normalized by `normalize_text`.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_replacing(data[len(mark) :], encoding)
    if encoding := looks_like_utf16(data[:HEAD_BYTES]) or "":
        return _decode_replacing(data, encoding)
    if b"\x1b$" not in data and b"\x1b(" not in data:
        try:
            return normalize_text(data.decode()), ()
        except UnicodeDecodeError:
            if _is_mostly_utf8(data):
                return _decode_replacing(data, "utf-8")
    return _guess(data)


def _decode_replacing(data: bytes, encoding: str) -> tuple[str, tuple[str, ...]]:
    """Decode with U+FFFD for invalid bytes, and a warning that counts them."""
    text = data.decode(encoding, errors="replace")
    num_bad = text.count("\ufffd") - data.count("\ufffd".encode(encoding))
    warnings = (f"{num_bad} places are not valid {encoding.upper()}",) if num_bad > 0 else ()
    return normalize_text(text), warnings


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether at most one in ten of the characters beyond ASCII is invalid as UTF-8."""
    text = data.decode(errors="replace")
    beyond_ascii = sum(not char.isascii() for char in text)
    return text.count("\ufffd") * 10 <= beyond_ascii


def _guess(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Let charset-normalizer choose an encoding; but not for a few Western words, where it is often wrong."""
    sample = _sample(data)
    if _is_short_western(sample):
        candidates = ["cp1252"]
    else:
        best = from_bytes(sample, cp_exclusion=["utf_7"]).best()
        candidates = [best.encoding, "cp1252"] if best else ["cp1252"]
    for encoding in candidates:
        try:
            text = data.decode(encoding)
        except (UnicodeError, LookupError):
            continue
        return normalize_text(text), (f"read as {encoding.replace('_', '-')} (guessed)",)
    return normalize_text(data.decode("latin-1")), ("read as latin-1 (guessed)",)


def _is_short_western(sample: bytes) -> bool:
    """Whether the text has few bytes beyond ASCII and these are mostly letters in Western European (cp1252)."""
    beyond = [char for char in sample.decode("cp1252", errors="replace") if not char.isascii()]
    if len(beyond) > 16 or "\ufffd" in beyond or b"\x1b" in sample:
        return False
    num_letters = sum(char.isalpha() for char in sample.decode("latin-1") if char.isascii())
    num_other = sum(not char.isalpha() and char not in _WESTERN_SIGNS for char in beyond)
    return num_other == 0 and sum(char.isalpha() for char in beyond) * 3 <= num_letters + 2


def _sample(data: bytes) -> bytes:
    """A short file whole; of a long one the lines with bytes beyond ASCII, up to `SAMPLE_BYTES`."""
    if len(data) <= SAMPLE_BYTES:
        return data
    lines: list[bytes] = []
    size = 0
    for line in re.finditer(rb"[^\n]*[\x80-\xff\x1b][^\n]*\n?", data):
        lines.append(line[0][: SAMPLE_BYTES - size])
        size += len(lines[-1])
        if size >= SAMPLE_BYTES:
            break
    return b"".join(lines)
