"""Recognize UTF-16 and UTF-32 text without a byte order mark, in any script."""

from .guess import likelihood
from .profiles import profiles

_HEAD_BYTES = 2048
# Log-probability per character: running text of any script has -3 to -9; other data, read as UTF-16, -12 and less.
_MIN_MEAN = -10.0


def find_utf16(head: bytes) -> str | None:
    """Return `utf-16-le`, `utf-16-be`, `utf-32-le` or `utf-32-be` if a file that begins so is text in it, or None."""
    head = head[:_HEAD_BYTES]
    if found := _find_utf32(head):
        return found
    head = head[: len(head) // 2 * 2]
    if len(head) < 4 or not (b"\0" in head or num_controls(head) > len(head) * 0.02):
        return None
    if b"\0" not in head and _is_utf8(head):
        return None
    rest = head.translate(None, b"\0")
    if len(rest) * 3 > len(head) * 2 and rest.isascii() and not num_controls(rest):
        return None  # NUL bytes in a plain text
    best, best_mean = None, _MIN_MEAN
    for codec in ("utf-16-le", "utf-16-be"):
        text = head.decode(codec, errors="replace")
        if len(text) > 1 and text[-1] == "\ufffd":  # half of a pair, cut off
            text = text[:-1]
        if sum(not char.isprintable() and char not in "\n\r\t\u3000" for char in text) > len(text) * 0.02:
            continue
        mean = likelihood(text, tuple(profiles())) / len(text)
        if mean > best_mean:
            best, best_mean = codec, mean
    return best


def _find_utf32(head: bytes) -> str | None:
    """UTF-32 of characters below U+30000: every fourth byte is NUL, and so are most before or after it."""
    head = head[: len(head) // 4 * 4]
    if len(head) < 8:
        return None
    for codec, top, plane in (("utf-32-le", 3, 2), ("utf-32-be", 0, 1)):
        if not head[top::4].strip(b"\0") and not head[plane::4].strip(b"\0\1\2"):
            try:
                text = head.decode(codec)
            except UnicodeDecodeError:
                continue
            if all(char.isprintable() or char in "\n\r\t\u3000\ufeff" for char in text):
                return codec
    return None


def _is_utf8(head: bytes) -> bool:
    """Whether the bytes are valid UTF-8; the last character may be cut off."""
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


_CONTROLS = bytes(set(range(32)) - {8, 9, 10, 11, 12, 13, 27})


def num_controls(data: bytes) -> int:
    """Return how many bytes are control characters that are rare in text: all but tab, newlines, backspace, escape."""
    return len(data) - len(data.translate(None, _CONTROLS))
