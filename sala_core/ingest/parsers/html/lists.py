"""The marks before the items of a list: its numbers, letters or dashes."""

import re

from .tree import Element

_STYLE = re.compile(r"list-style(?:-type)?\s*:[^;]*?\b(none|decimal|(?:lower|upper)-(?:alpha|latin|roman))\b")
_TYPES = {
    "lower-alpha": "a", "lower-latin": "a", "upper-alpha": "A", "upper-latin": "A",
    "lower-roman": "i", "upper-roman": "I", "decimal": "1", "none": "",
}  # fmt: skip
_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"),
    (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip
_INTEGER = re.compile(r"\s*([-+]?[0-9]{1,9})")


class ListMarks:
    """The marks of one list, item by item. depth: number of lists around it."""

    def __init__(self, element: Element, *, depth: int) -> None:
        self._indent = "  " * depth
        self._is_ordered = element.name == "ol"
        self._type = _type_of(element, "1")
        self._step = -1 if "reversed" in element.attributes else 1
        first = _integer(element.get("start"))
        if first is None:
            num_items = sum(1 for c in element.children if isinstance(c, Element) and c.name == "li")
            first = num_items if self._step < 0 else 1
        self._next = first

    def next_mark(self, item: Element) -> str:
        """Return the mark of the next item, with the space after it."""
        if not self._is_ordered:
            return self._indent + "- "
        value = _integer(item.get("value"))
        number = self._next if value is None else value
        self._next = number + self._step
        kind = _type_of(item, self._type)
        return f"{self._indent}{_numeral(number, kind)}. " if kind else self._indent + "- "


def _type_of(element: Element, default: str) -> str:
    """One of 1 a A i I, or "" for none."""
    if style := _STYLE.search(element.get("style")):
        return _TYPES[style[1]]
    kind = element.get("type")
    return kind if kind in ("1", "a", "A", "i", "I") else default


def _integer(text: str) -> int | None:
    match = _INTEGER.match(text)
    return int(match[1]) if match else None


def _numeral(number: int, kind: str) -> str:
    """A number as browsers show it: in digits where there is no letter or Roman numeral for it."""
    if number > 0 and kind in ("a", "A"):
        letters = ""
        while number:
            number, index = divmod(number - 1, 26)
            letters = chr(ord(kind) + index) + letters
        return letters
    if 0 < number < 4000 and kind in ("i", "I"):
        numeral = ""
        for value, letters in _ROMAN:
            numeral += letters * (number // value)
            number %= value
        return numeral if kind == "i" else numeral.upper()
    return str(number)
