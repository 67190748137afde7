"""Rich Text Format (.rtf) to text (RTF specification 1.9.1): every story that a reader sees, no pictures or objects."""

import re

from ...html.math import lowered, raised
from ...result import Parsed, ParseError, ParseLimits, normalize_text
from ..formats import Format
from ..numbering import number_text
from ..package import merged_notes
from ..render import element, render
from ..symbols import is_symbol_font, symbol_text
from .fonts import SYMBOLS, FontTable
from .state import State
from .story import RowDefinition, Story
from .tokens import Token, tokens
from .words import BREAKS, CHARACTERS, ENTERED, SKIPPED, STORIES, heading_of

_WHAT = "a Rich Text document"
_MAX_DEPTH = 2000
_NOTE_MARK = "\ufdd1"  # the number of a note whose kind is not known yet; no text holds this character

_NOTE_FORMAT = re.compile("s?(a?)ftnn(ar|alc|auc|rlc|ruc|chi)")  # of the document or of a section
_NOTE_NUMBERS = {
    "alc": "lowerLetter", "auc": "upperLetter", "rlc": "lowerRoman", "ruc": "upperRoman", "chi": "chicago",
}  # fmt: skip


def parse_rtf(path: str, limits: ParseLimits) -> Parsed:
    """Return the text of a document: body, tables, notes and comments, then headers and footers; it has no pages.

    Raises ParseError for a file that is no Rich Text or has no text, and for one over the limits.
    """
    with open(path, "rb") as file:
        data = file.read(limits.max_unpacked_bytes + 1)
    if len(data) > limits.max_unpacked_bytes:
        raise ParseError(f"{_WHAT} of more than {limits.max_unpacked_bytes / 2**20:,.1f} MiB")
    start = data[:1024].find(b"{\\rt")
    if start < 0:
        raise ParseError(f"not {_WHAT}, although its name says so")
    reader = _Reader()
    text = normalize_text(reader.read(data[start:]))
    if not text.strip():
        raise ParseError(f"{_WHAT} without any text")
    if len(text.encode()) > limits.max_text_bytes:
        raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of text")
    return Parsed(text=text, warnings=merged_notes(reader.notes))


class _Reader:
    """Reads the tokens of one file."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._state = State()
        self._stack: list[State] = []
        self._story = Story()
        self._outer: list[Story] = []
        self._bytes = bytearray()
        self._collected: list[str] = []
        self._to_skip = 0
        self._high = 0  # the first half of a pair of Unicode numbers
        self._fonts = FontTable()
        self._styles: dict[int, str] = {}
        self._style = 0  # that is being defined
        self._mark = ""
        self._row = RowDefinition()
        self._num_notes = {"Footnote": 0, "Endnote": 0}
        self._note_formats: dict[str, str] = {}
        self._is_endnote = False
        self._author = ""
        self._margins: dict[str, None] = {}
        self._form: dict[str, int] = {}
        self._property = ""
        self._depth_over = 0

    def read(self, data: bytes) -> str:
        """Return the text of a file."""
        for token in tokens(data):
            if token.kind == "{":
                self._open()
            elif token.kind == "}":
                self._close()
            elif token.kind == "word":
                self._word(token)
            else:
                self._text_token(token)
        if self._stack:
            self.notes.append("the file ends before the document does: it is cut off")
        while self._stack:
            self._close()
        self._flush()
        if self._story.has_words:
            self._paragraph(0)
        blocks = self._story.finished()
        return render(blocks + [element("p", line) for line in self._margins]).replace(_NOTE_MARK, "")

    def _open(self) -> None:
        self._flush()
        self._to_skip = 0
        if len(self._stack) >= _MAX_DEPTH:
            self._depth_over += 1
            return
        self._stack.append(self._state)
        self._state = self._state.inner()

    def _close(self) -> None:
        self._flush()
        self._to_skip = 0
        if self._depth_over:
            self._depth_over -= 1
            return
        if not self._stack:
            return
        ended, self._state = self._state, self._stack.pop()
        if ended.story is not None:
            self._end_story(ended)
        elif ended.name:
            self._end_destination(ended.name, self._state)

    def _word(self, token: Token) -> None:
        word, number = token.value.decode(), token.number
        state = self._state
        if self._to_skip and word != "u":
            self._to_skip -= 1
            return
        is_first, state.is_new = state.is_new, False
        if word == "u":
            self._unicode(number or 0)
            return
        self._flush()
        if (is_first or state.is_star) and self._destination(word):
            return
        if state.is_star and is_first is False and word not in ENTERED:
            state.is_star = False
            state.target = "skip" if state.target == "text" else state.target
            return
        if state.target in ("text", "listtext", "pntext") and self._special(word):
            return
        self._property_word(word, number)

    def _destination(self, word: str) -> bool:
        """Enter a destination. False if the word is none."""
        state = self._state
        if state.target == "skip" and word not in ("picprop", "shptxt", "result"):
            return True
        if word in SKIPPED:
            state.target = "skip"
        elif word in STORIES:
            self._outer.append(self._story)
            self._story = state.story = Story()
            state.name, state.target, state.form = word, "text", Format()
            state.in_table, state.level = False, 1
            self._is_endnote = False
        elif word in ("fonttbl", "stylesheet"):
            state.target = word
        elif word in ("atnauthor", "fldinst", "listtext", "pntext", "sn", "sv", "mnum", "mden", "msup", "msub"):
            state.name, state.target = word, word if word[0] != "m" else "text"
            self._collected = [] if word[0] != "m" else self._collected
            if word in ("mnum", "mden", "msup", "msub"):
                self._outer.append(self._story)
                self._story = Story()
        elif word == "picprop" or word == "upr":
            state.target = word
        elif word == "ud":
            state.target = "text"
        elif word in ENTERED:
            state.is_star = False
        else:
            return False
        state.is_star = False
        return True

    def _property_word(self, word: str, number: int | None) -> None:
        state = self._state
        if state.target == "fonttbl":
            self._fonts.table_word(word, number or 0)
        elif state.target == "stylesheet" and word in ("s", "cs", "ds", "ts"):
            self._style = (number or 0) if word == "s" else -1
        elif word == "ftnalt":
            self._is_endnote = True
        elif word in ("fftype", "ffres", "ffdefres"):
            self._form[word] = number or 0
        elif match := _NOTE_FORMAT.fullmatch(word):
            self._note_formats["Endnote" if match[1] else "Footnote"] = _NOTE_NUMBERS.get(match[2], "decimal")
        elif not (self._row.word(word, number or 0) or self._fonts.document_word(word, number or 0)):
            state.word(word, number)

    def _special(self, word: str) -> bool:
        """Characters and ends of paragraphs, cells and rows. False if the word is none."""
        state = self._state
        level = state.level if state.in_table else 0
        if word in CHARACTERS:
            self._emit(CHARACTERS[word])
        elif word in BREAKS:
            if state.target == "text":
                self._paragraph(level)
        elif word == "line":
            self._story.add(element("br"), state.form)
        elif word == "tab":
            if state.target == "text":
                self._story.add(element("tab"), state.form)
        elif word in ("cell", "nestcell"):
            level = max(level, 1) if word == "cell" else max(level, 2)
            self._paragraph(level)
            self._story.cell(level)
        elif word in ("row", "nestrow"):
            level = 1 if word == "row" else max(level, 2)
            self._story.row(level, self._row)
        elif word == "chftn":
            self._note_mark()
        else:
            return False
        return True

    def _paragraph(self, level: int) -> None:
        state = self._state
        mark = " ".join(self._mark.split())
        heading = heading_of(self._styles.get(state.style, ""), state.outline)
        self._mark = "" if self._story.has_words else self._mark
        self._story.paragraph(level, mark, heading=heading, indent=state.indent)

    def _note_mark(self) -> None:
        """The number of a footnote in the text; in the note itself it is left out, because it is named there."""
        if not self._outer:
            self._story.add(_NOTE_MARK, Format())  # replaced when the note that follows tells its kind

    def _text_token(self, token: Token) -> None:
        state = self._state
        value = token.value
        is_first, state.is_new = state.is_new, False
        if token.kind == "symbol":
            if value == b"*" and is_first:
                state.is_star, state.is_new = True, False
                return
            if self._to_skip:
                self._to_skip -= 1
                return
            self._flush()
            shown = {b"~": "\u00a0", b"_": "-", b"{": "{", b"}": "}", b"\\": "\\"}.get(value, "")
            if value in (b"\n", b"\r"):
                self._special("par") if state.target == "text" else None
            elif shown:
                self._emit(shown)
            return
        if self._to_skip:
            skipped = min(self._to_skip, len(value))
            self._to_skip -= skipped
            value = value[skipped:]
        if state.target != "skip":
            self._bytes += value

    def _unicode(self, number: int) -> None:
        self._flush()
        code = number % 65536 if -65536 <= number <= 65535 else number
        self._to_skip = self._state.num_after_unicode
        high, self._high = self._high, 0
        if 0xD800 <= code < 0xDC00:
            self._high = code
        elif high and 0xDC00 <= code < 0xE000:
            self._emit(chr(0x10000 + ((high - 0xD800) << 10) + code - 0xDC00))
        elif 0 < code <= 0x10FFFF:
            self._emit(chr(code))

    def _flush(self) -> None:
        """Decode the bytes of text so far, in the encoding of their font."""
        if not self._bytes:
            return
        data, self._bytes = bytes(self._bytes), bytearray()
        page, _ = self._font()
        page = "latin-1" if page == SYMBOLS else page
        self._emit(data.decode(page, errors="replace"))

    def _font(self) -> tuple[str, str]:
        in_table = self._state.target in ("fonttbl", "stylesheet")
        return self._fonts.defined if in_table else self._fonts.of(self._state.font)

    def _emit(self, text: str) -> None:
        """Give text to where it belongs."""
        state = self._state
        match state.target:
            case "text":
                _, name = self._font()
                self._story.add(symbol_text(name, text) if is_symbol_font(name) else text, state.form)
            case "fonttbl":
                self._fonts.name(text)
            case "stylesheet":
                if self._style >= 0:
                    name = self._styles.get(self._style, "")
                    self._styles[self._style] = name if ";" in name else name + text
            case "skip" | "picprop" | "upr":
                return
            case _:
                self._collected.append(text)

    def _end_destination(self, name: str, outer: State) -> None:
        text = "".join(self._collected)
        match name:
            case "listtext" | "pntext":
                self._mark = symbol_text(self._font()[1], text).strip() or "-"
            case "atnauthor":
                self._author = text.strip()
            case "fldinst":
                if "FORMCHECKBOX" in text and self._form:
                    state = self._form.get("ffres", 25)
                    checked = self._form.get("ffdefres", 0) if state == 25 else state
                    self._story.add("[x]" if checked else "[ ]", outer.form)
                self._form = {}
            case "sn":
                self._property = text.strip()
            case "sv" if self._property in ("wzDescription", "gtextUNICODE") and text.strip():
                self._story.add(element("img", alt=text.strip() + " "), outer.form)
            case "mnum" | "mden" | "msup" | "msub":
                inner, self._story = self._story, self._outer.pop()
                words = render(inner.finished()).strip()
                grouped = words if words.isalnum() else f"({words})"
                shown = {"mnum": grouped, "mden": f"/{grouped}"}.get(name)
                self._story.add(shown or (raised(words) if name == "msup" else lowered(words)), outer.form)
        self._collected = []

    def _end_story(self, ended: State) -> None:
        story, self._story = self._story, self._outer.pop()
        blocks = story.finished()
        text = " ".join(line.strip() for line in render(blocks).replace(_NOTE_MARK, "").split("\n") if line.strip())
        if ended.name == "footnote":
            kind = "Endnote" if self._is_endnote else "Footnote"
            label = self._numbered(kind)
            if text:
                self._story.notes.append(element("p", f"[{kind}{f' {label}' if label else ''}: {text}]"))
        elif ended.name == "annotation":
            by = f" by {self._author}" if self._author else ""
            self._author = ""
            if text:
                self._story.notes.append(element("p", f"[Comment{by}: {text}]"))
        elif ended.name.startswith(("header", "footer")):
            if text:
                self._margins[f"[{ended.name[:6].capitalize()}: {text}]"] = None
        else:
            self._story.notes += blocks

    def _numbered(self, kind: str) -> str:
        """The number of a note whose mark stands just before it."""
        if not self._story.replace_last(_NOTE_MARK, ""):
            return ""
        self._num_notes[kind] += 1
        label = number_text(self._num_notes[kind], self._note_formats.get(kind, "decimal"))
        self._story.add(f"[{label}]", Format())
        return label
