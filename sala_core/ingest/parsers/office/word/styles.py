"""Styles of Word documents: what a paragraph or a run inherits (ECMA-376 part 1, section 17.7)."""

import re

from ..formats import Format
from ..xml_tree import Node

_HEADING = re.compile(r"heading ([1-9])", re.IGNORECASE)
_MAX_CHAIN = 20
_OFF = ("0", "false", "off", "none")


class Styles:
    """The styles of a document by their ids."""

    def __init__(self, root: Node | None) -> None:
        """root: of `styles.xml`."""
        self._styles = {node.get("styleId"): node for node in root.all("w:style")} if root else {}
        defaults = [n.get("styleId") for n in self._styles.values() if n.get("default") in ("1", "true", "on")]
        self._default = next((i for i in defaults if self._styles[i].get("type") == "paragraph"), "")

    def heading_level(self, properties: Node | None) -> int:
        """Return 1 to 6 for a paragraph that is a heading, otherwise 0. properties: its `w:pPr`."""
        for node in self._paragraph_chain(properties):
            own = node if node is properties else node.child("w:pPr")
            if own and (outline := own.child("w:outlineLvl")):
                level = outline.get("val")
                return min(int(level) + 1, 6) if level.isdigit() and int(level) < 9 else 0
            name = node.child("w:name")
            if name and (match := _HEADING.fullmatch(name.get("val").strip())):
                return min(int(match[1]), 6)
            if name and name.get("val").strip().lower() == "title":
                return 1
        style = properties.child("w:pStyle") if properties else None
        if style and style.get("val") not in self._styles:  # styles.xml is missing or damaged
            match = re.fullmatch(r"Heading([1-9])", style.get("val"))
            return min(int(match[1]), 6) if match else int(style.get("val") == "Title")
        return 0

    def number_of(self, properties: Node | None, by_style: dict[str, tuple[str, int]]) -> tuple[str, int] | None:
        """Return (number id, level) of a paragraph, None if it has no number. Level and id may be inherited apart."""
        number_id, level = "", None
        for node in self._paragraph_chain(properties):
            own = node if node is properties else node.child("w:pPr")
            found = own.child("w:numPr") if own else None
            if found:
                if level is None and (ilvl := found.child("w:ilvl")) and ilvl.get("val").isdigit():
                    level = int(ilvl.get("val"))
                if not number_id and (num := found.child("w:numId")):
                    number_id = num.get("val")
            style = by_style.get(node.get("styleId"))
            if style and (number_id in ("", style[0]) or found) and level is None:
                level = style[1]
                number_id = number_id or style[0]
            if number_id and level is not None:
                break
        return (number_id, level or 0) if number_id not in ("", "0") else None

    def format_of(self, properties: Node | None, paragraph: Node | None) -> Format:
        """Return the format of a run. properties: its `w:rPr`; paragraph: `w:pPr` of its paragraph."""
        chain = [properties] if properties else []
        style = properties.child("w:rStyle") if properties else None
        inherited = self._chain(style.get("val")) if style else []
        inherited += [node for node in self._paragraph_chain(paragraph) if node is not paragraph]
        chain += [own for node in inherited if (own := node.child("w:rPr"))]
        if not chain:
            return Format()
        shift = next((found.get("val") for own in chain if (found := own.child("w:vertAlign"))), "")
        return Format(
            shift={"superscript": "sup", "subscript": "sub"}.get(shift, ""),
            is_struck=_is_on(chain, "w:strike") or _is_on(chain, "w:dstrike"),
            is_hidden=_is_on(chain, "w:vanish"),
        )

    def _paragraph_chain(self, properties: Node | None) -> list[Node]:
        """The `w:pPr` of a paragraph, then its style and those on which that is based."""
        style = properties.child("w:pStyle") if properties else None
        chain = self._chain(style.get("val") if style else self._default)
        return [properties, *chain] if properties else chain

    def _chain(self, style_id: str) -> list[Node]:
        chain: list[Node] = []
        while (node := self._styles.get(style_id)) and len(chain) < _MAX_CHAIN:
            chain.append(node)
            based = node.child("w:basedOn")
            style_id = based.get("val") if based else ""
        return chain


def _is_on(chain: list[Node], name: str) -> bool:
    found = next((node for own in chain if (node := own.child(name))), None)
    return found is not None and found.get("val", "1") not in _OFF
