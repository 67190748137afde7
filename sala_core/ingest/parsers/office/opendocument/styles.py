"""Styles and list styles of OpenDocument files (OpenDocument 1.3, part 3, section 16)."""

from dataclasses import dataclass, field

from ..formats import Format
from ..numbering import number_text
from ..xml_tree import Node

_KINDS = {"1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}
_MAX_CHAIN = 20


class OdfStyles:
    """The styles of a document: automatic, common and master styles of all its parts."""

    def __init__(self, *roots: Node | None) -> None:
        self._styles: dict[tuple[str, str], Node] = {}
        self.lists: dict[str, Node] = {}
        self.outline: Node | None = None
        self.master_pages: list[Node] = []
        for root in roots:
            for node in (
                root.below("style:style", "text:list-style", "text:outline-style", "style:master-page") if root else []
            ):
                if node.name == "style:style":
                    self._styles[node.get("style:family"), node.get("style:name")] = node
                elif node.name == "text:list-style":
                    self.lists[node.get("style:name")] = node
                elif node.name == "text:outline-style":
                    self.outline = node
                else:
                    self.master_pages.append(node)

    def value(self, family: str, name: str, properties: str, key: str) -> str:
        """Return an attribute of a style's properties, inherited from its parents, or "".

        Args:
            family, name: of the style.
            properties: the element that holds the attribute, without its prefix.
            key: name of the attribute.
        """
        for node in self._chain(family, name):
            found = node.child(f"style:{properties}")
            if found is not None and key in found.attributes:
                return found.get(key)
        return ""

    def format_of(self, family: str, name: str) -> Format:
        """Return what the text properties of a style say."""
        if not name:
            return Format()
        position = self.value(family, name, "text-properties", "style:text-position").split(" ")[0]
        shift = "sup" if position == "super" or (position[:1].isdigit() and position.strip("0%.")) else ""
        shift = "sub" if position.startswith(("sub", "-")) else shift
        line = self.value(family, name, "text-properties", "style:text-line-through-style")
        kind = self.value(family, name, "text-properties", "style:text-line-through-type")
        hidden = self.value(family, name, "text-properties", "text:display")
        is_struck = line not in ("", "none") or kind not in ("", "none")
        return Format(shift=shift, is_struck=is_struck, is_hidden=hidden == "none")

    def is_title(self, paragraph_style: str) -> bool:
        """Return whether a paragraph style is that of the document's title, or is based on it."""
        return any(node.get("style:name") == "Title" for node in self._chain("paragraph", paragraph_style))

    def list_style(self, paragraph_style: str) -> str:
        """Return the list style that a paragraph style names, or ""."""
        chain = self._chain("paragraph", paragraph_style)
        return next(
            (node.get("style:list-style-name") for node in chain if "style:list-style-name" in node.attributes), ""
        )

    def _chain(self, family: str, name: str) -> list[Node]:
        chain: list[Node] = []
        while (node := self._styles.get((family, name))) and len(chain) < _MAX_CHAIN:
            chain.append(node)
            name = node.get("style:parent-style-name")
        return chain


@dataclass(kw_only=True)
class ListNumbers:
    """The counters of one list. style: `text:list-style` or `text:outline-style`."""

    style: Node | None
    counts: dict[int, int] = field(default_factory=dict)

    def mark(self, level: int, start: str = "") -> str:
        """Count an item at a level from 1 and return its mark, "-" for a bullet, "" for none."""
        found = _level(self.style, level)
        if start.isdigit():
            self.counts[level] = int(start)
        else:
            self.counts[level] = self.counts.get(level, _start(found) - 1) + 1
        for deeper in [key for key in self.counts if key > level]:
            del self.counts[deeper]
        if found is None or found.name in ("text:list-level-style-bullet", "text:list-level-style-image"):
            return "-" if found is not None or self.style is None else ""
        kind = found.get("style:num-format")
        if not kind:
            return (found.get("style:num-prefix") + found.get("style:num-suffix")).strip()
        pattern = found.get("loext:num-list-format")
        if pattern:
            for index in range(1, level + 1):
                pattern = pattern.replace(f"%{index}%", self._shown(index))
            return pattern.strip()
        shown = found.get("text:display-levels")
        first = max(1, level - int(shown) + 1) if shown.isdigit() else level
        numbers = ".".join(filter(None, (self._shown(index) for index in range(first, level + 1))))
        return (found.get("style:num-prefix") + numbers + found.get("style:num-suffix")).strip()

    def _shown(self, level: int) -> str:
        found = _level(self.style, level)
        kind = found.get("style:num-format") if found else ""
        return number_text(self.counts.get(level, _start(found)), _KINDS.get(kind, "decimal")) if kind else ""


def _level(style: Node | None, level: int) -> Node | None:
    return next((node for node in style.nodes if node.get("text:level") == str(level)), None) if style else None


def _start(level: Node | None) -> int:
    start = level.get("text:start-value") if level else ""
    return int(start) if start.isdigit() else 1
