"""Decode the bytes of a text file in any encoding, with a note where the encoding is a guess."""

from sala_core.ingest.parsers.charset import decode_plain


def decode_text(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return (text, warnings) for the bytes of a file. Never raises: invalid bytes become U+FFFD.

    The byte order mark is dropped, and the text is normalized by `normalize_text`.
    """
    return decode_plain(data)
