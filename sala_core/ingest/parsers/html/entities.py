"""Entities that a file declares itself, in the internal subset of its document type."""

import re

_DOCTYPE = re.compile(r"<!DOCTYPE[^<>\[]*\[(?P<declared>(?:[^\]\"']|\"[^\"]*\"|'[^']*')*+)\]\s*>", re.IGNORECASE)
_ENTITY = re.compile(r"""<!ENTITY\s+([\w.-]{1,100})\s+(?:"([^"%]{0,1000})"|'([^'%]{0,1000})')\s*>""")
_START = re.compile("<!DOCTYPE", re.IGNORECASE)
_HEAD_CHARS = 8192
_MAX_SUBSET_CHARS = 1 << 17
_MAX_ADDED_CHARS = 1 << 22


def resolve_entities(text: str) -> str:
    """Replace the entities that a file declares itself. Those that refer to files stay as they are."""
    start = _START.search(text, 0, _HEAD_CHARS)
    doctype = _DOCTYPE.match(text, start.start(), start.start() + _MAX_SUBSET_CHARS) if start else None
    if not doctype:
        return text
    text = text[: doctype.start()] + text[doctype.end() :]
    num_left = _MAX_ADDED_CHARS
    # the last first: they refer to those before them
    for name, double, single in reversed(_ENTITY.findall(doctype["declared"])):
        value = double or single
        num_left -= text.count(f"&{name};") * len(value)
        if num_left < 0:
            break
        text = text.replace(f"&{name};", value)
    return text
