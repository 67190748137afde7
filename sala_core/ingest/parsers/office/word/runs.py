"""The runs of a Word paragraph: its words, and what stands between and beside them."""

from collections.abc import Callable
from dataclasses import replace

from ...html.tree import Element
from ..drawing import graphic
from ..formats import Format, formatted
from ..omml import math_element
from ..package import Package
from ..render import PAGE_MARK, element
from ..symbols import symbol, symbol_text
from ..xml_tree import Node
from .fields import Fields
from .notes import Notes
from .styles import Styles

_TRANSPARENT = frozenset(
    {
        "w:hyperlink", "w:smartTag", "w:ins", "w:moveTo", "w:customXml", "w:sdtContent", "w:dir", "w:bdo",
        "w:fldSimple", "w:subDoc", "mc:AlternateContent", "mc:Choice", "mc:Fallback", "w:rubyBase", "w:rt",
    }
)  # fmt: skip
_UNSEEN = frozenset({"w:pPr", "w:rPr", "w:instrText", "w:delInstrText", "w:sdtPr", "w:sdtEndPr", "w:footnoteRef"})
_TEXTS = {"w:noBreakHyphen": "-", "w:softHyphen": ""}
_DELETED = frozenset({"w:del", "w:moveFrom"})


class Runs:
    """Turns the content of paragraphs into elements. Open fields and comments go from one paragraph to the next.

    boxes: text boxes, charts and diagrams of the present paragraph, to follow it. read_blocks: reads a text box.
    """

    def __init__(
        self, package: Package, styles: Styles, notes: Notes, read_blocks: Callable[[list[Node]], list[Element | str]]
    ) -> None:
        """Prepare to read the paragraphs of a document.

        Args:
            package: holds the parts that drawings refer to.
            styles: of the document.
            notes: take the references to footnotes and comments.
            read_blocks: turns the paragraphs of a text box into blocks.
        """
        self.part = "word/document.xml"
        self.boxes: list[Element | str] = []
        self.has_pages = False
        self._package = package
        self._styles = styles
        self._notes = notes
        self._read_blocks = read_blocks
        self._fields = Fields()
        self._spans: list[tuple[Format, Element | str]] = []
        self._paragraph: Node | None = None

    def read(self, paragraph: Node) -> list[Element | str]:
        """Return the content of a paragraph."""
        outer = self._spans, self._paragraph
        self._spans, self._paragraph = [], paragraph.child("w:pPr")
        self._many(paragraph, Format())
        spans = self._spans
        self._spans, self._paragraph = outer
        return formatted(spans)

    def _add(self, piece: Element | str, form: Format) -> None:
        if piece != "" and not self._fields.is_instruction:
            self._fields.result()
            self._spans.append((form, piece))
            if isinstance(piece, str):
                self._notes.anchored(piece)

    def _many(self, parent: Node, form: Format) -> None:
        for node in parent.nodes:
            self._one(node, form)

    def _one(self, node: Node, form: Format) -> None:
        name = node.name
        if name == "w:r":
            own = self._styles.format_of(node.child("w:rPr"), self._paragraph)
            self._run(node, replace(own, is_deleted=form.is_deleted))
        elif name in _DELETED:
            self._many(node, replace(form, is_deleted=True))
        elif name in _TRANSPARENT:
            self._many(node, form)
        elif name == "w:sdt":
            self._control(node, form)
        elif name in ("m:oMath", "m:oMathPara"):
            for math in [node] if name == "m:oMath" else node.below("m:oMath"):
                self._add(math_element(math), form)
        elif name in ("w:commentRangeStart", "w:commentRangeEnd"):
            self._notes.range(node)
        elif name not in _UNSEEN:
            self._run_part(node, form, None)

    def _run(self, run: Node, form: Format) -> None:
        fonts = run.child("w:rPr", "w:rFonts")
        for node in run.nodes:
            self._run_part(node, form, fonts)

    def _run_part(self, node: Node, form: Format, fonts: Node | None) -> None:
        match node.name:
            case "w:t" | "w:delText":
                text = node.text()
                self._add(symbol_text(fonts.get("ascii") or fonts.get("hAnsi"), text) if fonts else text, form)
            case "w:instrText":
                self._fields.instruction(node.text())
            case "w:fldChar":
                if shown := self._fields.mark(node):
                    self._spans.append((form, shown))
            case "w:tab" | "w:ptab":
                self._add(element("tab"), form)
            case "w:br" | "w:cr":
                self._add(element("br"), form)
            case "w:sym":
                self._add(symbol(node.get("font"), node.get("char")), form)
            case "w:lastRenderedPageBreak":
                self.has_pages = True
                self._spans.append((Format(), PAGE_MARK))
            case "w:footnoteReference" | "w:endnoteReference":
                self._add(self._notes.reference(node), replace(form, shift=""))
            case "w:commentReference":
                self._notes.comment(node)
            case "w:ruby":
                base, reading = node.child("w:rubyBase"), node.child("w:rt")
                self._many(base, form) if base else None
                self._add(element("rt", reading.text() if reading else ""), form)
            case "w:drawing":
                self._drawing(node, form)
            case "w:pict" | "w:object":
                self._picture(node, form)
            case name if name in _TEXTS:
                self._add(_TEXTS[name], form)
            case name if name in _TRANSPARENT or name in _DELETED or name in ("w:r", "w:sdt"):
                self._one(node, form)
            case "m:oMath":
                self._one(node, form)

    def _control(self, node: Node, form: Format) -> None:
        """A content control. A check box is shown as in a form."""
        box = node.child("w:sdtPr", "w14:checkbox")
        if box is not None:
            state = box.child("w14:checked")
            is_checked = state is not None and state.get("val", "1") not in ("0", "false", "off")
            self._add("[x]" if is_checked else "[ ]", form)
            return
        content = node.child("w:sdtContent")
        if content is not None:
            self._many(content, form)

    def _drawing(self, node: Node, form: Format) -> None:
        boxes = [self._read_blocks(box.nodes) for box in node.below("w:txbxContent")]
        self.boxes += [block for blocks in boxes for block in blocks]
        self.boxes += graphic(node, self._package, self.part)
        described = next(iter(node.below("wp:docPr")), None)
        words = (described.get("descr") or described.get("title")) if described else ""
        pictures = [p.get("descr") for pic in node.below("a:pic") for p in pic.below("a:cNvPr") if p.get("descr")]
        for alt in dict.fromkeys(filter(None, [words, *pictures])):
            self._add(element("img", alt=alt), form)

    def _picture(self, node: Node, form: Format) -> None:
        """A drawing in the older language, VML."""
        for box in node.below("w:txbxContent"):
            self.boxes += self._read_blocks(box.nodes)
        for found in node.below("v:textpath"):
            self._add(element("img", alt=found.get("string") + " "), form)
        for shape in node.below("v:shape", "v:rect"):
            image = next(iter(shape.below("v:imagedata")), None)
            alt = shape.get("alt") or (image.get("o:title") if image else "")
            if image is not None and alt:
                self._add(element("img", alt=alt), form)
        if any(True for _ in node.below("o:OLEObject")):
            self._notes.has_objects = True
