"""From bytes to text: whatever the encoding, a text comes out, with a warning where it had to be guessed."""

import codecs
import re

from charset_normalizer import from_bytes

from sala_core.ingest.sniff import HEAD_BYTES, looks_like_utf16

SAMPLE_BYTES = 64 * 1024
# The longer marks first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WESTERN_SIGNS = "\u00a0£§©«®°·»€‘’“”–—…•™"
_UNWANTED = re.compile("[\0\ud800-\udfff]")
_CARRIAGE_RETURN = re.compile("\r\n?")


def decode_text(data: bytes) -> tuple[str, tuple[str, ...]]:
    """(text, warnings) of a file's bytes. Never raises: bytes that mean nothing become U+FFFD.

    Newlines become `\\n`, a byte order mark is dropped, NUL and lone surrogates become U+FFFD.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _replacing(data[len(mark) :], encoding)
    if encoding := looks_like_utf16(data[:HEAD_BYTES]) or "":
        return _replacing(data, encoding)
    if b"\x1b$" not in data and b"\x1b(" not in data:
        try:
            return normalise(data.decode()), ()
        except UnicodeDecodeError:
            if _is_mostly_utf8(data):
                return _replacing(data, "utf-8")
    return _guess(data)


def normalise(text: str) -> str:
    """The text with `\\n` newlines and nothing in it that UTF-8 or a database cannot hold."""
    if "\r" in text:
        text = _CARRIAGE_RETURN.sub("\n", text)
    return _UNWANTED.sub("\ufffd", text)


def _replacing(data: bytes, encoding: str) -> tuple[str, tuple[str, ...]]:
    text = data.decode(encoding, errors="replace")
    num_bad = text.count("\ufffd") - data.count("\ufffd".encode(encoding))
    warnings = (f"{num_bad} places are not valid {encoding.upper()}",) if num_bad > 0 else ()
    return normalise(text), warnings


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether a text is UTF-8 but for one place in ten characters beyond ASCII."""
    text = data.decode(errors="replace")
    beyond_ascii = sum(not char.isascii() for char in text)
    return text.count("\ufffd") * 10 <= beyond_ascii


def _guess(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Let charset-normalizer choose by what is not ASCII; but it errs on a few words of French."""
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
        return normalise(text), (f"read as {encoding.replace('_', '-')} (guessed)",)
    return normalise(data.decode("latin-1")), ("read as latin-1 (guessed)",)


def _is_short_western(sample: bytes) -> bool:
    """Few bytes beyond ASCII, which are letters among ASCII letters if read as Western European."""
    beyond = [char for char in sample.decode("cp1252", errors="replace") if not char.isascii()]
    if len(beyond) > 16 or "\ufffd" in beyond or b"\x1b" in sample:
        return False
    num_letters = sum(char.isalpha() for char in sample.decode("latin-1") if char.isascii())
    num_other = sum(not char.isalpha() and char not in _WESTERN_SIGNS for char in beyond)
    return num_other == 0 and sum(char.isalpha() for char in beyond) * 3 <= num_letters + 2


def _sample(data: bytes) -> bytes:
    """The lines of a long file that have bytes beyond ASCII, up to `SAMPLE_BYTES`; a short file whole."""
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
