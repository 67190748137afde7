"""HTML and Markdown from untrusted text: model answers and documents.

Panels are HTML built here from escaped text and shown through `gr.Markdown`, which sanitizes it again in the browser.
Answers stay Markdown; every HTML tag, image and link target in them is made inactive first.
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
    """Text for the inside of an element or a quoted attribute.

    Newlines become entities, so that a blank line cannot end the HTML block in the Markdown around it. So do dollar
    signs, which could begin a formula.
    """
    return html.escape(text, quote=True).replace("\r", "").replace("\n", "&#10;").replace("$", "&#36;")


def tag(name: str, *children: str, **attributes: str) -> str:
    """An element. `children` are HTML, attribute values are plain text. `class_` stands for `class`."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(children)}</{name}>"


def block(*children: str, class_: str) -> str:
    """A panel's whole HTML: one `div` on one line, which Markdown leaves as it is."""
    return tag("div", *children, class_=class_)


def code_blocks(markdown: str) -> Iterator[re.Match[str]]:
    """The fenced code blocks of a Markdown text, with their fences. An unclosed block ends with the text."""
    return _FENCE.finditer(markdown)


def safe_markdown(text: str) -> str:
    """Markdown without active HTML, images or links. Code keeps its characters."""
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
