"""What attributes and styles say about an element: formulas, superscripts, lines, cells, navigation."""

import re
from typing import Literal

from .elements import BLOCKS, HEADINGS, IN_TABLE
from .tree import Element

Meaning = Literal[
    "", "apart", "box", "cell", "control", "deleted", "denominator", "flex", "formula", "heading", "item", "line",
    "lines", "lowered", "navigation", "number",
    "preformatted", "raised", "row", "typeset", "unseen",
]  # fmt: skip

_CONTROL_ROLES = frozenset({"button", "menuitem", "option", "tab"})
_NAVIGATION_ROLES = frozenset({"navigation", "search"})
_ROLES: dict[str, Meaning] = {
    "cell": "cell", "gridcell": "cell", "columnheader": "cell", "rowheader": "cell", "row": "row",
    "deletion": "deleted", "heading": "heading", "listitem": "item", "checkbox": "box", "radio": "box",
    "switch": "box", "menuitemcheckbox": "box", "menuitemradio": "box", "doc-pagebreak": "unseen",
}  # fmt: skip
# searched in the attributes before they are parsed
_NOTABLE = (
    "katex", "mathjax", "mjx", "mwe-math", "material-", "noteref", "footnote", "role", "hidden", "pagebreak", "page-n",
    "pagen", "script", "sidenote", "marginnote", "tooltip", "sortkey", "editsection", "den", "frac", "line",
    "nosnippet",
)  # fmt: skip
_FORMULAS = ("katex", "mathjax", "mjx", "mwe")
_STYLED = re.compile(r"vertical-align|line-through|white-space|display|position")
_PRESERVED = re.compile(r"white-space(?:-collapse)?\s*:\s*(?:pre(?:-wrap|serve)?\s*(?:;|!|$|nowrap|wrap)|break-spaces)")
_LINES = re.compile(r"white-space(?:-collapse)?\s*:\s*(?:pre-line|preserve-breaks)")
_SHIFT = re.compile(r"vertical-align\s*:\s*(super|sub\b|-?[\d.]+(?:em|ex|px|pt|rem|%))")
_SMALLER = re.compile(
    r"font-size\s*:\s*(?:small|x-small|xx-small|smaller|0?\.\d+r?em|[1-9]?\d(?:\.\d+)?%|[1-9](?:\.\d+)?p[tx])"
)
_MOVED = re.compile(r"(?<![\w-])top\s*:\s*(-?)0*\.?[1-9][\d.]*(?:em|ex|px|pt|%)")
_DISPLAY = re.compile(r"display\s*:\s*([a-z-]+)")
_DISPLAYS: dict[str, Meaning] = {
    "block": "line", "flow-root": "line", "list-item": "line", "table": "line", "flex": "flex", "grid": "flex",
    "inline-flex": "flex", "inline-grid": "flex", "table-row": "row", "table-cell": "cell", "none": "apart",
}  # fmt: skip
_INLINE = frozenset(
    {
        "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "dfn", "em", "font", "i", "ins", "kbd", "label", "mark",
        "samp", "small", "span", "strong", "time", "tt", "u", "var",
    }
)  # fmt: skip
_PAGE_NUMBER = re.compile(r"\W*(?:pg|page|p|seite|s)?\W*(?:\d{1,4}|[ivxlcdm]{1,8})\W*", re.IGNORECASE)
_MAX_PAGE_CHARS = 40
_LINE_NUMBER = re.compile(r"\b(?:linenos?|line-?num(?:ber)?s?)\b")
_NOTE = re.compile(r"\b(?:sidenote|marginnote|tooltip(?:-?text)?|footnote(?:-?text)?)\b")


def meaning(element: Element, style: str, *, has_tex_scripts: bool) -> Meaning:
    """Return what the attributes and the style of an element say, "" if its name alone decides.

    Args:
        element: the element.
        style: all declarations that hold for it, in lower case.
        has_tex_scripts: the page has scripts that hold formulas.

    apart: words that do not belong to the word beside them. box: a checkbox drawn by a script. formula: one `math`
    element, perhaps set a second time by KaTeX, MathJax or MediaWiki. line: it begins and ends a line. lines: its line
    breaks are kept. number: the number of a line of code. unseen: it repeats a formula that stands in a script beside
    it, names a symbol in a font of pictures, or is the number of a page of the printed book.
    """
    raw = element.raw_attributes.lower()
    for word in _NOTABLE:
        if word in raw:
            if found := _by_attributes(element, raw, has_tex_scripts):
                return found
            break
    return _by_style(element, style) if style and _STYLED.search(style) else ""


def _by_attributes(element: Element, raw: str, has_tex_scripts: bool) -> Meaning:
    role = element.get("role")
    if role in _NAVIGATION_ROLES:
        return "navigation"
    if role in _CONTROL_ROLES and element.name in ("a", "span"):
        return "control"
    classes = element.get("class")
    if any(word in raw for word in _FORMULAS):
        found: Meaning = "unseen" if "MathJax" in classes and has_tex_scripts else _formula(element)
        if found:
            return found
    if "material-icons" in classes or "material-symbols" in classes or "mw-editsection" in classes.split():
        return "unseen"
    epub_type = element.get("epub:type")
    if "pagebreak" in epub_type or role == "doc-pagebreak" or re.search(r"\bpage-?n(?:um|o)", classes):
        text = element.text()
        return "unseen" if len(text) <= _MAX_PAGE_CHARS and _PAGE_NUMBER.fullmatch(text) else ""
    if element.name in ("sup", "sub", "pre", "textarea"):
        return ""
    if element.name == "a" and ("noteref" in epub_type or role == "doc-noteref" or "footnote-ref" in classes):
        return "raised"
    if (by_role := _ROLES.get(role)) and _may_be(element.name, by_role):
        return by_role
    return _by_class(element, classes, epub_type)


def _may_be(name: str, role: Meaning) -> bool:
    """Whether a role says more than the element's name."""
    if role in ("cell", "row"):
        return name not in IN_TABLE
    if role == "heading":
        return name not in HEADINGS
    return name not in ("input", "li")


def _by_class(element: Element, classes: str, epub_type: str) -> Meaning:
    if element.name not in _INLINE:
        return ""
    names = classes.lower().split()
    if "sortkey" in names:
        return "unseen"
    if "superscript" in names or "subscript" in names:
        return "raised" if "superscript" in names else "lowered"
    if not {"den", "denom", "denominator"}.isdisjoint(names):
        return "denominator"
    is_counted = _LINE_NUMBER.search(classes) or (element.name == "a" and "data-nosnippet" in element.attributes)
    if is_counted and element.text().strip().isdecimal():
        return "number"
    if not {"frac", "sfrac", "fraction"}.isdisjoint(names):
        return "apart"
    if element.name != "a" and (_NOTE.search(classes) or "footnote" in epub_type or "hidden" in element.attributes):
        return "apart"
    return ""


def _by_style(element: Element, style: str) -> Meaning:
    name = element.name
    if name in ("sup", "sub", "pre", "textarea"):
        return ""
    if name in _INLINE or name in ("del", "s", "q"):
        if name in _INLINE and (shift := _shift(style)):
            return shift
        if "line-through" in style and name not in ("del", "s") and "text-decoration" in style:
            return "deleted"
    if _PRESERVED.search(style):
        return "preformatted"
    if _LINES.search(style):
        return "lines"
    displays = _DISPLAY.findall(style)
    display = _DISPLAYS.get(displays[-1], "") if displays else ""
    if display in ("cell", "row"):
        return display if name not in IN_TABLE else ""
    if display == "flex":
        return "flex" if name in BLOCKS or name in _INLINE else ""
    # scripts show what is hidden: no part of the word beside it, and of a block only the place is another
    return display if name in _INLINE else ""


def _shift(style: str) -> Meaning:
    if shift := _SHIFT.search(style):
        if shift[1] in ("super", "sub"):
            return "raised" if shift[1] == "super" else "lowered"
        if _SMALLER.search(style) and any(digit in "123456789" for digit in shift[1]):
            return "lowered" if shift[1].startswith("-") else "raised"
    if "position" in style and "relative" in style and _SMALLER.search(style) and (moved := _MOVED.search(style)):
        return "raised" if moved[1] else "lowered"
    return ""


def _formula(element: Element) -> Meaning:
    if element.name == "math":
        return ""
    if not element.find("math"):
        is_set = "katex-html" in element.get("class").split() or element.name == "mjx-container"
        return "typeset" if is_set else ""
    # a whole article, not one formula
    return "" if element.find("p", "div", "li", "td", "h1", "h2", "h3") else "formula"
