"""FictionBook (FB2) to text: the title, then every section with its heading, then the notes. Pictures are left out.

The sections become HTML, which the HTML extractor converts, so that tables, lists and superscripts read alike.
http://www.fictionbook.org/index.php/Eng:XML_Schema_Fictionbook_2.1
"""

import posixpath
import re
from html import escape

from ..charset import decode_html
from ..html_text import html_to_text
from ..result import Parsed, ParseError, ParseLimits
from .members import DAMAGE, ZipMembers
from .xml_tags import Tag, xml_tags

_BINARY = re.compile(r"<(?:\w+:)?binary\b.*?(?:</(?:\w+:)?binary\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_BINARY_BYTES = re.compile(_BINARY.pattern.encode(), re.DOTALL | re.IGNORECASE)
_ROOT = re.compile(r"<(?:\w+:)?FictionBook\b", re.IGNORECASE)
_ROOT_END = re.compile(r"</(?:\w+:)?FictionBook\s*>", re.IGNORECASE)
_INLINE = {"emphasis": "em", "strong": "strong", "sub": "sub", "sup": "sup", "strikethrough": "s", "code": "code"}
_HTML = {
    name: name for name in ("b", "br", "div", "h1", "h2", "h3", "h4", "i", "li", "ol", "pre", "u", "ul")
}  # not FB2
_BLOCKS = {
    "p": "p", "v": "div", "stanza": "section", "poem": "section", "epigraph": "blockquote", "cite": "blockquote",
    "annotation": "blockquote", "text-author": "p", "date": "p", "table": "table", "tr": "tr", "td": "td", "th": "th",
    **_HTML,
}  # fmt: skip
_SPANS = ("colspan", "rowspan")
_PERSON = ("first-name", "middle-name", "last-name", "nickname")
_FACTS = ("book-title", "publisher", "city", "year", "isbn")


def parse_fb2(path: str, limits: ParseLimits) -> Parsed:
    """Return the text of a FictionBook, plain or in a zip archive (`.fb2.zip`); it has no pages.

    Raises ParseError for a file that is no FictionBook, is damaged or has no text, and for one over the limits.
    """
    texts: list[str] = []
    warnings: list[str] = []
    num_bytes = 0
    for name, data in _books(path, limits, warnings):
        if b"\0" not in data[:64]:  # not UTF-16: pictures need not be decoded
            data = _BINARY_BYTES.sub(b"", data)
        text, notes = decode_html(data)
        warnings += notes
        if not _ROOT.search(text):
            raise ParseError("not a FictionBook, although its name says so")
        if not _ROOT_END.search(text, max(0, len(text) - 4096)):
            warnings.append(f"{name or 'the file'} ends before the book does: it is cut off")
        for page in _Converter().pages(text):
            texts.append(html_to_text(page, drop_navigation=False))
            num_bytes += len(texts[-1].encode())
            if num_bytes > limits.max_text_bytes:
                raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of text")
    if not any(texts):
        raise ParseError("a FictionBook without any text")
    return Parsed(text="\n".join(text for text in texts if text), warnings=tuple(warnings))


def _books(path: str, limits: ParseLimits, warnings: list[str]) -> list[tuple[str, bytes]]:
    """(name inside the archive or "", content) of every book in the file."""
    with open(path, "rb") as file:
        if not file.read(4).startswith(b"PK"):
            file.seek(0)
            data = file.read(limits.max_unpacked_bytes + 1)
            if len(data) > limits.max_unpacked_bytes:
                raise ParseError(f"a FictionBook of more than {limits.max_unpacked_bytes / 2**20:,.1f} MiB")
            return [("", data)]
    try:
        with ZipMembers(path, limits.max_unpacked_bytes) as members:
            names = [name for name in members.names if name.lower().endswith(".fb2")]
            if not names:
                raise ParseError("an archive without a FictionBook (.fb2)")
            books = [(posixpath.basename(name), members.read(name)) for name in names]
            warnings += [f"{name} is damaged: only what is left of it is read" for name in sorted(members.damaged)]
            return books
    except DAMAGE as error:
        raise ParseError("a damaged archive: it cannot be opened") from error


class _Converter:
    """Turns the tags of one book into HTML pages: one for the title, one for each outermost section."""

    def __init__(self) -> None:
        self._pages: list[str] = []
        self._page: list[str] = []
        self._open: list[str] = []
        self._title: list[str] | None = None
        self._facts: list[tuple[str, str]] = []
        self._notes: list[bool] = []  # for each open link whether it refers to a note

    def pages(self, text: str) -> list[str]:
        """Return the pages of a book. Tags that are not closed or not known cost no words."""
        for piece in xml_tags(_BINARY.sub("", text)):
            if isinstance(piece, str):
                self._text(piece)
                continue
            if piece.starts:
                self._start(piece)
                self._open.append(piece.name)
            if piece.ends and piece.name in self._open:
                while self._open.pop() != piece.name:
                    continue
                self._end(piece.name)
        self._end_page()
        return self._pages

    def _text(self, text: str) -> None:
        if "body" in self._open or "annotation" in self._open:
            (self._page if self._title is None else self._title).append(escape(text))
        elif text.strip() and not {"title-info", "publish-info"}.isdisjoint(self._open):
            self._fact(self._open[-1], text.strip())

    def _fact(self, name: str, text: str) -> None:
        """Keep the book's title, and who wrote, translated and published it."""
        person = next((kind for kind in ("author", "translator") if kind in self._open), "")
        if person and name in _PERSON:
            if self._facts and self._facts[-1][0] == person:
                self._facts[-1] = (person, f"{self._facts[-1][1]} {text}")
            else:
                self._facts.append((person, text))
        elif name in _FACTS:
            self._facts.append((name, text))

    def _start(self, tag: Tag) -> None:
        if tag.name == "body" or (tag.name == "section" and self._open.count("section") == 0):
            self._end_page()
        elif tag.name == "annotation" and "title-info" in self._open:
            self._end_page()
            self._write("<blockquote>")
        elif tag.name in ("author", "translator"):
            self._facts.append(("", ""))  # the names that follow are those of another person
        elif tag.name in ("title", "subtitle"):
            self._title = []
        elif tag.name == "image" and (words := tag.attributes.get("alt") or tag.attributes.get("title")):
            self._write(f'<img alt="{escape(words)}">')
        elif tag.name == "a":
            self._notes.append(tag.attributes.get("type", "").lower() == "note")
            self._write("<sup>" if self._notes[-1] else f'<a href="{escape(tag.attributes.get("href", ""))}">')
        elif tag.name in _INLINE or tag.name in _BLOCKS:
            self._start_html(tag)

    def _start_html(self, tag: Tag) -> None:
        if self._title is not None and tag.name in _BLOCKS:
            self._title.append(" ")  # the paragraphs of a title are one heading
            return
        name = _INLINE.get(tag.name) or _BLOCKS[tag.name]
        spans = "".join(f' {key}="{escape(tag.attributes[key])}"' for key in _SPANS if key in tag.attributes)
        self._write(f"<{name}{spans}>")

    def _end(self, name: str) -> None:
        if name in ("title", "subtitle") and self._title is not None:
            words, self._title = "".join(self._title).strip(), None
            level = f"h{min(self._level() + (name == 'subtitle'), 6)}"
            kind = level if any(map(str.isalnum, words)) else "p"  # "* * *" separates scenes
            self._write(f"<{kind}>{words}</{kind}>")
        elif name == "title-info":
            self._end_page()
        elif name == "a":
            self._write("</sup>" if self._notes.pop() else "</a>")
        elif name in _INLINE or (name in _BLOCKS and self._title is None):
            self._write(f"</{_INLINE.get(name) or _BLOCKS[name]}>")

    def _write(self, html: str) -> None:
        if "body" in self._open or "annotation" in self._open or self._title is not None:
            (self._page if self._title is None else self._title).append(html)

    def _level(self) -> int:
        """Level of the heading here: 1 for a body, 2 for its sections."""
        return min(1 + self._open.count("section"), 6)

    def _end_page(self) -> None:
        if self._facts:
            self._pages.append(self._title_page())
            self._facts = []
        if page := "".join(self._page).strip():
            self._pages.append(f"<html><body>{page}</body></html>")
        self._page = []

    def _title_page(self) -> str:
        people = [text for kind, text in self._facts if kind in ("author", "translator")]
        title = " ".join(text for kind, text in self._facts if kind == "book-title")
        rest = [text for kind, text in self._facts if kind in _FACTS[1:]]
        heading = f"<h1>{escape(title)}</h1>" if title else ""
        return heading + "".join(f"<p>{escape(', '.join(line))}</p>" for line in (people, rest) if line)
