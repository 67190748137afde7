"""Rich Text Format as tokens: groups, control words, bytes of text (RTF specification 1.9.1)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"\\(?P<word>[a-zA-Z]{1,40})(?P<number>-?\d{1,10})? ?"
    rb"|\\'(?P<hex>[0-9a-fA-F]{2})|\\(?P<symbol>[^a-zA-Z])|(?P<brace>[{}])|(?P<text>[^\\{}\r\n]+)|[\r\n]+|\\",
    re.DOTALL,
)
_MAX_BIN = 1 << 31
CODE_PAGES = {
    0: "cp1252", 77: "mac_roman", 78: "cp932", 79: "cp949", 80: "cp936", 81: "cp950", 128: "cp932", 129: "cp949",
    130: "johab", 134: "gbk", 136: "cp950", 161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256",
    186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250", 254: "cp437", 255: "cp850",
}  # fmt: skip
"""`\\fcharset` of a font -> the encoding of its text."""
DOUBLE_BYTE = frozenset({"cp932", "cp949", "gbk", "cp936", "cp950", "johab"})


@dataclass(frozen=True)
class Token:
    """kind: `{`, `}`, `word`, `symbol` (a control of one character), `hex` (one escaped byte) or `text`."""

    kind: str
    value: bytes = b""
    number: int | None = None


def tokens(data: bytes) -> Iterator[Token]:
    """Yield the tokens of a file. The bytes after `\\bin` are left out."""
    position = 0
    while match := _TOKEN.match(data, position):
        position = match.end()
        if word := match["word"]:
            number = int(match["number"]) if match["number"] else None
            if word == b"bin":
                position += max(0, min(number or 0, _MAX_BIN))
                continue
            yield Token("word", word, number)
        elif match["hex"]:
            yield Token("hex", bytes([int(match["hex"], 16)]))
        elif match["symbol"]:
            yield Token("symbol", match["symbol"])
        elif match["brace"]:
            yield Token(match["brace"].decode())
        elif match["text"]:
            yield Token("text", match["text"])


def code_page(number: int) -> str:
    """Return the encoding that a code page number stands for, as `\\ansicpg` names it."""
    special = {65001: "utf-8", 10000: "mac_roman", 936: "gbk", 54936: "gb18030", 0: "cp1252", 1361: "johab"}
    name = special.get(number, f"cp{number}")
    try:
        b"".decode(name)
    except LookupError:
        return "cp1252"
    return name
