"""Detect the format of a file from its first bytes and its name."""

import re
from enum import Enum

from sala_core.errors import IngestError

HEAD_BYTES = 8192


class Kind(Enum):
    """A format that can be read. The value is its media type."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    PDF = "application/pdf"
    EPUB = "application/epub+zip"

    @property
    def is_container(self) -> bool:
        """Whether most bytes of such a file are not text."""
        return self in (Kind.PDF, Kind.EPUB)

    @property
    def is_parsed(self) -> bool:
        """Whether a parser reads it; other files are only decoded."""
        return self in (Kind.PDF, Kind.EPUB, Kind.HTML)


_SUFFIXES = {
    ".pdf": Kind.PDF,
    ".epub": Kind.EPUB,
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
}
_MAGIC = {
    "a picture": (
        b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"\x00\x00\x01\x00", b"8BPS",
        b"II*\x00", b"MM\x00*",
    ),
    "an archive": (
        b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd",
        b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07",
    ),
    "a program": (b"\x7fELF", b"MZ\x90\x00", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"\x00asm"),
    "a database": (b"SQLite format 3\x00",),
    "sound or video": (b"ID3", b"OggS", b"fLaC", b"RIFF"),
    "a font": (b"wOFF", b"wOF2", b"\x00\x01\x00\x00\x00", b"OTTO\x00"),
    "numeric data": (b"\x93NUMPY",),
}  # fmt: skip
_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_HTML_START = re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)
# control characters that are rare in text: all except tab, newlines, form feed, backspace and escape
_CONTROLS = bytes(set(range(32)) - {8, 9, 10, 11, 12, 13, 27})


def identify(name: str, head: bytes) -> Kind:
    """Return the format of a file from its name and its first `HEAD_BYTES` bytes.

    Raises IngestError for a binary file. The message is the reason.
    """
    suffix = "." + name.lower().rpartition(".")[2] if "." in name else ""
    by_name = _SUFFIXES.get(suffix)
    if head.lstrip().startswith(b"%PDF-") or (by_name is Kind.PDF and b"%PDF-" in head[:1024]):
        return Kind.PDF
    if head.startswith(b"PK\x03\x04") and (by_name is Kind.EPUB or b"mimetypeapplication/epub+zip" in head[:128]):
        return Kind.EPUB
    if by_name in (Kind.PDF, Kind.EPUB):
        raise IngestError(f"not {'a PDF' if by_name is Kind.PDF else 'an EPUB'}, although its name says so")
    if reason := _binary_reason(head):
        raise IngestError(reason)
    if by_name is None and suffix in ("", ".txt") and _HTML_START.match(head):
        return Kind.HTML
    return by_name or Kind.TEXT


def _binary_reason(head: bytes) -> str | None:
    """Why a file that begins with these bytes is binary, or None for text."""
    # some signatures are plain letters, and a text can begin with them
    if b"\0" in head or not head.isascii():
        for what, marks in _MAGIC.items():
            if head.startswith(marks):
                return f"binary: {what}"
    if head[4:8] == b"ftyp":
        return "binary: sound, video or a picture"
    if head.startswith(_BOMS) or looks_like_utf16(head):
        return None
    if b"\0" in head:
        return "binary, not text"
    if len(head) - len(head.translate(None, _CONTROLS)) > len(head) * 0.05:
        return "binary, not text"
    return None


def looks_like_utf16(head: bytes) -> str | None:
    """Return `utf-16-le` or `utf-16-be` if every second byte is mostly zero (Latin text without a BOM), or None."""
    head = head[: len(head) // 2 * 2]
    pairs = len(head) // 2
    if pairs < 2:
        return None
    even, odd = head[0::2].count(0), head[1::2].count(0)
    low, high, encoding = (even, odd, "utf-16-le") if odd > even else (odd, even, "utf-16-be")
    if low > 0 or high < pairs * 0.5:
        return None
    try:
        text = head.decode(encoding, errors="ignore")
    except UnicodeDecodeError:
        return None
    controls = sum(char < " " and char not in "\t\n\r\f" for char in text)
    return encoding if controls <= len(text) * 0.02 else None
