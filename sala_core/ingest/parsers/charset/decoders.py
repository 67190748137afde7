"""Decode bytes with a codec as browsers do, where Python's codec of that name knows fewer characters."""

import codecs
import re

from .code_tables import BIG5, RENAMED

_EUC_UNITS = re.compile(rb"[\x00-\x7f]+|\x8e[\xa1-\xdf]|\x8f[\xa1-\xfe]{2}|(?:[\xa1-\xfe]{2})+|[\x80-\xff]")
_JIS_SHIFT = re.compile(rb"\x1b(\$B|\$@|\(B|\(J|\(I)")


def decode_with(data: bytes, codec: str) -> str:
    """Return the text of `data`; invalid bytes become U+FFFD. codec: a name that `codec_for` returns."""
    if codec == "euc_jp":
        return _decode_euc_jp(data)
    if codec == "iso2022_jp":
        return _decode_iso2022_jp(data)
    text = data.decode(codec, errors=_ERRORS.get(codec, "replace"))
    return text.translate(RENAMED[codec]) if codec in RENAMED and not text.isascii() else text


def _gbk_euro(error: UnicodeError) -> tuple[str, int]:
    """The byte 0x80 is the euro sign in GBK; other invalid bytes become U+FFFD."""
    assert isinstance(error, UnicodeDecodeError)
    return ("€", error.start + 1) if error.object[error.start] == 0x80 else ("\ufffd", error.end)


def _big5_code(error: UnicodeError) -> tuple[str, int]:
    """A code that only browsers know; after an unknown one, a second byte that is ASCII stays."""
    assert isinstance(error, UnicodeDecodeError)
    if character := BIG5.get(error.object[error.start : error.start + 2]):
        return character, error.start + 2
    return "\ufffd", error.end


def _hebrew_point(error: UnicodeError) -> tuple[str, int]:
    """The byte 0xCA is a point of Hebrew (holam haser) in windows-1255."""
    assert isinstance(error, UnicodeDecodeError)
    return ("\u05ba", error.start + 1) if error.object[error.start] == 0xCA else ("\ufffd", error.end)


_ERRORS = {"gb18030": "sala-gbk-euro", "big5hkscs": "sala-big5", "cp1255": "sala-cp1255"}
for _name, _handler in zip(_ERRORS.values(), (_gbk_euro, _big5_code, _hebrew_point), strict=True):
    codecs.register_error(_name, _handler)


def _decode_euc_jp(data: bytes) -> str:
    """EUC-JP with the NEC and IBM extensions of windows-31j: its two-byte codes are moved to Shift_JIS."""
    pieces = []
    for unit in _EUC_UNITS.findall(data):
        if unit[0] < 0x80:
            pieces.append(unit.decode("ascii"))
        elif unit[0] == 0x8E and len(unit) == 2:
            pieces.append(unit[1:].decode("cp932"))
        elif unit[0] == 0x8F and len(unit) == 3:
            pieces.append(unit.decode("euc_jp", errors="replace"))
        elif len(unit) == 1:
            pieces.append("\ufffd")
        else:
            pieces.append(_jis_pairs(unit))
    return "".join(pieces)


def _jis_pairs(pairs: bytes) -> str:
    """Decode two-byte JIS codes (each byte 0xA1 to 0xFE) as windows-31j."""
    moved = bytearray()
    for lead, trail in zip(pairs[0::2], pairs[1::2], strict=True):
        row, cell = lead - 0xA1, trail - 0xA1
        moved.append((0x81 if row < 62 else 0xC1) + row // 2)
        moved.append(cell + 0x9F if row % 2 else cell + 0x40 + (cell >= 63))
    return moved.decode("cp932", errors="replace")


def _decode_iso2022_jp(data: bytes) -> str:
    """ISO-2022-JP with the same extensions; half-width katakana after ESC ( I."""
    pieces = []
    mode = b"(B"
    for index, part in enumerate(_JIS_SHIFT.split(data)):
        if index % 2:
            mode = part
        elif mode in (b"$B", b"$@"):
            # a line ends the two-byte mode in mail that lost its escape sequence
            codes, newline, rest = part.partition(b"\n")
            codes = bytes(byte | 0x80 for byte in codes if 0x21 <= byte <= 0x7E)
            pieces.append(_jis_pairs(codes[: len(codes) // 2 * 2]) + "\ufffd" * (len(codes) % 2))
            pieces.append((newline + rest).decode("ascii", errors="replace"))
        elif mode == b"(I":
            pieces.append(bytes(byte | 0x80 for byte in part).decode("cp932", errors="replace"))
        else:
            pieces.append(part.decode("ascii", errors="replace"))
    return "".join(pieces)
