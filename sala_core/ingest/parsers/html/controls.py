"""Form controls and drawings as text."""

import re
from collections.abc import Callable

from .tree import Element

_SWITCH = re.compile(r"\b(?:margin-toggle|toggle-input|visually-hidden|sr-only)\b")  # shows a note without a script
_UNSEEN_INPUTS = frozenset({"file", "hidden", "password"})


def input_text(element: Element) -> str:
    """Return what an `input` shows: its value, otherwise its placeholder; [x], [ ], (x) or ( ) for what is chosen."""
    kind = element.get("type").lower()
    if "hidden" in element.attributes or _SWITCH.search(element.get("class")):
        return ""
    if kind in ("checkbox", "radio"):
        mark = "x" if "checked" in element.attributes else " "
        return f"[{mark}]" if kind == "checkbox" else f"({mark})"
    if kind in _UNSEEN_INPUTS:
        return ""
    shown = element.get("alt") if kind == "image" else ""
    return " ".join((shown or element.get("value") or element.get("placeholder")).split())


def box_text(element: Element) -> str:
    """Return the mark of a checkbox or radio button that is drawn by a script: [x], [ ], (x) or ( )."""
    mark = "x" if element.get("aria-checked").lower() == "true" else " "
    return f"({mark})" if "radio" in element.get("role") else f"[{mark}]"


def gauge_text(element: Element) -> str:
    """Return what a `meter` or `progress` without words shows: `6 of 10`, "" if it has no value."""
    value, most = element.get("value").strip(), element.get("max").strip()
    return f"{value} of {most}" if value and most else value


def choice_text(element: Element, inline: Callable[[Element], str]) -> str:
    """Return the options of a `select`, separated by slashes, with (x) before what is selected. inline: their text."""
    texts = []
    pending = list(reversed(element.children))
    while pending:
        node = pending.pop()
        if isinstance(node, str):
            texts.append(" ".join(node.split()))
        elif node.name == "option":
            selected = "(x) " if "selected" in node.attributes else ""
            texts.append(selected + (" ".join(inline(node).split()) or node.get("label")))
        else:
            if node.name == "optgroup":
                texts.append(node.get("label"))
            pending += reversed(node.children)
    return " / ".join(filter(None, texts))


def drawing_texts(element: Element) -> list[Element]:
    """Return the elements of an `svg` that show text, in document order."""
    texts = []
    pending = list(reversed(element.children))
    while pending:
        node = pending.pop()
        if isinstance(node, str) or node.name in ("defs", "desc", "metadata", "script", "style", "title"):
            continue
        if node.name in ("text", "foreignobject"):
            texts.append(node)
        else:
            pending += reversed(node.children)
    return texts


def drawing_title(element: Element) -> str:
    """Return the alternative text of an `svg`: its title or label, and its description."""
    title = _own_text(element, "title") or " ".join(element.get("aria-label").split())
    return " ".join(filter(None, dict.fromkeys((title, drawing_description(element)))))


def drawing_description(element: Element) -> str:
    """Return the description of an `svg`, unless it names the program that drew it."""
    text = _own_text(element, "desc")
    return "" if text.lower().startswith("created with") else text


def _own_text(element: Element, name: str) -> str:
    found = (child for child in element.children if isinstance(child, Element) and child.name == name)
    child = next(found, None)
    return " ".join(child.text().split()) if child else ""
