"""What attributes say about an element: formulas, superscripts, preformatted text, navigation."""

import re
from typing import Literal

from .tree import Element

Meaning = Literal["", "control", "formula", "lowered", "navigation", "preformatted", "raised", "unseen"]

_CONTROL_ROLES = frozenset({"button", "menuitem", "option", "tab"})
_NAVIGATION_ROLES = frozenset({"navigation", "search"})
# searched in the attributes before they are parsed
_NOTABLE = re.compile(
    r"katex|mathjax|mjx|mwe-math|white-space|vertical-align|material-|noteref|role\s*=", re.IGNORECASE
)
_PRESERVED = re.compile(r"white-space\s*:\s*(?:pre|break-spaces)(?!-line)")
_SHIFT = re.compile(r"vertical-align\s*:\s*(super|sub)\b")


def meaning(element: Element, *, has_tex_scripts: bool) -> Meaning:
    """Return what the attributes of an element say, "" if its name alone decides.

    formula: it holds one `math` element, perhaps set a second time by KaTeX, MathJax or MediaWiki. unseen: it repeats
    a formula that stands in a script beside it, or names a symbol in a font of pictures. has_tex_scripts: the page has
    scripts that hold formulas.
    """
    if not (notable := element.search(_NOTABLE).lower()):
        return ""
    if element.get("role") in _NAVIGATION_ROLES:
        return "navigation"
    if element.get("role") in _CONTROL_ROLES and element.name in ("a", "span"):
        return "control"
    classes = element.get("class")
    if notable.startswith(("katex", "mathjax", "mjx", "mwe")):
        return "unseen" if "MathJax" in classes and has_tex_scripts else _formula(element)
    if "material-icons" in classes or "material-symbols" in classes:
        return "unseen"
    if element.name in ("sup", "sub", "pre", "textarea"):
        return ""
    if element.name == "a" and ("noteref" in element.get("epub:type") or element.get("role") == "doc-noteref"):
        return "raised"
    if shift := _SHIFT.search(element.get("style")):
        return "raised" if shift[1] == "super" else "lowered"
    return "preformatted" if _PRESERVED.search(element.get("style")) else ""


def _formula(element: Element) -> Meaning:
    if element.name == "math" or not element.find("math"):
        return ""
    # a whole article, not one formula
    return "" if element.find("p", "div", "li", "td", "h1", "h2", "h3") else "formula"
