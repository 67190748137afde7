"""Bytes to text: declared encodings as browsers understand them, and a guess where none is declared."""

from .broken_utf8 import is_mostly_utf8
from .html import decode_html
from .plain import decode_declared, decode_plain
from .utf16 import find_utf16, num_controls

__all__ = ["decode_declared", "decode_html", "decode_plain", "find_utf16", "is_mostly_utf8", "num_controls"]
