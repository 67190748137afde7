"""Text that others wrote, made safe to show.

Model answers and documents are untrusted. Panels are HTML built here from escaped text and shown through
`gr.Markdown`, which sanitizes once more in the browser; answers stay Markdown, with every HTML tag, image and
link target taken apart first.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

_FENCE = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[^\n]*\n(?:.*?\n)??(?: {0,3}(?P=fence)[`~]*[ \t]*(?=\n|\Z)|\Z)",
    re.M | re.S,
)
_CODE_SPAN = re.compile(r"(?<!`)(?P<ticks>`+)(?!`)[^\n]*?(?<!`)(?P=ticks)(?!`)")


def escape(text: str) -> str:
    """Text for the inside of an element or a quoted attribute; newlines become entities, so that a blank
    line can not end the HTML block in the Markdown that carries it."""
    return html.escape(text, quote=True).replace("\r", "").replace("\n", "&#10;").replace("$", "&#36;")


def tag(name: str, *children: str, **attributes: str) -> str:
    """An element; `children` are finished HTML, attribute values are escaped here. `class_` means class."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(children)}</{name}>"


def block(*children: str, class_: str) -> str:
    """A panel's whole HTML: one `div` on one line, which Markdown passes on untouched."""
    return tag("div", *children, class_=class_)


def code_blocks(markdown: str) -> Iterator[re.Match[str]]:
    """The fenced code blocks of a Markdown text, fences included; an open one runs to the end."""
    return _FENCE.finditer(markdown)


def safe_markdown(text: str) -> str:
    """Markdown in which no HTML, image or link of the author's survives; code keeps its characters."""
    pieces: list[str] = []
    position = 0
    for code in code_blocks(text):
        pieces.append(_defuse_lines(text[position : code.start()]))
        pieces.append(code.group())
        position = code.end()
    pieces.append(_defuse_lines(text[position:]))
    return "".join(pieces)


def _defuse_lines(text: str) -> str:
    pieces: list[str] = []
    position = 0
    for code in _CODE_SPAN.finditer(text):
        pieces.append(_defuse(text[position : code.start()]))
        pieces.append(code.group())
        position = code.end()
    pieces.append(_defuse(text[position:]))
    return "".join(pieces)


def _defuse(prose: str) -> str:
    prose = prose.replace("<", "&lt;")
    return prose.replace("![", "!&#91;").replace("](", "]&#40;").replace("]:", "]&#58;")
