"""Footnotes, endnotes and comments of a Word document: where they are referred to, and what they say."""

from collections.abc import Callable

from ...html.tree import Element
from ..numbering import number_text
from ..package import Package
from ..render import element, render
from ..xml_tree import Node

_MAX_ANCHOR_CHARS = 60
_SEPARATORS = ("separator", "continuationSeparator", "continuationNotice")


class Notes:
    """Collects the notes to which a document refers. has_objects: embedded files were met, which are not read."""

    def __init__(
        self, package: Package, part: str, read_blocks: Callable[[list[Node], str], list[Element | str]]
    ) -> None:
        """Find the notes of a document.

        Args:
            package: the open document.
            part: its main part.
            read_blocks: (paragraphs, name of their part) -> blocks.
        """
        self.has_objects = False
        self._read_blocks = read_blocks
        self._bodies: dict[tuple[str, str], Node] = {}
        self._parts: dict[str, str] = {}
        for kind in ("footnote", "endnote", "comment"):
            for name in package.related(part, kind + "s"):
                self._parts[kind] = name
                root = package.tree(name)
                for node in root.all(f"w:{kind}") if root else []:
                    if node.get("type") not in _SEPARATORS:
                        self._bodies[kind, node.get("id")] = node
        self._kinds = {"footnote": "decimal", "endnote": "lowerRoman"}
        self._counts = {"footnote": 0, "endnote": 0}
        self._waiting: list[tuple[str, str, str]] = []
        self._endnotes: list[tuple[str, str, str]] = []
        self._anchors: dict[str, str] = {}
        self._open: set[str] = set()
        self._is_reading = False

    def use_formats(self, settings: Node | None, sections: list[Node]) -> None:
        """Take the formats of the numbers from the settings and the sections (`w:sectPr`) of the document."""
        for kind in self._kinds:
            for holder in [settings, *sections] if settings else sections:
                found = holder.child(f"w:{kind}Pr", "w:numFmt") if holder else None
                start = holder.child(f"w:{kind}Pr", "w:numStart") if holder else None
                if found is not None:
                    self._kinds[kind] = found.get("val")
                if start is not None and start.get("val").isdigit():
                    self._counts[kind] = int(start.get("val")) - 1

    def reference(self, node: Node) -> str:
        """Return the mark of a footnote or endnote in the text, and keep the note for `after_block`."""
        kind = "footnote" if node.name == "w:footnoteReference" else "endnote"
        if node.get("customMarkFollows") in ("1", "true", "on"):
            label = ""
        else:
            self._counts[kind] += 1
            label = number_text(self._counts[kind], self._kinds[kind])
        (self._waiting if kind == "footnote" else self._endnotes).append((kind, node.get("id"), label))
        return f"[{label}]" if label else ""

    def comment(self, node: Node) -> None:
        """Keep a comment for `after_block`."""
        self._waiting.append(("comment", node.get("id"), ""))

    def range(self, node: Node) -> None:
        """Begin or end the words that a comment is about."""
        if node.name == "w:commentRangeStart":
            self._open.add(node.get("id"))
        else:
            self._open.discard(node.get("id"))

    def anchored(self, text: str) -> None:
        """Take words of the document, for the comments that are about them."""
        for key in self._open:
            if len(self._anchors.get(key, "")) <= _MAX_ANCHOR_CHARS:
                self._anchors[key] = self._anchors.get(key, "") + text

    def after_block(self) -> list[Element | str]:
        """Return the footnotes and comments of the paragraphs since the last call."""
        waiting, self._waiting = self._waiting, []
        return [line for note in waiting for line in self._note(*note)]

    def at_end(self) -> list[Element | str]:
        """Return the endnotes, then the comments that nothing refers to."""
        lines = [line for note in self._endnotes for line in self._note(*note)] + self.after_block()
        rest = [key for key in self._bodies if key[0] == "comment"]
        return lines + [line for kind, key in rest for line in self._note(kind, key, "")]

    def _note(self, kind: str, key: str, label: str) -> list[Element | str]:
        body = self._bodies.pop((kind, key), None)
        if body is None or self._is_reading:
            return []
        self._is_reading = True
        text = " ".join(render(self._read_blocks(body.nodes, self._parts[kind])).split("\n")).strip()
        self._is_reading = False
        if kind == "comment":
            anchor = " ".join(self._anchors.get(key, "").split())
            about = f" on “{anchor[:_MAX_ANCHOR_CHARS]}{'…' * (len(anchor) > _MAX_ANCHOR_CHARS)}”" if anchor else ""
            label = " ".join(filter(None, ["by" if body.get("author") else "", body.get("author")])) + about
        name = " ".join(f"{kind.capitalize()} {label}".split())
        return [element("p", f"[{name}: {text}]")] if text else []
