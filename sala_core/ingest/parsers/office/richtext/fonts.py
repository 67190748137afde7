"""The fonts of a Rich Text document: in which encoding each writes, and its name."""

from .tokens import CODE_PAGES, code_page

SYMBOLS = "symbol"
"""Stands for the encoding of a symbol font, whose bytes are no letters."""
_PAGES = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}


class FontTable:
    """Fonts by number, as the table at the start of a document defines them."""

    def __init__(self) -> None:
        self._default_page = "cp1252"
        self._default = 0
        self._fonts: dict[int, tuple[str, str]] = {}
        self._number = 0

    def document_word(self, word: str, number: int) -> bool:
        """Take a control word about the whole document. False if it is about something else."""
        if word == "ansicpg":
            self._default_page = code_page(number)
        elif word in _PAGES:
            self._default_page = _PAGES[word]
        elif word == "deff":
            self._default = number
        else:
            return False
        return True

    def table_word(self, word: str, number: int) -> None:
        """Take a control word inside of the table."""
        _, name = self.of(self._number)
        if word == "f":
            self._number = number
        elif word == "fcharset":
            page = self._default_page if number == 1 else CODE_PAGES.get(number, self._default_page)
            self._fonts[self._number] = SYMBOLS if number == 2 else page, name
        elif word == "cpg":
            self._fonts[self._number] = code_page(number), name

    def name(self, text: str) -> None:
        """Take a piece of the name of the font that is being defined."""
        page, name = self.of(self._number)
        self._fonts[self._number] = page, (name + text).split(";")[0].strip()

    def of(self, number: int) -> tuple[str, str]:
        """Return (encoding, name) of a font; of the default font for a negative number."""
        return self._fonts.get(number if number >= 0 else self._default, (self._default_page, ""))

    @property
    def defined(self) -> tuple[str, str]:
        """(encoding, name) of the font that is being defined."""
        return self.of(self._number)
