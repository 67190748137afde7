"""EPUB to text: the chapters of the spine in reading order, each converted by the HTML extractor.

A chapter that cannot be read is named in a warning, and the others are read.
"""

import re

from ..failures import DAMAGE, PIECE_FAILURES, failure_reason
from ..html.entities import resolve_entities
from ..html_text import html_to_text
from ..result import Parsed, ParseError, ParseLimits, normalize_text
from .chapter_encoding import ChapterDecoder
from .dtbook import dtbook_to_html
from .epub_package import Chapter, locked_members, protection_name, reading_order
from .members import LockedError, Members, open_members
from .sheets import Sheets
from .xml_tags import Tag, xml_tags

_MEDIA = {
    "a picture": (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*"),
    "a PDF": (b"%PDF-",),
    "sound or video": (b"ID3", b"OggS", b"fLaC", b"\0\0\0\x18ftyp", b"\0\0\0\x20ftyp"),
    "a font": (b"OTTO", b"wOFF", b"wOF2", b"\0\1\0\0"),
}
_UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")
_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".svg", ".avif")
_NOT_PAGES = (".css", ".js", ".ncx", ".opf")
_READABLE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|!doctype|html|body|svg|\w+:html)\b", re.IGNORECASE)
_MAX_LOCKED = 0.8  # a title page in the clear is not the book
_NOT_ENTRIES = re.compile(r"h[1-6]|title|style|script")
_MARKUP = re.compile(r"<[A-Za-z!?/]")
_ROOT = re.compile(
    r"(?:\s|<\?[^>]*>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[[^\]]*\])?\s*>)*+<(?:\w+:)?(\w+)", re.DOTALL | re.IGNORECASE
)


def parse_epub(path: str, limits: ParseLimits) -> Parsed:
    """Return the text of all chapters, separated by empty lines; an EPUB has no pages. path: a file or a folder.

    Raises ParseError for a damaged, encrypted (DRM) or empty book, and for one that unpacks to more than the limit.
    """
    try:
        with open_members(path, limits.max_unpacked_bytes) as members:
            if not members.names:
                raise ParseError("a damaged EPUB: it cannot be opened")
            return _Book(members, limits).parsed()
    except DAMAGE as error:
        raise ParseError("a damaged EPUB: it cannot be opened") from error


class _NotTextError(ParseError):
    """A chapter is no text. The message says what it is."""


class _Book:
    """The texts of the chapters while they are read, and what could not be read."""

    def __init__(self, members: Members, limits: ParseLimits) -> None:
        self._members = members
        self._left = self._max_bytes = limits.max_text_bytes
        self._texts: list[str] = []
        self._notes: list[str] = []
        self._locked: list[str] = []
        self._reason = ""
        self._sheets = Sheets(members)
        self._decoder = ChapterDecoder()
        self._text_notes: dict[str, list[str]] = {}  # a note on a text -> the chapters that it is about

    def parsed(self) -> Parsed:
        """Return the text of the book. Raises ParseError with the reason if there is none."""
        locked = locked_members(self._members)
        protection = protection_name(self._members)
        by_scheme = f"copy protection{f', {protection}' if protection else ''}"
        order = reading_order(self._members)
        if self._members.is_damaged:
            self._notes.append("the archive is damaged or cut off: only what is left of it is read")
        for chapter in order.chapters:
            if chapter.name in locked and not self._is_readable(chapter.name):
                self._locked.append(chapter.name)
                self._reason = f"an encrypted EPUB ({by_scheme}): it cannot be read"
            else:
                self._read(chapter, is_protected=bool(protection), by_scheme=by_scheme)
        if self._locked and (len(self._locked) >= len(order.chapters) * _MAX_LOCKED or not self._texts):
            raise ParseError(self._reason)
        if not self._texts:
            raise ParseError(self._why_empty(order.missing))
        notes = [*map(_missing, order.missing), *order.notes, *self._notes]
        for note, names in self._text_notes.items():
            notes.append(f"chapter {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {note}")
        notes += [f"chapter {name} is encrypted ({by_scheme}): it is not read" for name in self._locked]
        return Parsed(text="\n".join(self._texts), warnings=tuple(notes))

    def _is_readable(self, name: str) -> bool:
        """Whether a file that is listed as encrypted is in the clear: the list can be left of a protection removed."""
        try:
            return _READABLE.match(self._members.read(name)) is not None
        except (LockedError, *DAMAGE):
            return False

    def _read(self, chapter: Chapter, *, is_protected: bool, by_scheme: str) -> None:
        """Add the text of one chapter, or a note or a lock why it has none."""
        try:
            text, notes = self._chapter_text(chapter)
        except _NotTextError as error:
            if is_protected and str(error) == "not text":
                self._locked.append(chapter.name)
                self._reason = f"an encrypted EPUB ({by_scheme}): it cannot be read"
            else:
                self._notes.append(f"chapter {chapter.name} is {error}: it is not read")
            return
        except LockedError as error:
            self._locked.append(chapter.name)
            self._reason = str(error)
            return
        except PIECE_FAILURES as error:
            self._notes.append(f"chapter {chapter.name} could not be read: {failure_reason(error)}")
            return
        self._left -= len(text.encode())
        if self._left < 0:
            raise ParseError(f"more than {self._max_bytes / 2**20:,.1f} MiB of text")
        if text:
            self._texts.append(text)
            for note in notes:
                self._text_notes.setdefault(note, []).append(chapter.name)
        if chapter.name in self._members.damaged:
            self._notes.append(f"chapter {chapter.name} is damaged: only what is left of it is read")

    def _why_empty(self, missing: tuple[str, ...]) -> str:
        if self._members.is_damaged:
            return "a damaged EPUB: the archive is cut off, and no chapter is left"
        for what in _MEDIA:
            if self._notes and all(f" is {what}:" in note for note in self._notes) and not missing:
                return f"an EPUB without any text: each of its pages is {what}"
        if missing or self._notes:
            problem = self._notes[0] if self._notes else _missing(missing[0])
            return f"a damaged EPUB: none of its chapters can be read ({problem})"
        names = [name.lower() for name in self._members.names]
        if not any(name.endswith((".opf", ".xhtml", ".html", ".htm")) for name in names):
            return "a damaged EPUB: it does not say where its content is, and has no chapters"
        has_pictures = any(name.endswith(_PICTURES) for name in names)
        return f"an EPUB without any text (its pages {'are' if has_pictures else 'may be'} pictures)"

    def _chapter_text(self, chapter: Chapter) -> tuple[str, tuple[str, ...]]:
        """(text, notes) of a chapter, decided by its content: media types are often wrong. Raises _NotTextError."""
        data = self._members.read(chapter.name)
        if reason := _not_text(data):
            for name in chapter.fallbacks:
                if not _not_text(self._members.read(name)):
                    return self._chapter_text(Chapter(name=name))
            raise _NotTextError(reason)
        if chapter.name.lower().endswith(_NOT_PAGES):
            return "", ()
        markup, notes = self._decoder.decode(data)
        markup = resolve_entities(markup)
        root = _ROOT.match(markup)
        kind = root[1].lower() if root else ""
        if kind in ("ncx", "package"):
            return "", ()
        if kind == "svg":
            return _svg_text(markup), notes
        if kind == "dtbook":
            markup = dtbook_to_html(markup)
        if not _MARKUP.search(markup):
            text = normalize_text(markup).strip("\n")
            return (text + "\n" if text.strip() else ""), notes
        if chapter.is_contents and not _is_more_than_links(markup):
            return "", ()
        sheets = self._sheets.of(chapter.name, markup)
        text = html_to_text(markup, drop_navigation=chapter.is_contents, sheets=sheets)
        if chapter.is_contents and not any(line and not line.startswith("#") for line in text.split("\n")):
            return "", ()
        return text, notes


def _missing(name: str) -> str:
    """The note on a chapter that the book lists and does not have."""
    if "://" in name:
        return f"chapter {name} is not in the book but on the network: it is not read"
    return f"chapter {name} is missing: the book lists it and does not have it"


def _not_text(data: bytes) -> str:
    """What the content is if it is not text, else ""."""
    for what, marks in _MEDIA.items():
        if data.startswith(marks) and (b"\0" in data or not data[:64].isascii() or what == "a PDF"):
            return what
    if data.startswith(_UTF16_STARTS):
        return ""
    head = data[:8192]
    controls = len(head) - len(head.translate(None, bytes(set(range(32)) - {9, 10, 11, 12, 13, 27})))
    return "not text" if controls > len(head) * 0.05 else ""


def _is_more_than_links(markup: str) -> bool:
    """Whether a table of contents has words outside of its headings, links and `nav` elements."""
    is_open = dict.fromkeys(("a", "nav", "heading"), False)
    for piece in xml_tags(markup):
        if isinstance(piece, Tag):
            kind = "heading" if _NOT_ENTRIES.fullmatch(piece.name) else piece.name
            if kind in is_open and piece.starts != piece.ends:
                is_open[kind] = piece.starts
        elif not any(is_open.values()) and any(map(str.isalpha, piece)):
            return True
    return False


def _svg_text(text: str) -> str:
    """The words of a page that is one drawing: a line for each text, title and description."""
    lines: list[str] = []
    words: list[str] = []
    depth = 0
    for piece in xml_tags(text):
        if isinstance(piece, str):
            words += [piece] if depth else []
            continue
        if piece.name in ("text", "title", "desc", "foreignobject"):
            depth += piece.starts - piece.ends
        is_new_line = piece.name == "tspan" and piece.starts and not {"x", "y", "dy"}.isdisjoint(piece.attributes)
        if depth <= 0 or is_new_line or piece.name in ("p", "div", "br", "li"):
            depth = max(depth, 0)
            lines.append(" ".join("".join(words).split()))
            words = []
    lines.append(" ".join("".join(words).split()))
    return normalize_text("".join(f"{line}\n" for line in lines if line))
