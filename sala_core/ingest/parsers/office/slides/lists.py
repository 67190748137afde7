"""The bullets and numbers of paragraphs on slides, which they inherit from layout and master (section 21.1.2.4)."""

from ..numbering import number_text
from ..package import Package
from ..xml_tree import Node

_BULLETED = ("body", "obj", "")  # placeholders that a master gives bullets
_KINDS = {
    "alphaLc": "lowerLetter", "alphaUc": "upperLetter", "arabic": "decimal", "romanLc": "lowerRoman",
    "romanUc": "upperRoman", "circleNum": "decimalEnclosedCircle", "ea1Chs": "chineseCounting",
    "ea1Jpn": "japaneseCounting", "hebrew2": "hebrew2", "thai": "thaiLetters", "arabic1": "arabicAlpha",
    "arabic2": "arabicAbjad",
}  # fmt: skip
_MARKS = ("a:buNone", "a:buChar", "a:buAutoNum", "a:buBlip")


def auto_number(value: int, scheme: str) -> str:
    """Return a number in a scheme of DrawingML (`ST_TextAutonumberScheme`): 3 in `alphaLcParenR` is `c)`."""
    kind = next((name for key, name in _KINDS.items() if scheme.startswith(key)), "decimal")
    text = number_text(value, kind)
    if scheme.endswith("ParenBoth"):
        return f"({text})"
    if scheme.endswith("ParenR"):
        return f"{text})"
    return text if scheme.endswith(("Plain", "DbPlain")) or kind == "decimalEnclosedCircle" else f"{text}."


class SlideLists:
    """What the layout and the master of a slide say about lists."""

    def __init__(self, package: Package, part: str) -> None:
        self._package = package
        self._part = part
        self._loaded: tuple[list[Node], Node | None] | None = None

    def counter(self, body: Node, holder: Node | None) -> "ListCounter":
        """Return the marks of one text body. holder: its `p:ph`, None outside of placeholders."""
        own = body.child("a:lstStyle")
        chain = [own] if own else []
        if holder is not None:
            layouts, master_style = self._load()
            for tree in layouts:
                chain += [style for shape in _same(tree, holder) if (style := shape.child("p:txBody", "a:lstStyle"))]
            if holder.get("type") in _BULLETED and master_style:
                chain.append(master_style)
        return ListCounter(chain)

    def _load(self) -> tuple[list[Node], Node | None]:
        """(trees of the layout and the master, the master's style of bodies)."""
        if self._loaded is None:
            trees: list[Node] = []
            style: Node | None = None
            for layout in self._package.related(self._part, "slideLayout"):
                for name in [layout, *self._package.related(layout, "slideMaster")]:
                    root = self._package.optional(name)
                    if root is not None:
                        trees.append(root)
                        style = style or root.child("p:txStyles", "p:bodyStyle")
            self._loaded = trees, style
        return self._loaded


def _same(tree: Node, holder: Node) -> list[Node]:
    """The shapes of a layout that are the same placeholder."""
    found = []
    for shape in tree.below("p:sp"):
        other = next(iter(shape.below("p:ph")), None)
        if other is None:
            continue
        by_index = holder.get("idx") != "" and other.get("idx") == holder.get("idx")
        if by_index or (other.get("type") == holder.get("type") and holder.get("type") != ""):
            found.append(shape)
    return found


class ListCounter:
    """The marks of the paragraphs of one text body, in order."""

    def __init__(self, chain: list[Node]) -> None:
        """chain: list styles, the nearest first."""
        self._chain = chain
        self._counts: dict[int, tuple[str, int]] = {}

    def mark(self, paragraph: Node) -> tuple[str, int]:
        """Return (mark, level) of a paragraph; the mark is "" outside of lists."""
        properties = paragraph.child("a:pPr")
        level = int(properties.get("lvl")) if properties and properties.get("lvl").isdigit() else 0
        level = min(level, 8)
        for deeper in [key for key in self._counts if key > level]:
            del self._counts[deeper]
        found = self._found(properties, level)
        if found is None or found.name == "a:buNone":
            self._counts.pop(level, None)
            return "", level
        if found.name != "a:buAutoNum":
            self._counts.pop(level, None)
            return "-", level
        scheme = found.get("type", "arabicPeriod")
        start = int(found.get("startAt")) if found.get("startAt").isdigit() else 1
        before = self._counts.get(level)
        value = before[1] + 1 if before and before[0] == f"{scheme}{start}" else start
        self._counts[level] = f"{scheme}{start}", value
        return auto_number(value, scheme), level

    def _found(self, properties: Node | None, level: int) -> Node | None:
        holders = [properties, *(style.child(f"a:lvl{level + 1}pPr") for style in self._chain)]
        for holder in holders:
            if holder is not None and (marks := holder.all(*_MARKS)):
                return marks[0]
        return None
