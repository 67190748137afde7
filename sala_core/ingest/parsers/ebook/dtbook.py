"""Talking books (DTBook, ANSI/NISO Z39.86): their elements by the names that HTML has for them."""

import re

_NAMES = {
    "annoref": "sup", "author": "div", "bodymatter": "section", "book": "div", "bridgehead": "p", "byline": "p",
    "caption": "figcaption", "dateline": "p", "docauthor": "p", "doctitle": "h1", "dtbook": "html",
    "epigraph": "blockquote", "frontmatter": "section", "hd": "p", "imggroup": "figure", "lic": "span", "line": "div",
    "linegroup": "section", "noteref": "sup", "note": "aside", "poem": "section", "prodnote": "div",
    "rearmatter": "section",
    "sidebar": "aside", "annotation": "aside", "title": "cite",
}  # fmt: skip
_TAG = re.compile(
    rf"(</?)(?:\w+:)?({'|'.join(_NAMES)}|level[1-6]?|list)(?=[\s/>])((?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*+)>"
)
_PAGE_NUMBER = re.compile(r"<(?:\w+:)?pagenum\b[^<>]*(?:/>|>[^<>]{0,20}</(?:\w+:)?pagenum\s*>)")
_HEAD = re.compile(r"<head\b.*?</head\s*>", re.DOTALL)
_ORDERED = re.compile(r"""\btype\s*=\s*["']ol["']""")
_KIND = re.compile(r"""\btype\s*=\s*["']\w+["']""")
_ENUM = re.compile(r"""\benum\s*=\s*(["'][1aAiI]["'])""")


def dtbook_to_html(markup: str) -> str:
    """Return a DTBook as XHTML. The numbers of printed pages are left out: they stand inside of sentences."""
    markup = _PAGE_NUMBER.sub("", _HEAD.sub("", markup, count=1))
    open_lists: list[str] = []

    def renamed(match: re.Match[str]) -> str:
        mark, name, attributes = match.groups()
        if name.startswith("level"):
            return f"{mark}section{attributes}>"
        if name != "list":
            return f"{mark}{_NAMES[name]}{attributes}>"
        if mark == "</":
            return f"</{open_lists.pop() if open_lists else 'ul'}>"
        open_lists.append("ol" if _ORDERED.search(attributes) else "ul")
        attributes = _ENUM.sub(r"type=\1", _KIND.sub("", attributes))
        return f"<{open_lists[-1]}{attributes}>"

    return _TAG.sub(renamed, markup)
