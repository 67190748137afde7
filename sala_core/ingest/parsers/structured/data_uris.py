"""Files embedded in a text as `data:` URIs: pictures and fonts, which are not text."""

import re

_BASE64 = re.compile(
    r"data:(?P<type>[\w.+-]+\\?/[\w.+-]+)?(?:;[\w.+-]+(?:=[^;,\s\"'<>]{0,80})?){0,6};base64,"
    r"(?P<body>(?:[A-Za-z0-9+/_-]|\\/|%[0-9A-Fa-f]{2}){64,}+={0,2}"
    # wrapped at a fixed width: lines of nothing else, of which the last is short
    r"(?:\\?[ \t]*\r?\n[ \t]*[A-Za-z0-9+/]{40,}+={0,2})*(?:\\?[ \t]*\r?\n[ \t]*[A-Za-z0-9+/]{1,75}={1,2}(?![\w=]))?)",
    re.IGNORECASE,
)
_PERCENT = re.compile(
    r"data:(?P<type>(?:image|font|application|audio|video)/[\w.+-]+)(?:;[\w.+=-]{1,80}){0,6},"
    r"(?P<body>[^\s\"'<>()\\]{256,})",
    re.IGNORECASE,
)
_DRAWING = re.compile(
    r"data:(?P<type>image/svg\+xml)[^,\s]{0,80},(?P<body>\s*<svg\b.*?</svg>)", re.IGNORECASE | re.DOTALL
)
_PERCENT_STARTS = ("data:image/", "data:font/", "data:application/", "data:audio/", "data:video/")


def without_data_uris(text: str) -> tuple[str, tuple[str, ...]]:
    """Return (text, notes): every embedded file replaced by its type and size, and a note that counts them."""
    patterns = [_BASE64] if ";base64," in text or ";BASE64," in text else []
    if any(start in text for start in _PERCENT_STARTS):
        patterns.append(_PERCENT)
    end = text.rfind("</svg>") + len("</svg>") if "data:image/svg+xml" in text else 0
    if not patterns and end < len("</svg>"):
        return text, ()
    num_chars = 0
    num_files = 0

    def mark(match: re.Match[str]) -> str:
        nonlocal num_chars, num_files
        num_files += 1
        num_chars += len(match["body"])
        kind = (match["type"] or "data").replace("\\", "")
        return f"[{kind}, {_size(len(match['body']))}, left out]"

    if end >= len("</svg>"):  # behind the last end no drawing is whole
        text = _DRAWING.sub(mark, text[:end]) + text[end:]
    for pattern in patterns:
        text = pattern.sub(mark, text)
    if not num_files:
        return text, ()
    files = "1 embedded file" if num_files == 1 else f"{num_files:,} embedded files"
    return text, (f"{files} (data URIs, {_size(num_chars)}) left out",)


def _size(num_chars: int) -> str:
    """Size of the encoded file, as people write it."""
    if num_chars < 1024:
        return f"{num_chars} characters"
    return f"{num_chars / 1024:,.0f} KiB" if num_chars < 1 << 20 else f"{num_chars / 2**20:,.1f} MiB"
