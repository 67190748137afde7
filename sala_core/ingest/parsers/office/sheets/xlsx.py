"""Excel workbooks (.xlsx, .xlsm, .xltx) to text: every sheet, each cell as it is shown (ECMA-376, section 18).

The sheets are the pages of the document. A formula gives the value that is stored with it.
"""

from ...failures import PIECE_FAILURES
from ...html.tree import Element
from ...result import Parsed, ParseError, ParseLimits, normalize_text
from ..drawing import chart, graphic, paragraph_inline
from ..package import Package, macro_note, merged_notes, open_package
from ..render import element, grouped, render
from ..xml_tree import Node
from .rows import Sheet, formula_note, sheet_text
from .workbook import SharedStrings, WorkbookStyles
from .worksheet import Worksheet

_WHAT = "an Excel workbook"
_STATES = {"hidden": "hidden", "veryHidden": "hidden"}


def parse_xlsx(path: str, limits: ParseLimits) -> Parsed:
    """Return the text of all sheets in their order, hidden ones marked. Each sheet is a page.

    Raises ParseError for a workbook that is encrypted, damaged beyond repair or empty, and for one over the limits.
    """
    with open_package(path, limits, _WHAT) as members:
        package = Package(members)
        workbook = _Workbook(package, limits.max_text_bytes)
        texts = [normalize_text(text) for text in workbook.texts()]
        notes = package.notes + workbook.notes() + macro_note(package)
    if not workbook.has_text:
        raise ParseError(f"{_WHAT} without any text")
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text))
    return Parsed(text="".join(texts), page_starts=tuple(starts[:-1]), warnings=merged_notes(notes))


class _Workbook:
    """Reads the sheets one by one. A sheet that cannot be read is named, and the others are read."""

    def __init__(self, package: Package, max_bytes: int) -> None:
        self.has_text = False
        self._package = package
        self._max_bytes = self._left = max_bytes
        self._main = next(iter(package.related("", "officeDocument")), "xl/workbook.xml")
        root = package.optional(self._main)
        properties = root.child("s:workbookPr") if root else None
        is_1904 = properties is not None and properties.get("date1904") in ("1", "true", "on")
        self._sheets = root.child("s:sheets") if root else None
        names = {kind: next(iter(package.related(self._main, kind)), "") for kind in ("sharedStrings", "styles")}
        self._styles = WorkbookStyles(package.optional(names["styles"]), is_1904=is_1904)
        strings = package.read(names["sharedStrings"]) if names["sharedStrings"] else None
        self._strings = SharedStrings(strings, max_bytes)
        if self._strings.problem:
            package.notes.append(f"{names['sharedStrings']}: {self._strings.problem}")
        self._people = self._persons()
        self._num_formulas = 0

    def notes(self) -> list[str]:
        """Return notes on the whole workbook."""
        return formula_note(self._num_formulas)

    def texts(self) -> list[str]:
        """Return the text of each sheet."""
        texts: list[str] = []
        for name, part, state in self._parts():
            try:
                text = self._sheet(name, part, state)
            except PIECE_FAILURES:
                self._package.notes.append(f"sheet “{name}” cannot be read")
                text = f"## Sheet: {name}\n\n(cannot be read)\n\n"
            self._left -= len(text.encode())
            if self._left < 0:
                raise ParseError(f"more than {self._max_bytes / 2**20:,.1f} MiB of text")
            texts.append(text)
        return texts

    def _parts(self) -> list[tuple[str, str, str]]:
        """(name, part, state) of each sheet."""
        relations = self._package.relations(self._main)
        found: list[tuple[str, str, str]] = []
        for node in self._sheets.all("s:sheet") if self._sheets else []:
            relation = relations.get(node.get("r:id"))
            if relation is None or not relation.name:
                self._package.notes.append(f"sheet “{node.get('name')}” is missing from the file")
            elif relation.kind not in ("xlMacrosheet", "dialogsheet"):
                found.append((node.get("name"), relation.name, _STATES.get(node.get("state"), "")))
        if not found:
            names = [n for n in self._package.names if n.lower().startswith("xl/worksheets/") and n.endswith(".xml")]
            found = [
                (n.rpartition("/")[2].removesuffix(".xml"), n, "") for n in sorted(names, key=lambda n: (len(n), n))
            ]
            if not found:
                raise ParseError(f"{_WHAT} that is damaged: no sheet can be found in it")
            self._package.notes.append("the list of sheets is missing: they are read in the order of their names")
        return found

    def _sheet(self, name: str, part: str, state: str) -> str:
        sheet = Sheet(name=name, state=state)
        data = self._package.read(part)
        if data is None:
            return f"## Sheet: {name}\n\n(cannot be read)\n\n"
        reader = Worksheet(sheet, self._styles, self._strings, self._left)
        if problem := reader.read(data):
            self._package.notes.append(f"sheet “{name}”: {problem}")
        if reader.is_over:
            raise ParseError(f"more than {self._max_bytes / 2**20:,.1f} MiB of text")
        self._num_formulas += reader.num_formulas
        sheet.after += [line for text in reader.margins if (line := text)]
        sheet.after += self._drawings(part) + self._comments(part)
        self.has_text |= bool(sheet.rows or sheet.after)
        return sheet_text(sheet)

    def _drawings(self, part: str) -> list[str]:
        """Text boxes, charts and alternative texts of pictures."""
        blocks: list[Element | str] = []
        for name in self._package.related(part, "drawing"):
            root = self._package.optional(name)
            for anchor in root.nodes if root else []:
                for node in anchor.below("xdr:sp", "xdr:pic", "xdr:graphicFrame", "xdr:cxnSp"):
                    blocks += self._shape(node, name)
            if root is not None and not root.nodes and root.name == "c:chartSpace":
                blocks += chart(root)
        text = render(grouped(blocks)).strip("\n")
        return ["", text] if text else []

    def _shape(self, node: Node, part: str) -> list[Element | str]:
        body = node.child("xdr:txBody")
        if body is not None and any(True for _ in body.below("a:t", "m:t")):
            return [*(element("div", *paragraph_inline(p)) for p in body.all("a:p")), element("p")]
        blocks = graphic(node, self._package, part)
        own = next(iter(node.below("xdr:cNvPr")), None)
        alt = own.get("descr").strip() if own else ""
        return blocks or ([element("p", element("img", alt=alt))] if alt else [])

    def _persons(self) -> dict[str, str]:
        people: dict[str, str] = {}
        for name in self._package.related(self._main, "person"):
            root = self._package.optional(name)
            for person in root.nodes if root else []:
                people[person.get("id")] = person.get("displayName")
        return people

    def _comments(self, part: str) -> list[str]:
        """Comments with their cells; a threaded comment stands in the older list too, as a copy."""
        lines: list[str] = []
        threaded: set[str] = set()
        for name in self._package.related(part, "threadedComment"):
            root = self._package.optional(name)
            for node in root.all("s:threadedComment") if root else []:
                texts = [text.text() for text in node.all("s:text")]
                lines += _comment(self._people.get(node.get("personId"), ""), node.get("ref"), " ".join(texts))
                threaded.add(node.get("ref"))
        for name in self._package.related(part, "comments"):
            root = self._package.optional(name)
            authors = [author.text() for author in root.below("s:author")] if root else []
            for node in root.below("s:comment") if root else []:
                if node.get("ref") in threaded:
                    continue
                index = node.get("authorId")
                author = authors[int(index)] if index.isdigit() and int(index) < len(authors) else ""
                texts = [t.text() for body in node.all("s:text") for t in body.below("s:t", "s:rPh") if t.name == "s:t"]
                text = "".join(texts).strip()
                lines += _comment(author, node.get("ref"), text.removeprefix(f"{author}:") if author else text)
        return lines


def _comment(author: str, reference: str, text: str) -> list[str]:
    words = " ".join(text.split())
    by = f" by {author}" if author and not author.startswith("tc={") else ""
    return [f"[Comment{by} on {reference}: {words}]"] if words else []
