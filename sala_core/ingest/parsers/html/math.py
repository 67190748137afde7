"""Formulas and raised or lowered text as one line of plain text: `F = 6x`, `10⁶`, `x_(max)`, `(a + b)/c`."""

import re
from collections.abc import Callable

from .tree import Element

_SUPERSCRIPTS = dict(
    zip(
        "0123456789+-−=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVW",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂ",
        strict=True,
    )
)
_SUBSCRIPTS = dict(zip("0123456789+-−=()aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
_INSIDE_BRACKETS = re.compile(r"\[[^\[\]]*\]|\{[^{}]*\}")
# operators without a space on either side
_TIGHT = frozenset("()[]{}|‖!,;:./'′″°%^_~\u2061\u2062\u2063\u2064⟨⟩⌈⌉⌊⌋")
_SIGNS = frozenset("+-−±∓")
_INVISIBLE = re.compile("[\u2061-\u2064\u200b]")
_SPACE = re.compile(r"\s+")
_TEX_STYLE = re.compile(r"\{?\s*\\(?:display|text)style\s*(.*?)\s*\}?", re.DOTALL)
_GROUPS = frozenset({"mpadded", "mrow", "mstyle"})
_CONTENT = frozenset({"apply", "bind", "ci", "cn", "csymbol", "matrix", "vector"})
_ZERO = re.compile(r"\s*0(?:\.0*)?(?:[a-z%]+)?\s*$")
_UNSEEN = frozenset({"annotation", "annotation-xml", "maligngroup", "malignmark", "mphantom", "none"})


def raised(text: str) -> str:
    """Return `text` as a superscript: in Unicode's characters if all have one, otherwise as `^(text)`."""
    return _shifted(text, _SUPERSCRIPTS, "^")


def lowered(text: str) -> str:
    """Return `text` as a subscript: in Unicode's characters if all have one, otherwise as `_(text)`."""
    return _shifted(text, _SUBSCRIPTS, "_")


def _shifted(text: str, characters: dict[str, str], mark: str) -> str:
    text = text.strip()
    if all(char in characters for char in text):
        return "".join(characters[char] for char in text)
    # [12] of a reference, * and ™ cannot be taken for a part of the word before them
    if not any(char.isalnum() for char in text) or _INSIDE_BRACKETS.fullmatch(text):
        return text
    return f"{mark}({text})"


def formula(math: Element) -> str:
    """Return a `math` element as text: its author's TeX if it holds any, otherwise what it shows, once."""
    if tex := _tex(math):
        return tex
    shown = _SPACE.sub(" ", _row(math)).strip()
    return shown or _untangled(math.get("alttext"))


def _tex(element: Element) -> str:
    for child in element.children:
        if isinstance(child, Element):
            if child.name == "annotation" and "tex" in child.get("encoding").lower():
                return _untangled(child.text())
            if found := _tex(child):
                return found
    return ""


def _untangled(tex: str) -> str:
    """TeX on one line, without the style around it."""
    tex = _SPACE.sub(" ", tex).strip()
    if (match := _TEX_STYLE.fullmatch(tex)) and match[1].count("{") == match[1].count("}"):
        return match[1]
    return tex


def _row(element: Element) -> str:
    """The children of an element one after the other. 3 before 1/2 is not 31/2, sin before x not sinx."""
    row, is_name = "", False
    for child in element.children:
        piece = _piece(child)
        if isinstance(child, Element) and _is_stack(child):
            piece = _stacked(child, is_choice=row.endswith("("))
        was_name, is_name = is_name, isinstance(child, Element) and _stands_apart(child, piece)
        if piece.strip() in _SIGNS and (not row.strip() or row.endswith((" ", "("))):
            piece = piece.strip()
        elif row[-1:].isalnum() and piece[:1].isalnum() and (is_name or was_name or piece[0].isdigit()):
            row += " "
        row += piece
    return row


def _stands_apart(element: Element, piece: str) -> bool:
    """Whether a letter or digit beside it would seem to belong to it: `sin x`, `1/2 x`, `√x y`."""
    if element.name in ("mi", "mtext"):
        return len(piece) > 1
    if element.name in ("mfrac", "msqrt", "mroot", "menclose"):
        return True
    children = [child for child in element.children if isinstance(child, Element)]
    return element.name in _GROUPS and len(children) == 1 and _stands_apart(children[0], piece)


def _is_stack(element: Element) -> bool:
    """Whether it is a fraction without a line: a binomial coefficient, or conditions one below the other."""
    return element.name == "mfrac" and _ZERO.match(element.get("linethickness")) is not None


def _stacked(element: Element, *, is_choice: bool) -> str:
    parts = [_piece(child).strip() for child in element.children if isinstance(child, Element)]
    return (" choose " if is_choice else "; ").join(parts)


def _piece(node: Element | str) -> str:
    if isinstance(node, str):
        return _INVISIBLE.sub("", _SPACE.sub(" ", node)) if node.strip() else ""
    name = node.name
    if name in _UNSEEN:
        return ""
    if name == "mo":
        return _operator(node)
    if _is_stack(node):
        return _stacked(node, is_choice=False)
    if shape := _SHAPES.get(name):
        parts = [_piece(child).strip() for child in node.children if isinstance(child, Element)]
        parts += [""] * (3 - len(parts))
        loose = "".join(child for child in node.children if isinstance(child, str)).strip()
        return loose + shape(parts)
    match name:
        case "msqrt":
            return f"√{grouped(_row(node))}"
        case "menclose":
            return _enclosed(node)
        case "maction":
            return _selected(node)
        case "semantics":
            return _meant(node)
        case "mspace":
            return " "
        case "mtable":
            rows = "; ".join(filter(None, (_piece(child).strip() for child in node.children)))
            return f"[{rows}]"
        case "mtr" | "mlabeledtr":
            return ", ".join(_row(child).strip() for child in node.children if isinstance(child, Element))
        case "ms":
            return f'"{_row(node)}"'
        case "mfenced":
            opening, closing = node.attributes.get("open", "("), node.attributes.get("close", ")")
            separator = node.attributes.get("separators", ",").strip()[:1] + " "
            return opening + separator.join(filter(None, (_piece(child).strip() for child in node.children))) + closing
        case "mmultiscripts":
            return _scripts(node)
        case "mglyph" | "img":
            return node.get("alt")
    return _row(node)


def _enclosed(node: Element) -> str:
    """A root, or something struck out; frames and circles are left out."""
    notation = node.get("notation")
    if "radical" in notation:
        return f"√{grouped(_row(node))}"
    return f"~~{_row(node).strip()}~~" if "strike" in notation else _row(node)


def _selected(node: Element) -> str:
    """The one of several expressions that is shown at first."""
    children = [child for child in node.children if isinstance(child, Element)]
    number = int(node.get("selection")) if node.get("selection").isdecimal() else 1
    return _piece(children[min(number, len(children)) - 1]) if children and number else ""


def _meant(node: Element) -> str:
    """An expression without its annotations; of one in Content MathML the annotation that shows it."""
    children = [child for child in node.children if isinstance(child, Element)]
    if children and children[0].name in _CONTENT:
        for child in children[1:]:
            if child.name == "annotation-xml" and "presentation" in child.get("encoding").lower():
                return _row(child)
    return _row(node)


def _scripts(node: Element) -> str:
    """Scripts after the base, and before it those that follow `mprescripts`: ¹⁴₆C."""
    before = after = ""
    children = [child for child in node.children if isinstance(child, Element)]
    is_before, is_low = False, True
    for child in children[1:]:
        if child.name == "mprescripts":
            is_before, is_low = True, True
            continue
        script = (lowered if is_low else raised)(_piece(child))
        before, after = (before + script, after) if is_before else (before, after + script)
        is_low = not is_low
    return before + (_piece(children[0]).strip() if children else "") + after


def _operator(node: Element) -> str:
    text = _INVISIBLE.sub("", node.text()).strip()
    if not text or text in _TIGHT or node.get("form") == "prefix":
        return text + " " if text in (",", ";") else text
    return f" {text} "


def grouped(text: str) -> str:
    """Return the text, in parentheses if it is more than one number or name."""
    text = text.strip()
    is_one = text.replace(".", "").isalnum() or (text.startswith("(") and text.endswith(")") and text.count("(") == 1)
    return text if is_one else f"({text})"


def _base(text: str) -> str:
    return text if not any(char in text for char in " /") else grouped(text)


_SHAPES: dict[str, Callable[[list[str]], str]] = {
    "mfrac": lambda p: f"{grouped(p[0])}/{grouped(p[1])}",
    "mroot": lambda p: f"{raised(p[1])}√{grouped(p[0])}",
    "msup": lambda p: _base(p[0]) + raised(p[1]),
    "msub": lambda p: _base(p[0]) + lowered(p[1]),
    "msubsup": lambda p: _base(p[0]) + lowered(p[1]) + raised(p[2]),
    "munder": lambda p: p[0] + lowered(p[1]) + " ",
    "mover": lambda p: _base(p[0]) + (raised(p[1]) if p[1].isalnum() else p[1]),
    "munderover": lambda p: p[0] + lowered(p[1]) + raised(p[2]) + " ",
}
