"""The marks before the items of a list: its numbers, letters or dashes."""

import re

from .tree import Element

_STYLE = re.compile(
    r"list-style(?:-type)?\s*:[^;]*?\b(none|disc|circle|square|decimal(?:-leading-zero)?|lower-greek"
    r"|(?:lower|upper)-(?:alpha|latin|roman))(?![\w-])"
)
_TYPES = {
    "lower-alpha": "a", "lower-latin": "a", "upper-alpha": "A", "upper-latin": "A", "lower-roman": "i",
    "upper-roman": "I", "decimal": "1", "decimal-leading-zero": "01", "lower-greek": "α",
    "none": "", "disc": "", "circle": "", "square": "",
}  # fmt: skip
_GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"),
    (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip
_INTEGER = re.compile(r"\s*([-+]?[0-9]{1,9})")


class ListMarks:
    """The marks of one list, item by item. style: what holds for the list. depth: number of lists around it."""

    def __init__(self, element: Element, style: str, *, depth: int) -> None:
        self._indent = "  " * depth
        # a sheet that takes the marks away may number the items by counters
        if not _type_of_style(style) and not _STYLE.search(element.get("style")):
            style = ""
        self._type = _type_of(element, style, "1" if element.name == "ol" else "")
        self._is_ordered = element.name == "ol" or bool(self._type)
        self._step = -1 if "reversed" in element.attributes else 1
        first = _integer(element.get("start"))
        if first is None:
            first = _num_items(element) if self._step < 0 else 1
        self._next = first

    def next_mark(self, item: Element) -> str:
        """Return the mark of the next item, with the space after it."""
        if not self._is_ordered:
            return self._indent + "- "
        value = _integer(item.get("value"))
        number = self._next if value is None else value
        self._next = number + self._step
        kind = _type_of(item, item.get("style").lower(), self._type)
        return f"{self._indent}{numeral(number, kind)}. " if kind else self._indent + "- "


def _type_of(element: Element, style: str, default: str) -> str:
    """One of 1 01 a A i I α, or "" for a dash."""
    if _STYLE.search(style):
        return _type_of_style(style)
    kind = element.get("type").strip()
    if kind.lower() in ("disc", "circle", "square"):
        return ""
    return kind if kind in ("1", "a", "A", "i", "I") else default


def _type_of_style(style: str) -> str:
    found = _STYLE.findall(style)
    return _TYPES[found[-1]] if found else ""


def _num_items(element: Element) -> int:
    """The items of a list, without those of lists inside it."""
    children = [child for child in element.children if isinstance(child, Element)]
    return sum(
        1 if child.name == "li" else _num_items(child) for child in children if child.name not in ("ol", "ul", "menu")
    )


def _integer(text: str) -> int | None:
    match = _INTEGER.match(text)
    return int(match[1]) if match else None


def numeral(number: int, kind: str) -> str:
    """Return a number as browsers show it, in digits where there is no letter for it. kind: 1, 01, a, A, i, I or α."""
    if number > 0 and kind in ("a", "A"):
        letters = ""
        while number:
            number, index = divmod(number - 1, 26)
            letters = chr(ord(kind) + index) + letters
        return letters
    if kind == "01":
        return f"{number:02d}"
    if kind == "α" and number > 0:
        first, index = divmod(number - 1, len(_GREEK))
        return numeral(first, kind) + _GREEK[index] if first else _GREEK[index]
    if 0 < number < 4000 and kind in ("i", "I"):
        roman = ""
        for value, letters in _ROMAN:
            roman += letters * (number // value)
            number %= value
        return roman if kind == "i" else roman.upper()
    return str(number)
