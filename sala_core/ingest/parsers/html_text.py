"""HTML and XHTML to readable text: block structure kept, scripts, styles and navigation dropped."""

import re
import warnings
from collections import Counter
from collections.abc import Iterator

from bs4 import BeautifulSoup, UnicodeDammit, XMLParsedAsHTMLWarning
from bs4.element import PageElement, PreformattedString, Tag

from .result import Parsed, ParseError, ParseLimits, clean

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
    """Collects text, folding white space as a browser does, with at most one empty line between blocks."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._newlines = 2  # at the end of what is written; the start counts as an empty line
        self._space = False
        self._mark = ""  # a list's dash or a heading's mark, written before the next words

    def words(self, text: str) -> None:
        """Running text; white space at its ends is kept as one space, unless a line begins or ends there."""
        folded = _SPACE.sub(" ", text)
        if folded.startswith(" "):
            self._space = True
        if not (folded := folded.strip(" ")):
            return
        if self._space and not self._newlines:
            self._pieces.append(" ")
        self._pieces += (self._mark, folded)
        self._newlines = 0
        self._mark = ""
        self._space = _SPACE.match(text[-1]) is not None

    def verbatim(self, text: str) -> None:
        """Text of a `pre` block as it stands, but for a newline at its start."""
        text = clean(text)
        text = text.removeprefix("\n") if self._newlines else text
        if text:
            self._pieces += (self._mark, text)
            self._newlines = min(len(text) - len(text.rstrip("\n")), 2)
            self._space = False
            self._mark = ""

    def mark(self, mark: str) -> None:
        """Begin the next words with a mark, be they in a block of their own; "" drops one without words."""
        self._mark = mark

    def cell(self) -> None:
        """Part a cell of a table from the one before it in its line."""
        if not self._newlines:
            self.words(" | ")

    def line(self, newlines: int = 1) -> None:
        """End the line; `newlines` 2 leaves an empty one."""
        if self._newlines < newlines:
            self._pieces.append("\n" * (newlines - self._newlines))
            self._newlines = newlines
        self._space = False

    def line_break(self) -> None:
        """End the line, or leave one empty line where it has ended."""
        self.line(min(self._newlines + 1, 2))

    def result(self) -> str:
        """All that was written, ending in one newline."""
        text = "".join(self._pieces).strip("\n")
        return text + "\n" if text else ""


def html_to_text(data: bytes, *, drop_navigation: bool = True) -> str:
    """Readable text of an HTML or XHTML file of any encoding.

    Headings keep Markdown's `#` marks, list items a dash, cells of a table are parted by ` | `.
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
        elif isinstance(node, PreformattedString):  # a comment, a declaration
            continue
        elif num_open["pre"]:
            writer.verbatim(str(node))
        else:
            writer.words(str(node))
    return clean(writer.result())


def parse_html(path: str, limits: ParseLimits) -> Parsed:
    """Readable text of a file. Raises ParseError if there is none."""
    with open(path, "rb") as file:
        data = file.read(limits.max_text_bytes + 1)
    if len(data) > limits.max_text_bytes:
        raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of HTML")
    text = html_to_text(data)
    if not text:
        raise ParseError("no readable text in it")
    return Parsed(text=text)


def _decode(data: bytes) -> str:
    """UTF-8 where the bytes are that; else what the file declares or bs4 detects."""
    if b"\0" not in data and b"\x1b" not in data:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    return UnicodeDammit(data, is_html=True).unicode_markup or data.decode("latin-1")


def _events(soup: Tag, drop_navigation: bool) -> Iterator[tuple[PageElement, bool]]:
    """(node, entering) in document order, each tag left too; no recursion, as nesting has no bound."""
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
    """What a tag's beginning or end does to the line; `num_open` counts the open tags around it by name."""
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
