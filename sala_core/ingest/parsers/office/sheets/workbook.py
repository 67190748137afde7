"""What the cells of a workbook share: their formats and their texts (ECMA-376 part 1, sections 18.8 and 18.4)."""

from ...html.math import lowered, raised
from ..xml_stream import ElementStream
from ..xml_tree import Node
from .number_format import BUILT_IN, shown_number, shown_text

_SHIFTS = {"superscript": raised, "subscript": lowered}


class WorkbookStyles:
    """The formats of cells by their index. is_1904: dates count from 1904."""

    def __init__(self, root: Node | None, *, is_1904: bool) -> None:
        """root: of `styles.xml`."""
        self._is_1904 = is_1904
        codes = dict(BUILT_IN)
        for node in root.below("s:numFmt") if root else []:
            if node.get("numFmtId").isdigit():
                codes[int(node.get("numFmtId"))] = node.get("formatCode")
        cells = root.child("s:cellXfs") if root else None
        fonts = root.child("s:fonts") if root else None
        struck = [_is_struck(font) for font in fonts.all("s:font")] if fonts else []
        self._codes: list[str] = []
        self._is_struck: list[bool] = []
        for cell in cells.all("s:xf") if cells else []:
            number, font = cell.get("numFmtId"), cell.get("fontId")
            self._codes.append(codes.get(int(number), "General") if number.isdigit() else "General")
            self._is_struck.append(font.isdigit() and int(font) < len(struck) and struck[int(font)])

    def number(self, text: str, style: str) -> str:
        """Return a stored number as its cell shows it; as it is if it is no number."""
        try:
            value = float(text)
        except ValueError:
            return text
        if value != value or value in (float("inf"), float("-inf")):
            return text
        return self.struck(shown_number(value, self._code(style), is_1904=self._is_1904), style)

    def text(self, text: str, style: str) -> str:
        """Return a stored text as its cell shows it."""
        return self.struck(shown_text(text, self._code(style)), style)

    def struck(self, text: str, style: str) -> str:
        """Mark a text that the format of its cell strikes out."""
        is_struck = style.isdigit() and int(style) < len(self._is_struck) and self._is_struck[int(style)]
        return f"~~{text}~~" if is_struck and text else text

    def _code(self, style: str) -> str:
        return self._codes[int(style)] if style.isdigit() and int(style) < len(self._codes) else "General"


def _is_struck(font: Node) -> bool:
    strike = font.child("s:strike")
    return strike is not None and strike.get("val", "1") not in ("0", "false")


class SharedStrings:
    """The texts that cells name by number. problem: what is wrong with the part, or ""."""

    def __init__(self, data: bytes | None, max_bytes: int) -> None:
        self.problem = ""
        self.values: list[str] = []
        self.readings: dict[int, str] = {}
        """Number of a text -> its reading (furigana), for the cells that show it."""
        if data is None:
            return
        elements = ElementStream(data, "si")
        for node in elements:
            if reading := "".join(t.text() for part in node.all("s:rPh") for t in part.all("s:t")):
                self.readings[len(self.values)] = reading
            self.values.append(rich_text(node))
        self.problem = elements.problem


def rich_text(node: Node) -> str:
    """Return the text of an `si` or `is` without its readings; superscripts and struck words as on web pages."""
    pieces: list[str] = []
    for part in node.nodes:
        if part.name == "s:t":
            pieces.append(part.text())
        elif part.name == "s:r":
            text = "".join(t.text() for t in part.all("s:t"))
            properties = part.child("s:rPr")
            shift = properties.child("s:vertAlign") if properties else None
            if shift and text.strip() and (shifted := _SHIFTS.get(shift.get("val"))):
                text = shifted(text)
            if properties and _is_struck(properties) and text.strip():
                text = f"~~{text}~~"
            pieces.append(text)
    return "".join(pieces)
