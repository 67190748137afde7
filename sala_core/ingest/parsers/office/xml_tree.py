"""The XML parts of office documents as trees. What stands before a fault in a part is kept.

Declarations of types and entities are removed before the text is parsed: no entity can be expanded or fetched.
"""

import re
from collections.abc import Iterator
from xml.parsers import expat

_CODES = (
    ("wordprocessingShape", "wps"), ("wordprocessingGroup", "wpg"), ("wordprocessingCanvas", "wpc"),
    ("/wordprocessingDrawing", "wp"), ("/wordprocessingml/", "w"), ("office/word/20", "w14"),
    ("/presentationml/", "p"), ("/spreadsheetml/", "s"),
    ("/spreadsheetDrawing", "xdr"), ("/markup-compatibility/", "mc"), ("officeDocument/2006/math", "m"),
    ("officeDocument/math", "m"), ("/drawingml/2006/chart", "c"), ("/drawingml/chart", "c"),
    ("drawingml/2006/diagram", "dgm"), ("drawingml/diagram", "dgm"), ("/drawing/2008/diagram", "dsp"),
    ("/drawing/2014/chartex", "cx"), ("/drawingml/", "a"), ("package/2006/relationships", "rel"),
    ("/relationships", "r"), ("microsoft-com:vml", "v"), ("microsoft-com:office:", "o"),
    ("xmlns:text:", "text"), ("xmlns:office:", "office"), ("xmlns:table:", "table"),
    ("xmlns:drawing:", "draw"), ("xmlns:style:", "style"), ("xsl-fo-compatible", "fo"), ("xmlns:presentation:", "pres"),
    ("svg-compatible", "svg"), ("xmlns:manifest:", "manifest"), ("xmlns:chart:", "chart"), ("xmlns:form:", "form"),
    ("xmlns:datastyle:", "number"), ("purl.org/dc/", "dc"), ("1999/xlink", "xlink"), ("Math/MathML", "math"),
    ("XML/1998/namespace", "xml"), ("loext", "loext"), ("powerpoint/20", "p14"), ("threadedcomments", "tc"),
)  # fmt: skip
_UNPREFIXED = frozenset({"w", "s", "rel", "p", "a", "wp", "wps", "xdr", "c", "dgm", "v", "m", "mc", "w14", "tc"})
"""Namespaces whose attributes are given by their local names. `r:id` and `id` of one element differ."""
_DOCTYPE = re.compile(r"<!DOCTYPE[^<>\[]*(?:\[.*?\]\s*)?>", re.DOTALL | re.IGNORECASE)
_LABEL = re.compile(r"\A\s*<\?xml[^>]*\?>", re.IGNORECASE)
_BARE_AMPERSAND = re.compile(r"&(?!(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos);)")
_BAD_REFERENCE = re.compile(
    r"&#(?:x0*(?:[0-8bcefBCEF]|1[0-9a-fA-F]|[dD][89a-fA-F]..|[fF]{3}[eEfF])|0*(?:[0-8]|1[124-9]|2\d|3[01]));"
)
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufdd0\ufffe\uffff]")
_MAX_DEPTH = 200


class Node:
    """An element. name: with the code of its namespace (`w:p`). children: elements and the texts between them."""

    __slots__ = ("attributes", "children", "name")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.children: list[Node | str] = []

    def get(self, name: str, default: str = "") -> str:
        """Return the value of an attribute."""
        return self.attributes.get(name, default)

    @property
    def nodes(self) -> list["Node"]:
        """The elements among the children."""
        return [child for child in self.children if isinstance(child, Node)]

    def all(self, *names: str) -> list["Node"]:
        """Return the child elements with one of these names."""
        return [child for child in self.children if isinstance(child, Node) and child.name in names]

    def child(self, *path: str) -> "Node | None":
        """Return the first child with the first name, in it the first with the second, and so on."""
        node: Node | None = self
        for name in path:
            node = next((c for c in node.children if isinstance(c, Node) and c.name == name), None) if node else None
        return node

    def below(self, *names: str) -> Iterator["Node"]:
        """Yield all elements below with one of these names, in document order; not those inside of a match."""
        for child in self.children:
            if isinstance(child, Node):
                if child.name in names:
                    yield child
                else:
                    yield from child.below(*names)

    def text(self) -> str:
        """Return all text below."""
        return "".join(child if isinstance(child, str) else child.text() for child in self.children)


def parse_xml(data: bytes) -> tuple[Node, str]:
    """Return (root, problem): the tree of a part, as far as it can be read, and what is wrong or "".

    Of alternatives (`mc:AlternateContent`) the first is kept. The root has no children if nothing can be read.
    """
    builder, error = _parse(data)
    if error is None:
        return builder.root, ""
    repaired, second = _parse(clean_xml(data))
    if second is None:
        return repaired.root, ""
    return repaired.root, f"damaged ({second}): what stands after the fault is missing"


def clean_xml(data: bytes) -> bytes:
    """Return the text of a part as UTF-8 without what XML does not allow: other characters, bare ampersands, DTDs."""
    text = _decoded(data)
    text = _DOCTYPE.sub("", _LABEL.sub("", text), count=1)
    text = _BAD_REFERENCE.sub("\ufffd", _NOT_XML.sub("", text))
    return _BARE_AMPERSAND.sub("&amp;", text).strip().encode()


def has_doctype(data: bytes) -> bool:
    """Return whether a part declares a type of document, as no office program does."""
    return b"<!DOCTYPE" in data[:4096] or b"<\0!\0D\0O\0C\0" in data[:8192] or b"\0<\0!\0D\0O\0C" in data[:8192]


def local_name(name: str) -> str:
    """`{namespace}p` -> `p`, `w:p` -> `p`."""
    return name.rpartition("}")[2].rpartition(":")[2]


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    label = re.match(rb"\s*<\?xml[^>]*encoding\s*=\s*[\"']([\w.-]{1,40})", data)
    try:
        return data.decode(label[1].decode() if label else "utf-8-sig", errors="replace").removeprefix("\ufeff")
    except LookupError:
        return data.decode("utf-8", errors="replace")


def _parse(data: bytes) -> tuple["Builder", str | None]:
    builder = Builder()
    if has_doctype(data):
        return builder, "it declares a type of document"
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        return builder, str(error)
    return builder, None


class Builder:
    """Takes the events of a parser and makes a tree of them."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Begin a new tree."""
        self.root = Node("", {})
        self._open = [self.root]
        self._depths = [0]
        self._skip = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take a start tag."""
        parent = self._open[-1]
        code = self._named(name)
        if (
            self._skip
            or (code == "mc:Fallback" and parent.all("mc:Choice"))
            or (code == "mc:Choice" and parent.all("mc:Choice"))
        ):
            self._skip += 1
            return
        node = Node(code, {self._attribute(key): value for key, value in attributes.items()})
        if not self.root.name and len(self._open) == 1:
            self.root.name, self.root.attributes = node.name, node.attributes
            node = self.root
        depth = self._depths[-1] + 1
        if depth > _MAX_DEPTH:  # those that read the tree are recursive: what is deeper follows what is around it
            parent, depth = self._open[3], 4
        if node is not self.root:
            parent.children.append(node)
        self._open.append(node)
        self._depths.append(depth)

    def end(self, _: str) -> None:
        """Take an end tag."""
        if self._skip:
            self._skip -= 1
        else:
            self._open.pop()
            self._depths.pop()

    def text(self, text: str) -> None:
        """Take text."""
        if not self._skip:
            self._open[-1].children.append(text.replace("\ufdd0", ""))

    def _attribute(self, name: str) -> str:
        code = self._named(name)
        prefix, colon, local = code.partition(":")
        return local if colon and prefix in _UNPREFIXED else code

    def _named(self, name: str) -> str:
        if (code := self._codes.get(name)) is None:
            space, bracket, local = name.rpartition("}")
            prefix = next((short for part, short in _CODES if part in space), "x") if bracket else ""
            code = self._codes[name] = f"{prefix}:{local}" if prefix else local
        return code
