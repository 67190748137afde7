"""Formulas of Office (OMML, ECMA-376 part 1, section 22.1) as MathML, so that they read as those of web pages do."""

from ..html.tree import Element
from .render import element
from .symbols import symbol
from .xml_tree import Node

_ACCENTS = {
    "\u0302": "^", "\u0303": "~", "\u0304": "\u0304", "\u0305": "\u0304", "\u0307": "\u0307", "\u0308": "\u0308",
    "\u20d7": "→", "\u20d6": "←", "\u0301": "´", "\u0300": "`", "\u030c": "ˇ",
}  # fmt: skip
_PROPERTIES = frozenset(
    {
        "ctrlPr", "rPr", "accPr", "barPr", "boxPr", "borderBoxPr", "dPr", "eqArrPr", "fPr", "funcPr", "groupChrPr",
        "limLowPr", "limUppPr", "mPr", "naryPr", "phantPr", "radPr", "sPrePr", "sSubPr", "sSubSupPr", "sSupPr",
        "oMathParaPr", "argPr",
    }
)  # fmt: skip
_OPERATORS = frozenset("+-−±∓×÷·∙∗*=≠<>≤≥≈≡≅∼∝→←↔⇒⇐⇔∈∉⊂⊆∪∩∧∨,;:()[]{}|!/′∑∏∫∂")


def math_element(node: Node) -> Element:
    """Return an `m:oMath` as a `math` element."""
    return element("math", *_many(node.children))


def _many(children: list[Node | str]) -> list[Element | str]:
    made: list[Element | str] = []
    for child in children:
        if isinstance(child, Node) and child.name.partition(":")[2] not in _PROPERTIES:
            made += _made(child)
    return made


def _row(node: Node | None) -> Element:
    return element("mrow", *(_many(node.children) if node else []))


def _made(node: Node) -> list[Element | str]:
    name = node.name.partition(":")[2]
    if node.name in ("m:r", "w:r"):
        return _run(node)
    part = node.child
    row = _row
    match name:
        case "f":
            top, bottom = row(part("m:num")), row(part("m:den"))
            kind = _value(node, "m:fPr", "m:type")
            if kind == "noBar":
                return [element("mfenced", element("mtable", element("mtr", top), element("mtr", bottom)))]
            return [element("mfrac", top, bottom)]
        case "sSup":
            return [element("msup", row(part("m:e")), row(part("m:sup")))]
        case "sSub":
            return [element("msub", row(part("m:e")), row(part("m:sub")))]
        case "sSubSup":
            return [element("msubsup", row(part("m:e")), row(part("m:sub")), row(part("m:sup")))]
        case "sPre":
            scripts = element("mprescripts")
            return [element("mmultiscripts", row(part("m:e")), scripts, row(part("m:sub")), row(part("m:sup")))]
        case "rad":
            degree = row(part("m:deg"))
            if _is_on(node, "m:radPr", "m:degHide") or not degree.children:
                return [element("msqrt", row(part("m:e")))]
            return [element("mroot", row(part("m:e")), degree)]
        case "d":
            return [_fenced(node)]
        case "nary":
            return _nary(node)
        case "func":
            return [row(part("m:fName")), element("mspace"), row(part("m:e"))]
        case "limLow":
            return [element("munder", row(part("m:e")), row(part("m:lim")))]
        case "limUpp":
            return [element("mover", row(part("m:e")), row(part("m:lim")))]
        case "acc":
            mark = _value(node, "m:accPr", "m:chr") or "\u0302"
            return [element("mover", row(part("m:e")), element("mtext", _ACCENTS.get(mark, mark)))]
        case "bar":
            return [element("mover", row(part("m:e")), element("mtext", "\u0304"))]
        case "groupChr":
            mark = _value(node, "m:groupChrPr", "m:chr")
            return [row(part("m:e")), *([element("mtext", mark)] if mark and mark not in "⏞⏟" else [])]
        case "m":
            rows = [
                element("mtr", *(element("mtd", *_many(e.children)) for e in r.all("m:e"))) for r in node.all("m:mr")
            ]
            return [element("mtable", *rows)]
        case "eqArr":
            return [element("mtable", *(element("mtr", row(e)) for e in node.all("m:e")))]
        case "phant" if not _is_on(node, "m:phantPr", "m:show", default=True):
            return []
        case "t" | "delText":
            return [node.text()]
    return _many(node.children)


def _run(node: Node) -> list[Element | str]:
    """The characters of a run as operators, numbers and names."""
    texts = [t.text() if t.name != "w:sym" else _symbol(t) for t in node.all("m:t", "w:t", "w:sym", "w:delText")]
    if node.child("m:rPr", "m:nor"):
        return [element("mtext", text) for text in texts]
    made: list[Element | str] = []
    for word in _words("".join(texts)):
        if word in _OPERATORS:
            made.append(element("mo", word))
        elif word[0].isdigit():
            made.append(element("mn", word))
        elif word.isspace():
            made.append(element("mspace"))
        else:
            made.append(element("mi" if len(word) == 1 else "mtext", word))
    return made


def _words(text: str) -> list[str]:
    """Numbers whole, names whole, operators one by one."""
    words: list[str] = []
    kinds: list[str] = []
    for char in text:
        kind = "o" if char in _OPERATORS else "s" if char.isspace() else "n" if char.isdigit() or char == "." else "a"
        if char == "," and kinds and kinds[-1] == "n":
            kind = "o"
        if words and kinds[-1] == kind and kind in "nas":
            words[-1] += char
        else:
            words.append(char)
            kinds.append(kind)
    return words


def _symbol(node: Node) -> str:
    return symbol(node.get("font"), node.get("char"))


def _fenced(node: Node) -> Element:
    opening = _value(node, "m:dPr", "m:begChr", "(")
    closing = _value(node, "m:dPr", "m:endChr", ")")
    separator = _value(node, "m:dPr", "m:sepChr", "|")
    inner: list[Element | str] = []
    for index, child in enumerate(node.all("m:e")):
        inner += [element("mtext", separator)] if index else []
        inner.append(_row(child))
    return element("mrow", element("mtext", opening), *inner, element("mtext", closing))


def _nary(node: Node) -> list[Element | str]:
    sign = element("mtext", _value(node, "m:naryPr", "m:chr", "∫"))
    low, high = _row(node.child("m:sub")), _row(node.child("m:sup"))
    body = _row(node.child("m:e"))
    if low.children and high.children:
        head = element("munderover", sign, low, high)
    elif low.children:
        head = element("munder", sign, low)
    else:
        head = element("msup", sign, high) if high.children else sign
    return [head, element("mspace"), body]


def _value(node: Node, *path: str) -> str:
    """The value of a property. The last of `path` is the default if it is no name."""
    default = ""
    if not path[-1].startswith("m:"):
        *names, default = path
        path = tuple(names)
    found = node.child(*path)
    return found.get("val", default) if found else default


def _is_on(node: Node, *path: str, default: bool = False) -> bool:
    found = node.child(*path)
    return found.get("val", "1") not in ("0", "off", "false") if found else default
