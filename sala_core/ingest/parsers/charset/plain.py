"""Decode the bytes of a text whose encoding is unknown, or declared by a label."""

import codecs
import re

from ..result import normalize_text
from .broken_utf8 import decode_lines, is_mostly_utf8, without_surrogates
from .coding_lines import named_codec
from .decoders import decode_with
from .guess import guess_codec, likelihood
from .labels import codec_for, web_name
from .profiles import profiles
from .terminal import without_sequences
from .utf16 import find_utf16

HEAD_BYTES = 8192
# UTF-32 before UTF-16: the UTF-32 little-endian mark begins with the UTF-16 one.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ISO2022 = {b"\x1b$B": "iso2022_jp", b"\x1b$@": "iso2022_jp", b"\x1b(J": "iso2022_jp", b"\x1b$)C": "iso2022_kr"}
_NULS = re.compile("\0+")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
# UTF-8 that was read as windows-1252 and saved as UTF-8: "Ã©" for "é", "â€™" for "’"
_TWICE = re.compile("Ã[\u0080-\u00bf\u0152-\u017e\u2018-\u2026]|â€[\u0080-\u00bf\u0152-\u017e\u2018-\u2122]")
_MIN_TWICE = 2
_TRUST = 25.0  # log of the odds for an encoding that a text names itself


def decode_plain(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return (text, notes) of bytes in any encoding. Never raises: invalid bytes become U+FFFD.

    Byte order marks are dropped, NUL bytes and control sequences of terminals are left out, and the text is normalized
    by `normalize_text`. A note tells what was guessed, replaced or left out.
    """
    data, codec = _without_mark(data)
    if codec:
        return _decode(data, codec)
    if found := find_utf16(data[:HEAD_BYTES]):
        text, notes = _decode(data, found)
        return text, (_guessed(found), *notes)
    for escape, codec in _ISO2022.items():
        if escape in data and not _BEYOND_ASCII.search(data):
            text, notes = _decode(data, codec)
            return text, (_guessed(codec), *notes)
    try:
        return _finish(data.decode(), ())
    except UnicodeDecodeError:
        pass
    named = named_codec(data)
    if named and not named.startswith("utf") and _is_possible(data, named):
        return _decode(data, named)
    data, num_pairs = without_surrogates(data)
    if mixed := decode_lines(data):
        return _finish(mixed[0], (mixed[1],))
    if num_pairs or is_mostly_utf8(data):
        text, notes = _decode(data, "utf-8")
        return text, (*notes, f"{num_pairs:,} characters in CESU-8, not UTF-8") if num_pairs else notes
    codec = guess_codec(data)
    text, notes = _decode(data, codec)
    return text, (_guessed(codec), *notes)


def decode_declared(data: bytes, label: str | None) -> tuple[str, tuple[str, ...]]:
    """Return (text, notes) of bytes whose encoding is declared by a label of the WHATWG Encoding Standard.

    A byte order mark outweighs the label, and so do bytes that are valid UTF-8 and make no likelier text under the
    label. Bytes that contradict the label are guessed; without a label, or with an unknown one, too.
    """
    body, mark = _without_mark(data)
    codec = codec_for(label) if label else None
    if mark or codec is None or label is None:
        text, notes = decode_plain(data)
        unknown = (f'unknown encoding "{label[:40]}"',) if label and not mark and notes else ()
        return text, unknown + notes
    if codec.startswith(("utf-16", "utf-32")) and not body[:4].count(0):
        codec = find_utf16(data[:HEAD_BYTES]) or "utf-8"  # a label that can be read is not in UTF-16
    if codec.startswith("utf-16"):
        codec = find_utf16(data[:HEAD_BYTES]) or codec
    if codec != "utf-8" and _is_rather_utf8(data, codec):
        codec = "utf-8"
    if codec == "utf-8" and not is_mostly_utf8(data):
        text, notes = decode_plain(data)
        return text, tuple(f'declared as "{label[:40]}", {note}' if "guessed" in note else note for note in notes)
    return _decode(data, codec)


def _is_possible(data: bytes, codec: str) -> bool:
    """Whether the bytes are valid under a codec, and their text is not much less likely than under another one."""
    if "\ufffd" in decode_with(data, codec):
        return False
    sample = data[: 2 * HEAD_BYTES]
    languages = tuple(profiles())
    other = likelihood(decode_with(sample, guess_codec(sample, utf16=False)), languages)
    return likelihood(decode_with(sample, codec), languages) >= other - _TRUST


def _is_rather_utf8(data: bytes, codec: str) -> bool:
    """Whether the bytes are valid UTF-8 beyond ASCII, and this text is likelier than the one under the codec."""
    sample = data[: 2 * HEAD_BYTES]
    if b"\x1b" in data or not _BEYOND_ASCII.search(data):
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    languages = tuple(profiles())
    utf8 = likelihood(sample.decode(errors="ignore"), languages)
    return utf8 >= likelihood(decode_with(sample, codec), languages)


def _without_mark(data: bytes) -> tuple[bytes, str]:
    """(data without its byte order mark, codec of the mark or "")."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :], codec
    return data, ""


def _guessed(codec: str) -> str:
    return f"read as {web_name(codec)} (guessed)"


def _decode(data: bytes, codec: str) -> tuple[str, tuple[str, ...]]:
    """Decode with U+FFFD for invalid bytes, and a note that counts them and names the first line."""
    text = decode_with(data, codec)
    num_bad = text.count("\ufffd")
    if num_bad and codec.startswith("utf"):
        num_bad -= data.count("\ufffd".encode(codec))
    if num_bad <= 0:
        return _finish(text, ())
    line = text.count("\n", 0, text.index("\ufffd")) + 1
    places = f"{num_bad:,} place{'s are' if num_bad > 1 else ' is'}"
    return _finish(text, (f"{places} not valid {web_name(codec)}, first in line {line:,}; shown as \ufffd",))


def _finish(text: str, notes: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Normalize, and leave out NUL characters. Inside a line they become a newline: what they divide stays apart."""
    if "\ufeff" in text:
        text = text.replace("\ufeff", "")  # marks of files that were joined; they have no width
    if "\x1b" in text or "\b" in text:
        text, note = without_sequences(text)
        notes = (*notes, note) if note else notes
    if "Ã" in text or "â€" in text:
        notes += _twice_encoded(text)
    if "\0" not in text:
        return normalize_text(text), notes
    num_nuls = text.count("\0")
    line = text.count("\n", 0, text.index("\0")) + 1
    text = _NULS.sub(lambda run: _replacement(text, run), text)
    plural = "s" if num_nuls > 1 else ""
    return normalize_text(text), (*notes, f"{num_nuls:,} NUL character{plural} left out, first in line {line:,}")


def _twice_encoded(text: str) -> tuple[str, ...]:
    """A note if several places look like UTF-8 that another program took for windows-1252."""
    places = list(_TWICE.finditer(text))
    if len(places) < _MIN_TWICE:
        return ()
    line = text.count("\n", 0, places[0].start()) + 1
    return (
        f'{len(places):,} places look encoded twice (as "{places[0][0]}"), first in line {line:,}; kept as they are',
    )


def _replacement(text: str, run: re.Match[str]) -> str:
    is_at_edge = not run.start() or run.end() == len(text)
    return "" if is_at_edge or text[run.start() - 1] == "\n" or text[run.end()] in "\r\n" else "\n"
