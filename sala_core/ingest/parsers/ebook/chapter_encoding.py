"""The encoding of chapters: as each declares it; what has to be guessed is guessed once for a book."""

from ..charset import decode_declared, decode_html
from ..charset.guess import guess_codec
from ..charset.html import declared_encoding
from ..charset.labels import codec_for, web_name
from ..charset.plain import is_mostly_utf8

# a guess from less text holds for that text alone
_ENOUGH_BYTES = 4096
_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")


class ChapterDecoder:
    """Decodes the chapters of one book. They have one encoding, and to guess it takes a second."""

    def __init__(self) -> None:
        self._label = ""

    def decode(self, data: bytes) -> tuple[str, tuple[str, ...]]:
        """Return (markup, notes) of a chapter. Never raises."""
        if not _needs_guess(data):
            return decode_html(data)
        if not self._label and len(data) >= _ENOUGH_BYTES:
            self._label = web_name(guess_codec(data, utf16=False))
        if self._label:
            markup, notes = decode_declared(data, self._label)
            if not notes:
                return markup, (f"read as {self._label} (guessed)",)
        return decode_html(data)


def _needs_guess(data: bytes) -> bool:
    """Whether the bytes are not UTF-8 (with or without errors), and nothing says what else they are."""
    if data.startswith(_MARKS) or b"\0" in data or is_mostly_utf8(data):
        return False
    label = declared_encoding(data)
    return not label or codec_for(label) in (None, "utf-8")
