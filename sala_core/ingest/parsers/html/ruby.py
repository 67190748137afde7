"""Ruby: a text and the readings above it, which stand behind it in parentheses."""

from .tree import Element


def split_ruby(element: Element) -> tuple[list[Element | str], list[list[Element]]]:
    """Return the text of a `ruby` element and its readings, level by level: those of `rt`, then those of each `rtc`.

    A word whose characters have a reading each stays one word: 九時(くじ). Parentheses that the page has (`rp`) are
    dropped.
    """
    base: list[Element | str] = []
    inner: list[Element] = []
    outer: list[list[Element]] = []
    _split(element, base, inner, outer)
    return base, [level for level in [inner, *outer] if level]


def _split(element: Element, base: list[Element | str], inner: list[Element], outer: list[list[Element]]) -> None:
    for child in element.children:
        if isinstance(child, str) or child.name not in ("rp", "rt", "rtc", "rb", "rbc"):
            base.append(child)
        elif child.name == "rt":
            inner.append(child)
        elif child.name == "rtc":
            texts = [part for part in child.children if isinstance(part, Element) and part.name == "rt"]
            outer.append(texts or [child])
        elif child.name in ("rb", "rbc"):
            base.extend(child.children if child.name == "rb" else [])
            if child.name == "rbc":
                _split(child, base, inner, outer)


def joined_readings(texts: list[str]) -> str:
    """Return readings as one: with spaces between words in letters of an alphabet, without between syllables."""
    texts = [text for text in texts if text]
    has_words = any(char.isascii() or char < "\u1100" for text in texts for char in text)
    return (" " if has_words else "").join(texts)
