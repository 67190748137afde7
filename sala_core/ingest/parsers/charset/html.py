"""Decode HTML and XHTML: byte order mark, declared encoding, or a guess."""

import re

from .plain import HEAD_BYTES, decode_declared
from .utf16 import find_utf16

_XML = re.compile(rb"\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_META = re.compile(rb"<meta\b[^>]*>", re.IGNORECASE)
_CONTENT_TYPE = re.compile(rb"\bhttp-equiv\s*=\s*[\"']?\s*content-type", re.IGNORECASE)
_ATTRIBUTE = re.compile(rb"[\s/\"']charset\s*=\s*(?:\"\s*|'\s*)?([\w.:-]+)", re.IGNORECASE)
_CONTENT = re.compile(rb"\bcontent\s*=\s*(?:\"[^\"]*\"|'[^']*')", re.IGNORECASE)
_CHARSET = re.compile(rb"\bcharset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_TAG = re.compile(rb"<[^>]*>")


def declared_encoding(data: bytes) -> str | None:
    """Return the encoding label of a `meta` element (`charset` or `http-equiv`) or of the XML declaration, or None.

    Source: WHATWG HTML, section 13.2.3.2 (prescan of the byte stream).
    """
    head = data[:HEAD_BYTES]
    for tag in _META.findall(_COMMENT.sub(b"", head)):
        is_type = _CONTENT_TYPE.search(tag)
        if match := (_CHARSET.search(tag) if is_type else _ATTRIBUTE.search(_CONTENT.sub(b"", tag))):
            return match[1].decode("ascii", errors="replace")
    match = _XML.match(head.removeprefix(b"\xef\xbb\xbf"))
    return match[1].decode("ascii", errors="replace") if match else None


def decode_html(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return (markup, notes) of an HTML or XHTML file in any encoding. Never raises."""
    if codec := find_utf16(data[:HEAD_BYTES]):
        return decode_declared(data, codec)
    return decode_declared(data, declared_encoding(data))
