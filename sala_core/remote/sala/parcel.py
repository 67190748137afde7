"""A document as it is sent to another Sala: its text and what its places need, and the hash that names both."""

import hashlib
import json
import zlib
from itertools import pairwise
from typing import Any

from sala_core.ingest import Document, Limits

MAX_TEXT_BYTES = Limits().max_file_bytes
"""Longest text, as UTF-8."""
MAX_PARCEL_BYTES = MAX_TEXT_BYTES + (8 << 20)
"""Longest parcel: text, name, pages and warnings."""
_VERSION = 1
_LEVEL = 6


def pack(document: Document) -> bytes:
    """The parcel of a document: a JSON line, then the text as UTF-8. The same document always gives the same bytes."""
    about = {
        "version": _VERSION,
        "name": document.name,
        "media_type": document.media_type,
        "num_bytes": document.num_bytes,
        "page_starts": list(document.page_starts),
        "warnings": list(document.warnings),
    }
    return json.dumps(about, sort_keys=True, separators=(",", ":")).encode() + b"\n" + document.text.encode()


def parcel_hash(parcel: bytes) -> str:
    """SHA-256 of a parcel, hexadecimal. xxh3 would not do: whoever sends one could choose another one's hash."""
    return hashlib.sha256(parcel).hexdigest()


def compress(parcel: bytes) -> bytes:
    """The bytes that go over the wire (zlib); the same in every call of one version of the program."""
    return zlib.compress(parcel, _LEVEL)


def decompress(data: bytes, limit: int = MAX_PARCEL_BYTES) -> bytes:
    """The parcel in these bytes. Raises ValueError if they are damaged, or longer than `limit` when unpacked."""
    unpacker = zlib.decompressobj()
    try:
        parcel = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError(f"the compressed bytes are damaged ({error})") from error
    if len(parcel) > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("the compressed bytes do not end where they should")
    return parcel


def unpack(parcel: bytes) -> Document:
    """The document in a parcel. Raises ValueError for anything that `pack` does not write."""
    head, separator, body = parcel.partition(b"\n")
    try:
        about = json.loads(head)
        text = body.decode()
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not readable") from error
    if not separator or not isinstance(about, dict) or about.get("version") != _VERSION:
        raise ValueError("it has another form")
    name, pages, warnings = about.get("name"), about.get("page_starts"), about.get("warnings")
    media_type, num_bytes = about.get("media_type"), about.get("num_bytes")
    if not name or not all(map(_is_text, (name, media_type))) or not _is_whole(num_bytes):
        raise ValueError("its name, type or size is none")
    if not isinstance(pages, list) or not all(map(_is_whole, pages)) or not _ascends(pages, len(text)):
        raise ValueError("its pages are not in order")
    if not isinstance(warnings, list) or not all(map(_is_text, warnings)):
        raise ValueError("its warnings are none")
    if "\0" in text or len(body) > MAX_TEXT_BYTES:
        raise ValueError("its text cannot be read")
    return Document(
        name=name,
        media_type=str(media_type),
        num_bytes=num_bytes or 0,
        text=text,
        page_starts=tuple(pages),
        warnings=tuple(warnings),
        content_hash=Document.hash_of(name, text),
    )


def _ascends(pages: list[int], num_chars: int) -> bool:
    return all(a <= b for a, b in pairwise([*pages, num_chars]))


def _is_text(value: Any) -> bool:
    """Whether it is a string that UTF-8 can encode."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62
