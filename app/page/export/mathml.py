"""Formulas as MathML, which browsers set without a script.

The converter puts the text of a formula into its result as it is, so only elements and attributes of MathML are taken
from it; a formula of which it makes anything else stays as its source.
"""

from __future__ import annotations

from inspect import isclass
from xml.etree import ElementTree

from latex2mathml import converter, exceptions

from app.page.markup import escape, tag

_NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
_ELEMENTS = frozenset(
    {
        "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "ms", "mfrac", "msqrt", "mroot", "mstyle",
        "mpadded", "mphantom", "mfenced", "menclose", "msub", "msup", "msubsup", "munder", "mover",
        "munderover", "mmultiscripts", "mprescripts", "none", "mtable", "mtr", "mtd", "mlabeledtr", "maction",
        "merror",
    }
)  # fmt: skip
_ATTRIBUTES = frozenset(
    {
        "display", "mathvariant", "displaystyle", "scriptlevel", "stretchy", "fence", "separator", "form",
        "largeop", "movablelimits", "accent", "accentunder", "lspace", "rspace", "minsize", "maxsize",
        "symmetric", "linethickness", "bevelled", "columnalign", "rowspacing", "columnspacing", "columnlines",
        "rowlines", "width", "height", "depth", "voffset", "notation",
    }
)  # fmt: skip
_ERRORS: tuple[type[Exception], ...] = (
    *(each for each in vars(exceptions).values() if isclass(each) and issubclass(each, Exception)),
    ElementTree.ParseError,
    RecursionError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)
"""What the converter raises for a formula that it does not understand: its own errors, and accidents."""


def formula_html(tex: str, *, is_display: bool) -> str:
    """A formula as MathML with its source as `alttext`; as its source where it cannot be converted.

    tex: without the signs around it. is_display: whether it stands on a line of its own.
    """
    try:
        made = converter.convert(tex, display="block" if is_display else "inline")
        shown = _element(ElementTree.fromstring(made))
    except _ERRORS:
        return tag("code", escape(tex), class_="formula")
    return shown.replace("<math", f'<math alttext="{escape(tex)}"', 1)


def _element(element: ElementTree.Element) -> str:
    """The HTML of an element and what is in it. Raises ValueError for what is no MathML."""
    name = element.tag.removeprefix(_NAMESPACE)
    text = (element.text or "").strip()
    if name not in _ELEMENTS or text.startswith("\\"):
        raise ValueError(f"{name} {text[:20]} is no MathML")
    attributes = {key: value for key, value in element.attrib.items() if key in _ATTRIBUTES}
    return tag(name, escape(element.text or ""), *map(_element, element), **attributes)
