"""Form controls and drawings as text."""

from collections.abc import Callable

from .tree import Element

_UNSEEN_INPUTS = frozenset({"file", "hidden", "password"})


def input_text(element: Element) -> str:
    """Return what an `input` shows: its value, otherwise its placeholder; [x], [ ], (x) or ( ) for what is chosen."""
    kind = element.get("type").lower()
    if kind in ("checkbox", "radio"):
        mark = "x" if "checked" in element.attributes else " "
        return f"[{mark}]" if kind == "checkbox" else f"({mark})"
    if kind in _UNSEEN_INPUTS:
        return ""
    shown = element.get("alt") if kind == "image" else ""
    return " ".join((shown or element.get("value") or element.get("placeholder")).split())


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
    """Return the alternative text of an `svg`."""
    titles = (child for child in element.children if isinstance(child, Element) and child.name == "title")
    title = next(titles, None)
    return " ".join((title.text() if title else element.get("aria-label")).split())
