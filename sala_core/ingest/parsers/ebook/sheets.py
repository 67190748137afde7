"""The style sheets that the chapters of a book refer to."""

import posixpath
import re

from ..charset import decode_html
from ..failures import DAMAGE
from ..result import ParseError
from .members import Members

_LINK = re.compile(r"<(?:\w+:)?link\b[^<>]*>|<\?xml-stylesheet\b[^<>]*\?>", re.IGNORECASE)
_TARGET = re.compile(r"""\bhref\s*=\s*(?:"([^"<>]+)"|'([^'<>]+)')""", re.IGNORECASE)
_IMPORT = re.compile(r"""@import\s++(?:url\()?\s*+["']?([^"')\s;]+)""", re.IGNORECASE)
_HEAD_CHARS = 16_384
_MAX_SHEETS = 64


class Sheets:
    """Reads each style sheet of a book once. One that is missing or damaged costs no words."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._texts: dict[str, str] = {}

    def of(self, chapter: str, markup: str) -> tuple[str, ...]:
        """Return the texts of the sheets that a chapter names, in their order. chapter: the name of its file."""
        texts = []
        for link in _LINK.findall(markup[:_HEAD_CHARS])[:_MAX_SHEETS]:
            if (target := _TARGET.search(link)) and ("style" in link.lower() or ".css" in link.lower()):
                texts.append(self._text(target[1] or target[2], posixpath.dirname(chapter)))
        return tuple(filter(None, texts))

    def _text(self, reference: str, folder: str, depth: int = 0) -> str:
        name = self._members.find(reference, folder)
        if name is None or not name.lower().endswith(".css"):
            return ""
        if name not in self._texts:
            self._texts[name] = ""  # sheets that import each other
            try:
                text = decode_html(self._members.read(name))[0]
            except (ParseError, *DAMAGE):
                return ""
            imports = _IMPORT.findall(text)[:_MAX_SHEETS] if depth < 3 else []
            imported = [self._text(target, posixpath.dirname(name), depth + 1) for target in imports]
            self._texts[name] = "\n".join([*imported, text])
        return self._texts[name]
