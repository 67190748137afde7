"""Text in drawings of all three Office formats: text bodies, tables, charts, diagrams (ECMA-376 part 1, section 21)."""

from collections.abc import Callable

from ..html.tree import Element
from .omml import math_element
from .package import Package
from .render import element
from .sheets.number_format import is_date_format, shown_number
from .xml_tree import Node

Inline = list[Element | str]
_MAX_CELLS = 20_000  # of one chart


def paragraph_inline(paragraph: Node, fields: Callable[[Node], str] | None = None) -> Inline:
    """Return the content of an `a:p`. fields: the text of an `a:fld`; None keeps its stored text."""
    content: Inline = []
    for node in paragraph.nodes:
        match node.name:
            case "a:r":
                content += _run(node)
            case "a:br":
                content.append(element("br"))
            case "a:fld":
                content.append(fields(node) if fields else _text(node))
            case "m:oMath" | "m:oMathPara" | "a:m" | "a14:m":
                content += [
                    math_element(math) for math in ([node] if node.name == "m:oMath" else node.below("m:oMath"))
                ]
            case "mc:AlternateContent" | "mc:Choice" | "mc:Fallback":
                content += paragraph_inline(node, fields)
            case _ if any(True for _ in node.below("m:oMath")):
                content += [math_element(math) for math in node.below("m:oMath")]
    return _joined_shifts(content)


def _text(node: Node) -> str:
    return "".join(t.text() for t in node.all("a:t"))


def _run(run: Node) -> Inline:
    text = _text(run)
    pieces: Inline = []
    for index, piece in enumerate(text.replace("\v", "\n").split("\n")):
        pieces += ([element("br")] if index else []) + ([piece] if piece else [])
    properties = run.child("a:rPr")
    shift = properties.get("baseline") if properties else ""
    if shift.lstrip("-").rstrip("%").isdigit() and shift.strip("0%-"):
        pieces = [element("sub" if shift.startswith("-") else "sup", *pieces)]
    if properties and properties.get("strike") in ("sngStrike", "dblStrike"):
        pieces = [element("s", *pieces)]
    return pieces


def _joined_shifts(content: Inline) -> Inline:
    """Neighboring superscripts as one: 10 and ^1 and ^2 is 10¹²."""
    joined: Inline = []
    for piece in content:
        last = joined[-1] if joined else None
        if isinstance(piece, Element) and isinstance(last, Element) and piece.name == last.name in ("sup", "sub", "s"):
            last.children += piece.children
        else:
            joined.append(piece)
    return joined


def table(node: Node, cell_blocks: Callable[[Node], Inline]) -> Element:
    """Return an `a:tbl`. cell_blocks: the content of an `a:txBody`."""
    properties = node.child("a:tblPr")
    has_header = properties is not None and properties.get("firstRow") in ("1", "true")
    rows: list[Element] = []
    for index, row in enumerate(node.all("a:tr")):
        made = element("tr")
        for cell in row.all("a:tc"):
            if cell.get("hMerge") in ("1", "true") or cell.get("vMerge") in ("1", "true"):
                continue
            body = cell.child("a:txBody")
            name = "th" if has_header and index == 0 else "td"
            spans = {"colspan": cell.get("gridSpan"), "rowspan": cell.get("rowSpan")}
            made.children.append(element(name, *(cell_blocks(body) if body else []), **spans))
        rows.append(made)
    return element("table", *rows)


def chart(root: Node) -> Inline:
    """Return the title of a chart and its stored values as a table: one row per category."""
    content: Inline = []
    title = root.child("c:chart", "c:title") or next(iter(root.below("c:title", "cx:title")), None)
    if title is not None and (words := _all_text(title)):
        content.append(element("p", f"Chart: {words}"))
    columns: list[tuple[str, dict[int, str]]] = []
    categories: dict[int, str] = {}
    is_1904 = any(node.get("val", "1") in ("1", "true") for node in root.all("c:date1904"))
    for series in root.below("c:ser"):
        name = series.child("c:tx")
        values = series.child("c:val") or series.child("c:yVal")
        keys = series.child("c:cat") or series.child("c:xVal")
        shown = _points(values, is_1904=is_1904) if values else {}
        columns.append((_series_name(name) if name else "", shown))
        for index, key in (_points(keys, is_1904=is_1904) if keys else {}).items():
            categories.setdefault(index, key)
    indexes = sorted({index for _, values in columns for index in values} | set(categories))
    if columns and indexes and len(columns) * len(indexes) <= _MAX_CELLS:
        head = element("tr", element("th"), *(element("th", name) for name, _ in columns))
        rows = [
            element(
                "tr",
                element("td", categories.get(index, "")),
                *(element("td", values.get(index, "")) for _, values in columns),
            )
            for index in indexes
        ]
        content.append(element("table", head, *rows))
    for axis in root.below("c:catAx", "c:valAx", "c:dateAx", "c:serAx"):
        label = axis.child("c:title")
        if label is not None and (words := _all_text(label)):
            content.append(element("p", f"Axis: {words}"))
    for node in root.below("cx:pt", "cx:v"):  # charts of the newer kind
        if words := node.text().strip():
            content.append(element("div", words))
    return content


def _all_text(node: Node) -> str:
    """The text of a title, by its paragraphs or by its stored value."""
    paragraphs = [" ".join(_text(run) for run in p.below("a:r", "a:fld")) for p in node.below("a:p")]
    return " ".join(filter(None, paragraphs)) or " ".join(v.text() for v in node.below("c:v", "cx:v"))


def _series_name(node: Node) -> str:
    return " ".join(filter(None, (v.text() for v in node.below("c:v")))) or _all_text(node)


def _points(node: Node, *, is_1904: bool) -> dict[int, str]:
    """Index -> stored value; the levels of a category of several levels are joined."""
    points: dict[int, str] = {}
    caches = list(node.below("c:lvl")) or list(node.below("c:strCache", "c:numCache", "c:strLit", "c:numLit"))
    for cache in reversed(caches):
        code = cache.child("c:formatCode")
        for point in cache.all("c:pt"):
            value = point.child("c:v")
            index = int(point.get("idx")) if point.get("idx").isdigit() else len(points)
            if value is not None:
                text = value.text()
                if cache.name in ("c:numCache", "c:numLit"):
                    text = _number(text, point.get("formatCode") or (code.text() if code else ""), is_1904=is_1904)
                points[index] = f"{points[index]} {text}" if index in points else text
    return points


def _number(text: str, code: str, *, is_1904: bool) -> str:
    """A date as its format shows it; 0.30000000000000004 -> 0.3, because a chart stores its values as computed."""
    try:
        value = float(text)
    except ValueError:
        return text
    if is_date_format(code):
        return shown_number(value, code, is_1904=is_1904)
    return f"{value:.15g}" if len(text) > 16 or text.endswith(".0") else text


def diagram(root: Node) -> Inline:
    """Return the texts of a diagram (SmartArt), `dgm:dataModel`, as a list in the order of their levels."""
    points = {point.get("modelId"): point for point in root.below("dgm:pt")}
    children: dict[str, list[tuple[int, str]]] = {}
    for connection in root.below("dgm:cxn"):
        if connection.get("type", "parOf") == "parOf":
            order = connection.get("srcOrd")
            children.setdefault(connection.get("srcId"), []).append(
                (int(order) if order.isdigit() else 0, connection.get("destId"))
            )
    items: list[Element | str] = []
    seen: set[str] = set()

    def walk(key: str, level: int) -> None:
        if key in seen or level > 50:
            return
        seen.add(key)
        point = points.get(key)
        body = point.child("dgm:t") if point else None
        lines = [paragraph_inline(p) for p in body.all("a:p")] if body else []
        content = [piece for index, line in enumerate(lines) for piece in ([" "] if index else []) + line]
        if any(piece if isinstance(piece, str) else piece.text() for piece in content):
            items.append(element("item", *content, level=str(level)))
        for _, child in sorted(children.get(key, [])):
            walk(child, level + (bool(content)))

    targets = {key for found in children.values() for _, key in found}
    texts = ("", "node", "asst", "doc", "norm")
    for key, point in points.items():
        if key not in targets and point.get("type") in texts:
            walk(key, 0)
    for key, point in points.items():
        if point.get("type") in texts:
            walk(key, 0)
    return [element("list", *items)] if items else []


def graphic(node: Node, package: Package, part: str) -> Inline:
    """Return the charts and diagrams that a graphic frame or a drawing in a part refers to."""
    content: Inline = []
    for reference in node.below("c:chart", "cx:chart", "dgm:relIds"):
        key = "r:dm" if reference.name == "dgm:relIds" else "r:id"
        relation = package.relations(part).get(reference.get(key))
        root = package.tree(relation.name) if relation and relation.name else None
        if root is not None:
            content += diagram(root) if key == "r:dm" else chart(root)
    return content
