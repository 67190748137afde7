"""OpenDocument texts, spreadsheets and presentations (.odt, .ods, .odp; also as one XML file, .fodt) to text.

Pages are the slides, the sheets, or the pages of a text if its program has noted where they began.
"""

from ...failures import PIECE_FAILURES
from ...html.tree import Element
from ...result import Parsed, ParseError, ParseLimits, normalize_text
from ..package import Package, merged_notes, open_package
from ..render import element, grouped, render, without_page_marks
from ..sheets.rows import formula_note, sheet_text
from ..xml_tree import Node, parse_xml
from .sheets import SheetReader
from .styles import OdfStyles
from .text import OdfReader, embedded_blocks

_WHAT = "an OpenDocument file"
_PLACEHOLDERS = ("date-time", "footer", "header", "page-number", "page", "notes")


def parse_odf(path: str, limits: ParseLimits) -> Parsed:
    """Return the text of a document, a spreadsheet or a presentation.

    Raises ParseError for a file that is encrypted, damaged beyond repair or empty, and for one over the limits.
    """
    with open(path, "rb") as file:
        is_archive = file.read(2) == b"PK"
        if not is_archive and not path.lower().endswith((".fodt", ".fods", ".fodp")):
            file.seek(0)
            is_archive = not file.read(200).lstrip(b"\xef\xbb\xbf \r\n").startswith(b"<")
    if is_archive:
        with open_package(path, limits, _WHAT) as members:
            package = Package(members)
            return _parsed(_Document(package), limits)
    with open(path, "rb") as file:
        data = file.read(limits.max_unpacked_bytes + 1)
    if len(data) > limits.max_unpacked_bytes:
        raise ParseError(f"{_WHAT} of more than {limits.max_unpacked_bytes / 2**20:,.1f} MiB")
    root, problem = parse_xml(data)
    document = _Document(None, root)
    document.notes += [problem] if problem else []
    return _parsed(document, limits)


def _parsed(document: "_Document", limits: ParseLimits) -> Parsed:
    texts = [normalize_text(text) for text in document.texts(limits.max_text_bytes)]
    if not any(text.strip() for text in texts) or not document.has_text:
        raise ParseError(f"{_WHAT} without any text")
    if sum(len(text.encode()) for text in texts) > limits.max_text_bytes:
        raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of text")
    if len(texts) == 1 and not document.has_pages:
        text, starts = without_page_marks(texts[0])
        return Parsed(text=text, page_starts=starts, warnings=merged_notes(document.notes))
    texts = [without_page_marks(text)[0] for text in texts]
    offsets = [0]
    for text in texts[:-1]:
        offsets.append(offsets[-1] + len(text))
    return Parsed(text="".join(texts), page_starts=tuple(offsets), warnings=merged_notes(document.notes))


class _Document:
    """One file: an archive, or the root of a file that is XML as a whole."""

    def __init__(self, package: Package | None, root: Node | None = None) -> None:
        self.notes: list[str] = package.notes if package else []
        self.has_text = True
        self.has_pages = False
        self._package = package
        if package is not None:
            manifest = package.optional("META-INF/manifest.xml")
            if manifest and any(True for _ in manifest.below("manifest:encryption-data")):
                raise ParseError("an encrypted document: open it, remove its password, save it and add it again")
            root = package.tree("content.xml")
        if root is None or not root.nodes:
            raise ParseError(f"{_WHAT} that is damaged: its content cannot be found")
        self._root = root
        self._styles = OdfStyles(package.optional("styles.xml") if package else None, root)
        self._reader = OdfReader(self._styles, self._object_blocks)

    def texts(self, max_bytes: int) -> list[str]:
        """Return the text of each page; one for all of a text document."""
        body = self._root.child("office:body") or self._root
        if sheets := body.child("office:spreadsheet"):
            return self._sheets(sheets, max_bytes)
        if slides := body.child("office:presentation") or body.child("office:drawing"):
            return self._slides(slides)
        return [self._text(body.child("office:text") or body)]

    def _text(self, body: Node) -> str:
        for region in body.below("text:changed-region"):
            deleted = region.child("text:deletion")
            if deleted is not None:
                self._reader.deletions[region.get("text:id") or region.get("xml:id")] = deleted
        blocks: list[Element | str] = []
        for node in body.nodes:
            try:
                blocks += self._reader.blocks([node])
            except PIECE_FAILURES:
                self.notes.append("a part of the document that cannot be read is shown without its format")
                blocks.append(element("p", node.text()))
            blocks += self._reader.take_notes()
        blocks += self._reader.endnotes + self._margins()
        return render(grouped(blocks))

    def _margins(self) -> list[Element | str]:
        lines: dict[str, None] = {}
        for master in self._styles.master_pages:
            for node in master.nodes:
                kind = node.name.partition(":")[2]
                if kind.startswith(("header", "footer")) and (text := self._reader.line(node.nodes)):
                    lines[f"[{'Header' if kind.startswith('header') else 'Footer'}: {text}]"] = None
        return [element("p", line) for line in lines]

    def _slides(self, body: Node) -> list[str]:
        self.has_pages, self.has_text = True, False
        texts: list[str] = []
        for number, page in enumerate(body.all("draw:page"), 1):
            try:
                texts.append(self._slide(number, page) + "\n")
            except PIECE_FAILURES:
                self.notes.append(f"slide {number} cannot be read")
                texts.append(f"## Slide {number}\n\n(cannot be read)\n\n")
        lines = dict.fromkeys(
            f"[{node.name.partition(':')[2].removesuffix('-decl').capitalize()}: {node.text().strip()}]"
            for node in body.all("pres:footer-decl", "pres:header-decl")
            if node.text().strip()
        )
        for master in self._styles.master_pages:
            shapes = [shape for shape in master.nodes if shape.name.startswith("draw:") and not shape.get("pres:class")]
            words = " ".join(render([b for s in shapes for b in self._reader.drawing(s)]).split())
            lines |= {f"[On the slides: {words}]": None} if words else {}
        if texts and lines:
            texts[-1] += render([element("p", line) for line in lines]) + "\n"
        return texts

    def _slide(self, number: int, page: Node) -> str:
        hidden = self._styles.value(
            "drawing-page", page.get("draw:style-name"), "drawing-page-properties", "pres:visibility"
        )
        title = ""
        blocks: list[Element | str] = []
        for shape in page.nodes:
            if shape.get("pres:placeholder") == "true" or shape.get("pres:class") in _PLACEHOLDERS:
                continue
            if shape.get("pres:class") == "title" and not title:
                title = " ".join(render(self._reader.drawing(shape)).split())
                continue
            blocks += self._reader.blocks([shape])
        notes_page = page.child("pres:notes")
        notes = [
            block
            for frame in (notes_page.nodes if notes_page else [])
            if frame.get("pres:class") == "notes" and frame.get("pres:placeholder") != "true"
            for block in self._reader.drawing(frame)
        ]
        blocks += self._reader.take_notes()
        self.has_text |= bool(title or blocks or notes)
        mark = " (hidden)" if hidden == "hidden" else ""
        head = element("h2", f"Slide {number}{mark}{f': {title}' if title else ''}")
        return render([head, *grouped(blocks), *([element("p", "Notes:"), *grouped(notes)] if notes else [])])

    def _sheets(self, body: Node, max_bytes: int) -> list[str]:
        self.has_pages, self.has_text = True, False
        reader = SheetReader(self._reader, self._styles, max_bytes)
        texts: list[str] = []
        for table in body.all("table:table"):
            name = table.get("table:name")
            try:
                sheet = reader.read(table)
            except PIECE_FAILURES:
                self.notes.append(f"sheet “{name}” cannot be read")
                texts.append(f"## Sheet: {name}\n\n(cannot be read)\n\n")
                continue
            if reader.is_over:
                raise ParseError(f"more than {max_bytes / 2**20:,.1f} MiB of text")
            self.has_text |= bool(sheet.rows or sheet.after)
            texts.append(sheet_text(sheet))
        self.notes += formula_note(reader.num_formulas)
        return texts

    def _object_blocks(self, reference: str) -> list[Element | str]:
        name = reference.removeprefix("./").rstrip("/")
        if not name or self._package is None or not self._package.has(f"{name}/content.xml"):
            if name and self._package is not None and not name.startswith("ObjectReplacements"):
                self.notes.append("embedded files (objects) are not read")
            return []
        root = self._package.tree(f"{name}/content.xml")
        return embedded_blocks(root, self._reader) if root else []
