"""The encoding that a source text names itself: coding lines, modelines, XML declarations, LaTeX, CSS, gettext."""

import re

from .labels import codec_for

_HEAD_BYTES = 2048
_NUM_LINES = 5  # at the start and at the end of a file, in which editors look for their settings
_LABEL = rb"([\w.:-]+)"
# in the first two lines: Python (PEP 263), Ruby, Emacs; in the first or last five: Vim
_CODING = re.compile(rb"^[^\w\n]{0,12}.{0,60}?\b(?:en)?coding[:=][ \t]*" + _LABEL)
_MODELINE = re.compile(rb"\b(?:vim?|ex):.{0,80}?\bf(?:ile)?enc(?:oding)?=" + _LABEL)
_LOCAL_VARIABLES = re.compile(rb"\bcoding:[ \t]*" + _LABEL)
_DECLARATIONS = (
    re.compile(rb"\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*[\"']\s*" + _LABEL),
    re.compile(rb"\s*@charset\s*\"" + _LABEL),
    re.compile(
        rb"[\s\S]*?<meta\s+(?:charset\s*=|(?=[^>]{0,200}\bhttp-equiv)[^>]{0,200}?\bcharset\s*=)\s*[\"']?\s*" + _LABEL,
        re.IGNORECASE,
    ),
    re.compile(rb"[\s\S]*?^\"?Content-Type:[^\n]{0,80}?\bcharset=" + _LABEL, re.IGNORECASE | re.MULTILINE),
    re.compile(rb"[\s\S]*?^[^%\n]{0,40}\\(?:inputencoding\{|usepackage\[)" + _LABEL, re.MULTILINE),
    re.compile(rb"[\s\S]*?^%\s*!TEX\s+encoding\s*=\s*" + _LABEL, re.IGNORECASE | re.MULTILINE),
    re.compile(rb"[\s\S]*?<%@[^%]{0,200}\bcharset=" + _LABEL, re.IGNORECASE),
)
_TEX = {
    "latin1": "cp1252", "latin2": "iso8859_2", "latin3": "iso8859_3", "latin4": "iso8859_4", "latin5": "cp1254",
    "latin9": "iso8859_15", "latin10": "iso8859_16", "ansinew": "cp1252", "applemac": "mac_roman", "koi8-ru": "koi8_u",
}  # fmt: skip


def named_codec(data: bytes) -> str | None:
    """Return the codec that a text names for itself, or None. A name that stands for no encoding is passed over.

    Sources: PEP 263; Emacs manual, "Specifying File Variables"; Vim, `:help modeline`; CSS Syntax, section 3.2.
    """
    head = data[:_HEAD_BYTES]
    first = head.splitlines()[:_NUM_LINES]
    last = data[-_HEAD_BYTES:].splitlines()[-_NUM_LINES:]
    matches = [match for line in first[:2] if (match := _CODING.search(line))]
    matches += [match for line in first + last if (match := _MODELINE.search(line))]
    matches += [match for line in last if b"Local Variables:" in data and (match := _LOCAL_VARIABLES.search(line))]
    matches += [match for pattern in _DECLARATIONS if (match := pattern.match(head))]
    for match in matches:
        label = match[1].decode("ascii", errors="replace").lower()
        # Emacs names the kind of newline too
        label = re.sub(r"-(?:unix|dos|mac)$", "", label)
        if codec := _TEX.get(label) or codec_for(label):
            return codec
    return None
