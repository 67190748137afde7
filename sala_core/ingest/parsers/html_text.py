"""HTML and XHTML to readable text. Keeps the block structure; drops scripts, styles and navigation."""

import re
import warnings
from collections import Counter
from collections.abc import Iterator

from bs4 import BeautifulSoup, UnicodeDammit, XMLParsedAsHTMLWarning
from bs4.element import PageElement, PreformattedString, Tag

from .result import Parsed, ParseError, ParseLimits, normalize_text

_DROPPED = {
    "audio", "button", "canvas", "datalist", "embed", "head", "iframe", "input", "map", "math", "noscript",
    "object", "script", "select", "style", "svg", "template", "textarea", "title", "video",
}  # fmt: skip
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_PARAGRAPHS = _HEADINGS | {
    "article", "blockquote", "dl", "figure", "hr", "ol", "p", "pre", "section", "table", "ul",
}  # fmt: skip
_BLOCKS = _PARAGRAPHS | {
    "address", "aside", "body", "caption", "center", "dd", "details", "dialog", "div", "dt", "fieldset",
    "figcaption", "footer", "form", "header", "hgroup", "html", "li", "main", "menu", "summary", "tbody",
    "tfoot", "thead", "tr",
}  # fmt: skip
_SPACE = re.compile(r"[ \t\n\r\v\f\u00a0\u200b]+")
_DROPPED_ROLES = {"navigation", "search", "menu", "menubar", "toolbar"}


class _Writer:
    """Collects text. Collapses white space like a browser, and leaves at most one empty line between blocks."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._newlines = 2  # at the end of the output; its start counts as an empty line
        self._space = False
        self._mark = ""  # "- " of a list item or "# " of a heading, written before the next words

    def words(self, text: str) -> None:
        """Add running text. White space at its ends becomes one space, except at the start and end of a line."""
        collapsed = _SPACE.sub(" ", text)
        if collapsed.startswith(" "):
            self._space = True
        if not (collapsed := collapsed.strip(" ")):
            return
        if self._space and not self._newlines:
            self._pieces.append(" ")
        self._pieces += (self._mark, collapsed)
        self._newlines = 0
        self._mark = ""
        self._space = _SPACE.match(text[-1]) is not None

    def verbatim(self, text: str) -> None:
        """Add the text of a `pre` block unchanged, except for a newline at its start."""
        text = normalize_text(text)
        text = text.removeprefix("\n") if self._newlines else text
        if text:
            self._pieces += (self._mark, text)
            self._newlines = min(len(text) - len(text.rstrip("\n")), 2)
            self._space = False
            self._mark = ""

    def mark(self, mark: str) -> None:
        """Write this mark before the next words, also if they are in a block of their own. "" cancels the mark."""
        self._mark = mark

    def cell(self) -> None:
        """Begin a table cell: separate it from the one before it in the same line."""
        if not self._newlines:
            self.words(" | ")

    def line(self, newlines: int = 1) -> None:
        """End the line. newlines=2 also leaves an empty line."""
        if self._newlines < newlines:
            self._pieces.append("\n" * (newlines - self._newlines))
            self._newlines = newlines
        self._space = False

    def line_break(self) -> None:
        """End the line; if it has ended already, leave one empty line."""
        self.line(min(self._newlines + 1, 2))

    def result(self) -> str:
        """Return all text, with one newline at the end."""
        text = "".join(self._pieces).strip("\n")
        return text + "\n" if text else ""


def html_to_text(data: bytes, *, drop_navigation: bool = True) -> str:
    """Return the readable text of an HTML or XHTML file in any encoding.

    Headings get Markdown's `#` marks, list items a dash; table cells are separated by ` | `. drop_navigation: also
    drop `nav` elements and navigation roles, and use the page's title as heading if it has no `h1`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        soup = BeautifulSoup(_decode(data), "html.parser")
    writer = _Writer()
    title = soup.find("title")
    if drop_navigation and title and not soup.find("h1"):
        writer.words("# " + title.get_text())
        writer.line(2)
    num_open: Counter[str] = Counter()
    for node, entering in _events(soup, drop_navigation):
        if isinstance(node, Tag):
            _write_tag(writer, node.name, entering, num_open)
            num_open[node.name] += 1 if entering else -1
        elif isinstance(node, PreformattedString):  # comments and declarations
            continue
        elif num_open["pre"]:
            writer.verbatim(str(node))
        else:
            writer.words(str(node))
    return normalize_text(writer.result())


def parse_html(path: str, limits: ParseLimits) -> Parsed:
    """Return the readable text of a file. Raises ParseError if there is none or the file is too large."""
    with open(path, "rb") as file:
        data = file.read(limits.max_text_bytes + 1)
    if len(data) > limits.max_text_bytes:
        raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of HTML")
    text = html_to_text(data)
    if not text:
        raise ParseError("no readable text in it")
    return Parsed(text=text)


def _decode(data: bytes) -> str:
    """Decode as UTF-8 if the bytes are valid, otherwise as the file declares or bs4 detects."""
    if b"\0" not in data and b"\x1b" not in data:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    return UnicodeDammit(data, is_html=True).unicode_markup or data.decode("latin-1")


def _events(soup: Tag, drop_navigation: bool) -> Iterator[tuple[PageElement, bool]]:
    """Yield (node, entering) in document order; a tag comes twice. Not recursive, because nesting has no limit."""
    stack: list[tuple[Tag, Iterator[PageElement]]] = [(soup, iter(soup.contents))]
    while stack:
        tag, children = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            yield tag, False
        elif not isinstance(child, Tag):
            yield child, True
        elif not _is_dropped(child, drop_navigation):
            yield child, True
            stack.append((child, iter(child.contents)))


def _is_dropped(tag: Tag, drop_navigation: bool) -> bool:
    name = tag.name
    if name == "nav" or tag.get("role") in _DROPPED_ROLES:
        return drop_navigation
    return name in _DROPPED or tag.has_attr("hidden") or tag.get("aria-hidden") == "true"


def _write_tag(writer: _Writer, name: str, entering: bool, num_open: Counter[str]) -> None:
    """Write the line breaks and marks of a tag's start or end. num_open: name -> number of open tags around it."""
    if name == "br":
        if entering:
            writer.line_break()
    elif name in ("td", "th"):
        if entering:
            writer.cell()
    elif name in _BLOCKS:
        is_nested_list = name in ("ul", "ol") and num_open["li"] > 0
        is_in_item = name == "p" and num_open["li"] + num_open["td"] + num_open["th"] > 0
        writer.line(2 if name in _PARAGRAPHS and not is_nested_list and not is_in_item else 1)
        if name == "li":
            writer.mark("- " if entering else "")
        elif name in _HEADINGS:
            writer.mark("#" * int(name[1]) + " " if entering else "")
