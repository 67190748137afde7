"""Formulas that KaTeX or MathJax have set, on pages that hold nothing else of them: boxes of glyphs, back to a line.

These are the boxes of KaTeX's HTML output and of MathJax 3's CommonHTML. MathJax draws its glyphs by style sheets; the
characters are in the names of classes (`mjx-c1D465`).
"""

import re
import unicodedata
from collections.abc import Iterable

from .math import grouped, lowered, raised
from .tree import Element

_EMPTY = frozenset(
    {"delimsizing-inner", "frac-line", "hide-tail", "pstrut", "rule", "strut", "svg-align-line", "vlist-s"}
)
_GLYPH = re.compile(r"\bmjx-c([0-9A-F]{2,6})\b")
_WIDE = re.compile(r"margin-right:\s*(?:0?\.(?:1[6-9]|[2-9])|[1-9])")
_SPACE = re.compile(r"\s+")
_UNSEEN = re.compile("[\u200b\u2061-\u2064]")


def typeset_text(element: Element) -> str:
    """Return the formula in an element on one line, "" if there are no such boxes in it."""
    text = _mathjax(element) if element.name.startswith("mjx-") else _katex(element)
    return _SPACE.sub(" ", text).strip()


def _katex(node: Element | str) -> str:
    if isinstance(node, str):
        return _UNSEEN.sub("", node)
    classes = set(node.get("class").split())
    if not _EMPTY.isdisjoint(classes):
        return ""
    if "mspace" in classes:
        return " " if node.children or _WIDE.search(node.get("style")) else ""
    rows = _rows(node)
    if "msupsub" in classes and rows:
        is_low = _has_class(node, "vlist-t2")
        return lowered(rows[0]) + "".join(map(raised, rows[1:])) if is_low else raised(rows[0])
    if "mfrac" in classes and len(rows) >= 2:
        if not _has_class(node, "frac-line"):
            return f"{rows[-1]} choose {rows[0]}"
        return f"{grouped(rows[-1])}/{grouped(rows[0])}"
    if "mtable" in classes:
        columns = [_rows(child) for child in node.children if isinstance(child, Element) and _rows(child)]
        return f"[{'; '.join(', '.join(row) for row in zip(*columns, strict=False))}]"
    if "sqrt" in classes and rows:
        return f"√{grouped(rows[0])}"
    if "op-limits" in classes and len(rows) >= 2:
        return rows[1] + lowered(rows[0]) + "".join(map(raised, rows[2:])) + " "
    text = _joined(map(_katex, node.children))
    return f" {text.strip()} " if classes & {"mrel", "mbin"} else text


def _rows(node: Element) -> list[str]:
    """The texts of boxes one above the other, the lowest first."""
    vlist = _with_class(node, "vlist")
    texts = [_katex(child).strip() for child in vlist.children] if vlist else []
    return [text for text in texts if text]


def _with_class(node: Element, name: str) -> Element | None:
    for child in node.children:
        if isinstance(child, Element):
            if name in child.get("class").split():
                return child
            if found := _with_class(child, name):
                return found
    return None


def _has_class(node: Element, name: str) -> bool:
    return _with_class(node, name) is not None


def _mathjax(node: Element | str) -> str:
    if isinstance(node, str):
        return node.strip()
    name = node.name.removeprefix("mjx-")
    if name == "c":
        glyph = _GLYPH.search(node.get("class"))
        return unicodedata.normalize("NFKC", chr(int(glyph[1], 16))) if glyph and int(glyph[1], 16) < 0x110000 else ""
    children = [child for child in node.children if isinstance(child, Element)]
    if name in ("msup", "msub", "msubsup") and len(children) >= 2:
        base = _mathjax(children[0])
        scripts = [text for child in children[1].children if (text := _mathjax(child).strip())]
        if name == "msubsup" and len(scripts) == 2:
            return base + lowered(scripts[1]) + raised(scripts[0])
        return base + (lowered if name == "msub" else raised)("".join(scripts))
    if name == "mfrac":
        parts = [found for part in ("mjx-num", "mjx-den") if (found := node.find(part))]
        if len(parts) == 2:
            return "/".join(grouped(_joined(map(_mathjax, part.children)).strip()) for part in parts)
    if name == "msqrt" and (box := node.find("mjx-box")):
        return f"√{grouped(_joined(map(_mathjax, box.children)).strip())}"
    if name in ("surd", "line", "spacer", "nstrut", "dstrut", "assistive-mml"):
        return ""
    text = _joined(map(_mathjax, node.children))
    if name == "mo" and text.strip() and not text.isalnum() and text.strip() not in "()[]{}|,.;:!′/":
        return f" {text.strip()} "
    return text


def _joined(pieces: Iterable[str]) -> str:
    """The pieces of a row. 3 before 1/2 is not 31/2, and x behind it is not below the line."""
    row, is_shape = "", False
    for piece in pieces:
        was_shape, is_shape = is_shape, "/" in piece or "√" in piece
        if row[-1:].isalnum() and piece[:1].isalnum() and (was_shape or (is_shape and piece[0].isdigit())):
            row += " "
        row += piece
    return row
