"""PowerPoint presentations (.pptx, .pptm, .ppsx, .potx) to text: every slide with its notes (ECMA-376, section 19).

The slides are the pages of the document. What stands on all slides (their master and layout) is given once, at the end.
"""

from ...failures import PIECE_FAILURES
from ...html.tree import Element
from ...result import Parsed, ParseError, ParseLimits, normalize_text
from ..drawing import graphic, paragraph_inline, table
from ..package import Package, macro_note, merged_notes, open_package
from ..render import element, grouped, render
from ..xml_tree import Node
from .lists import SlideLists

_WHAT = "a PowerPoint presentation"
_MARGINS = {"dt": "Date", "ftr": "Footer", "hdr": "Header"}
_SHAPES = ("p:sp", "p:grpSp", "p:graphicFrame", "p:pic", "p:cxnSp", "p:contentPart", "mc:AlternateContent")
_MAX_DEPTH = 40


def parse_pptx(path: str, limits: ParseLimits) -> Parsed:
    """Return the text of all slides in their order, hidden ones marked. Each slide is a page.

    Raises ParseError for a presentation that is encrypted, damaged beyond repair or empty, and for one over the limits.
    """
    with open_package(path, limits, _WHAT) as members:
        package = Package(members)
        texts = _Presentation(package).texts()
        notes = package.notes + macro_note(package)
    num_bytes, starts = 0, [0]
    for text in texts:
        num_bytes += len(text.encode())
        starts.append(starts[-1] + len(text))
    if not any(text.strip() for text in texts):
        raise ParseError(f"{_WHAT} without any text")
    if num_bytes > limits.max_text_bytes:
        raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of text")
    return Parsed(text="".join(texts), page_starts=tuple(starts[:-1]), warnings=merged_notes(notes))


class _Presentation:
    """Reads the slides one by one. A slide that cannot be read is named, and the others are read."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._main = next(iter(package.related("", "officeDocument")), "ppt/presentation.xml")
        self._everywhere: dict[str, None] = {}
        self._authors: dict[str, str] = {}
        self._layouts: set[str] = set()
        self._number = 0

    def texts(self) -> list[str]:
        """Return the text of each slide; what stands on every slide is at the end of the last."""
        names = self._slide_names()
        for kind in ("commentAuthors", "authors"):
            for name in self._package.related(self._main, kind):
                root = self._package.optional(name)
                for author in root.nodes if root else []:
                    self._authors[author.get("id")] = author.get("name")
        texts: list[str] = []
        for number, name in enumerate(names, 1):
            self._number = number
            try:
                text = self._slide(name)
            except PIECE_FAILURES:
                self._package.notes.append(f"slide {number} cannot be read")
                text = f"## Slide {number}\n\n(cannot be read)\n"
            texts.append(normalize_text(text) + "\n")
        if texts and self._everywhere:
            texts[-1] += render([element("p", line) for line in self._everywhere]) + "\n"
        return texts

    def _slide_names(self) -> list[str]:
        root = self._package.optional(self._main)
        relations = self._package.relations(self._main)
        ids = [node.get("r:id") for node in root.below("p:sldId")] if root else []
        names = [relations[key].name for key in ids if key in relations and relations[key].name]
        if not names:
            found = [n for n in self._package.names if n.lower().startswith("ppt/slides/slide") and n.endswith(".xml")]
            names = sorted(found, key=lambda name: (len(name), name))
            if names:
                self._package.notes.append("the list of slides is missing: they are read in the order of their names")
        if not names:
            raise ParseError(f"{_WHAT} that is damaged: no slide can be found in it")
        return names

    def _slide(self, name: str) -> str:
        root = self._package.tree(name)
        if root is None:
            self._package.notes.append(f"slide {self._number} cannot be read")
            return f"## Slide {self._number}\n\n(cannot be read)\n"
        hidden = " (hidden)" if root.get("show") in ("0", "false") else ""
        reader = _Shapes(self._package, name, self._number, self._everywhere)
        blocks: list[Element | str] = reader.blocks(root.child("p:cSld", "p:spTree"))
        title = f": {reader.title}" if reader.title else ""
        head: list[Element | str] = [element("h2", f"Slide {self._number}{hidden}{title}")]
        self._masters(name)
        return render(head + grouped(blocks) + self._notes(name) + self._comments(name))

    def _notes(self, name: str) -> list[Element | str]:
        blocks: list[Element | str] = []
        for part in self._package.related(name, "notesSlide"):
            root = self._package.optional(part)
            if root is not None:
                reader = _Shapes(self._package, part, self._number, {}, only=("body", "", "tbl"))
                blocks += reader.blocks(root.child("p:cSld", "p:spTree"))
        return [element("p", "Notes:"), *grouped(blocks)] if blocks else []

    def _comments(self, name: str) -> list[Element | str]:
        lines: list[Element | str] = []
        for part in self._package.related(name, "comments"):
            root = self._package.optional(part)
            lines += [element("p", line) for line in self._comment_lines(root)] if root else []
        return lines

    def _comment_lines(self, root: Node) -> list[str]:
        lines: list[str] = []
        for node in root.below("p:cm", "p14:cm"):
            for entry in [node, *node.below("p14:reply")]:
                author = self._authors.get(entry.get("authorId"), "")
                texts = [t.text() for t in entry.all("p:text")]
                texts += [t.text() for body in entry.all("p14:txBody") for t in body.below("a:t")]
                if text := " ".join(" ".join(texts).split()):
                    lines.append(f"[Comment by {author}: {text}]" if author else f"[Comment: {text}]")
        return lines

    def _masters(self, name: str) -> None:
        """Keep the words that a slide shows from its layout and master, each once."""
        for layout in self._package.related(name, "slideLayout"):
            for part in [layout, *self._package.related(layout, "slideMaster")]:
                if part in self._layouts:
                    continue
                self._layouts.add(part)
                root = self._package.optional(part)
                if root is None:
                    continue
                reader = _Shapes(self._package, part, 0, {}, only=())
                text = render(grouped(reader.blocks(root.child("p:cSld", "p:spTree"))))
                if words := " ".join(text.split()):
                    self._everywhere.setdefault(f"[On the slides: {words}]")


class _Shapes:
    """Reads the shapes of one slide in their order. title: the words of its title.

    only: types of placeholders that are read, "" for one without a type; None for all. Other shapes are always read.
    """

    def __init__(
        self,
        package: Package,
        part: str,
        number: int,
        everywhere: dict[str, None],
        only: tuple[str, ...] | None = None,
    ) -> None:
        """Prepare to read one slide.

        Args:
            package: the open presentation.
            part: of the slide.
            number: of the slide, for fields that show it; 0 outside of slides.
            everywhere: takes footers and dates.
            only: see above.
        """
        self.title = ""
        self._package = package
        self._part = part
        self._number = number
        self._everywhere = everywhere
        self._only = only
        self._lists = SlideLists(package, part)

    def blocks(self, tree: Node | None, depth: int = 0) -> list[Element | str]:
        """Return the content of a tree of shapes, without the title."""
        blocks: list[Element | str] = []
        if depth > _MAX_DEPTH:
            return blocks
        for shape in tree.nodes if tree else []:
            if shape.name in ("mc:AlternateContent", "mc:Choice", "mc:Fallback", "p:grpSp"):
                blocks += self._alternative(shape)
                blocks += self.blocks(shape, depth + 1)
            elif shape.name in _SHAPES:
                blocks += self._shape(shape)
        return blocks

    def _alternative(self, shape: Node) -> list[Element | str]:
        """The alternative text of a shape, if it shows no words itself."""
        own = next((node for part in shape.nodes if part.name.startswith("p:nv") for node in part.all("p:cNvPr")), None)
        alt = (own.get("descr") or "").strip() if own else ""
        return [element("p", element("img", alt=alt))] if alt else []

    def _shape(self, shape: Node) -> list[Element | str]:
        holder = next(iter(shape.below("p:ph")), None)
        kind = holder.get("type") if holder else None
        if shape.name == "p:graphicFrame":
            return self._frame(shape)
        body = shape.child("p:txBody")
        if self._only is not None and kind is not None and (kind not in self._only):
            return []
        if body is None:
            return self._alternative(shape)
        if kind == "sldNum":
            return []
        if kind in _MARGINS:
            if words := " ".join(render(self._paragraphs(body, None)).split()):
                self._everywhere.setdefault(f"[{_MARGINS[kind]}: {words}]")
            return []
        if kind in ("title", "ctrTitle") and not self.title:
            self.title = " ".join(render(self._paragraphs(body, None)).split())
            return []
        blocks = self._paragraphs(body, holder)
        return blocks if any(True for _ in body.below("a:t", "m:t")) else blocks or self._alternative(shape)

    def _frame(self, shape: Node) -> list[Element | str]:
        """A table, chart, diagram or embedded file."""
        blocks = [table(node, lambda body: grouped(self._paragraphs(body, None))) for node in shape.below("a:tbl")]
        content: list[Element | str] = [*blocks, *graphic(shape, self._package, self._part)]
        if not content and any(True for _ in shape.below("p:oleObj")):
            self._package.notes.append("embedded files (objects) are not read")
        return content or self._alternative(shape)

    def _paragraphs(self, body: Node, holder: Node | None) -> list[Element | str]:
        """The paragraphs of a text body. holder: its `p:ph`, from which lists inherit their marks."""
        blocks: list[Element | str] = []
        counter = self._lists.counter(body, holder)
        for paragraph in body.all("a:p"):
            content = paragraph_inline(paragraph, self._field)
            if not any(piece.strip() if isinstance(piece, str) else piece.name != "br" for piece in content):
                continue
            mark, level = counter.mark(paragraph)
            if mark:
                blocks.append(element("item", *content, mark=mark, level=str(level)))
            else:
                blocks.append(element("div", *content))
        return [*blocks, element("p")] if blocks else []

    def _field(self, node: Node) -> str:
        if node.get("type") == "slidenum":
            return str(self._number) if self._number else ""
        return "".join(t.text() for t in node.all("a:t"))
