"""Style sheets as far as they change what a text says: raised, deleted, on its own line, in a cell, preformatted.

Read are rules for one class or one element (`.sup`, `span.sup`). What others mean depends on the rest of the page.
"""

import re
from collections.abc import Iterator

from .tree import Element

_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_BRACE = re.compile("[{}]")
_SELECTOR = re.compile(r"([a-zA-Z][\w-]*)?(?:\.([\w\u0080-\uffff-]+))?")
_DECLARATION = re.compile(
    r"(?<![\w-])(?:display|font-size|list-style|list-style-type|position|text-decoration|text-decoration-line|top"
    r"|vertical-align|white-space|white-space-collapse)\s*:[^;]*",
    re.IGNORECASE,
)
# media that are no screen, where a rule can hide or move what a reader sees
_OTHER_MEDIA = re.compile(r"@media\s+(?:only\s+)?(?:print|speech|amzn-mobi)\b", re.IGNORECASE)
_MAX_CHARS = 4 << 20
_IMPORTANT = ("vertical-align", "line-through", "white-space", "display", "list-style", "position")


class Styles:
    """The rules of style sheets. sheets: their texts in the order in which they hold."""

    def __init__(self, *sheets: str) -> None:
        self._rules: dict[tuple[str, str], str] = {}  # (element or "", class or "") -> declarations
        for sheet in sheets:
            self._add(sheet[:_MAX_CHARS])
        self._cache: dict[tuple[str, str], str] = {}

    def of(self, element: Element) -> str:
        """Return the declarations that hold for an element, its own last, in lower case; "" if there are none."""
        raw = element.raw_attributes
        own = element.get("style").lower() if "style" in raw or "STYLE" in raw else ""
        if not self._rules:
            return own
        classes = element.get("class") if "class" in raw or "CLASS" in raw else ""
        key = (element.name, classes)
        if (shared := self._cache.get(key)) is None:
            names = classes.split()
            found = [("", name) for name in names] + [(element.name, name) for name in names]
            shared = "".join(self._rules.get(rule, "") for rule in [(element.name, ""), *found])
            self._cache[key] = shared
        return shared + own

    def _add(self, sheet: str) -> None:
        lower = sheet.lower()
        if not any(word in lower for word in _IMPORTANT):
            return
        for selectors, body in _rules(_COMMENT.sub("", sheet)):
            declarations = "".join(f"{text.strip().lower()};" for text in _DECLARATION.findall(body))
            if not declarations:
                continue
            for selector in selectors.split(","):
                match = _SELECTOR.fullmatch(selector.strip())
                if match and (match[1] or match[2]):
                    rule = ((match[1] or "").lower(), match[2] or "")
                    self._rules[rule] = self._rules.get(rule, "") + declarations


def _rules(sheet: str) -> Iterator[tuple[str, str]]:
    """(selectors, declarations) of each block that no other is inside of and that holds on a screen."""
    is_open: list[bool] = []  # for each open block whether it holds on a screen
    selectors, position = "", 0
    for brace in _BRACE.finditer(sheet):
        text = sheet[position : brace.start()]
        position = brace.end()
        if brace[0] == "{":
            selectors = text.rpartition(";")[2].strip()
            is_open.append((not is_open or is_open[-1]) and not _OTHER_MEDIA.match(selectors))
        elif is_open:
            if is_open.pop() and selectors:
                yield selectors, text
            selectors = ""
