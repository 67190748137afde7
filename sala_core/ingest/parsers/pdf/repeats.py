"""Running headers, footers and page numbers: left out where they repeat on many pages."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from .lines import Line

_MIN_PAGES = 3  # that show the same line at the same place
_MARGIN = 0.12  # of the page's height, at its top and at its bottom
_MAX_LINES = 3  # of each page, at its top and at its bottom
_PAGE_NUMBER = re.compile(
    r"(?:page|seite|p\.|pag\.|página|pagina|стр\.|第)?\s*[-–—|\[(]?\s*(\d{1,4})\s*[-–—|\])]?\s*页?"
    r"(?:\s*(?:/|of|von|de|di|sur|из)\s*\d{1,4})?",
    re.IGNORECASE,
)
_ROMAN_NUMBER = re.compile(r"[-–—|\[(]?\s*((?:x{0,3}|xl|lx{0,3})(?:ix|iv|v?i{0,3}))\s*[-–—|\])]?", re.IGNORECASE)
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50}
_NUMBERS = re.compile(r"\d+")
_ENDS = re.compile(r"[.!?:;…。！？\"”»’)\]]\s*$")


@dataclass(frozen=True, kw_only=True)
class MarginLine:
    """A line near the top or bottom of a page. number: of the line in the page's text."""

    page: int
    number: int
    text: str
    y: int
    is_top: bool
    is_small: bool


def margin_lines(page: int, lines: list[Line], height: float) -> Iterator[MarginLine]:
    """Yield the lines of a page that may be running headers or footers. page: its index; height: in points."""
    shown = [number for number, line in enumerate(lines) if line.text]
    if len(shown) < 2:
        return
    size = median(line.size for line in lines)
    by_height = sorted(shown, key=lambda number: lines[number].y0)
    for is_top, numbers in ((True, by_height[:_MAX_LINES]), (False, by_height[-_MAX_LINES:])):
        for number in numbers:
            line = lines[number]
            limit = line.y1 <= height * _MARGIN if is_top else line.y0 >= height * (1 - _MARGIN)
            if limit and line.is_level:
                yield MarginLine(
                    page=page,
                    number=number,
                    text=line.text.strip(),
                    y=round(line.baseline),
                    is_top=is_top,
                    is_small=line.size <= 1.15 * size,
                )


def repeated_lines(pages: list[list[str]], margins: list[MarginLine]) -> dict[int, set[int]]:
    """Return {page: numbers of its lines to leave out}.

    These are page numbers that count with the pages; lines with the same words, which stay on their first page; and
    lines with words and a changing number, only where they would split a sentence. Each on at least 3 pages.

    pages: the lines of each page.
    """
    left_out: dict[int, set[int]] = defaultdict(set)
    changing: list[MarginLine] = []
    for line, others in _with_others(margins):
        number = _page_number(line.text)
        if number is not None and _counts(others, line, number):
            left_out[line.page].add(line.number)
        elif _counts_beside(others, line):
            if line.page != min(other.page for other in others):
                left_out[line.page].add(line.number)
        elif not any(char.isalpha() for char in line.text):
            if _counts_inside(others, line):
                left_out[line.page].add(line.number)
        elif not line.is_small:
            continue
        elif len(same := {other.page for other in others if other.text == line.text}) >= _MIN_PAGES:
            if line.page != min(same):
                left_out[line.page].add(line.number)
        elif len({other.page for other in others}) >= _MIN_PAGES:
            changing.append(line)
    for line in changing:
        if _splits_sentence(pages, line, left_out, changing):
            left_out[line.page].add(line.number)
    return left_out


def _with_others(margins: list[MarginLine]) -> Iterator[tuple[MarginLine, list[MarginLine]]]:
    """Each line with all that have its place (within two points) and its words, whatever their numbers."""
    groups: dict[tuple[bool, str], dict[int, list[MarginLine]]] = defaultdict(lambda: defaultdict(list))
    for line in margins:
        groups[line.is_top, _pattern(line.text)][line.y].append(line)
    for line in margins:
        places = groups[line.is_top, _pattern(line.text)]
        yield line, [other for y in range(line.y - 2, line.y + 3) for other in places.get(y, ())]


def _pattern(text: str) -> str:
    """The text with `#` for its numbers, also for a Roman one that stands alone."""
    return "#" if text and _ROMAN_NUMBER.fullmatch(text) else _NUMBERS.sub("#", text)


def _page_number(text: str) -> int | None:
    """The number of a line that is nothing else, in Arabic or Roman digits."""
    if match := _PAGE_NUMBER.fullmatch(text):
        return int(match[1])
    match = _ROMAN_NUMBER.fullmatch(text)
    if not match or not match[1]:
        return None
    digits = [_ROMAN[char] for char in match[1].lower()]
    return sum(-value if value < after else value for value, after in zip(digits, [*digits[1:], 0], strict=True))


def _counts(others: list[MarginLine], line: MarginLine, value: int) -> bool:
    """Whether the number minus the number of the page is the same on enough pages."""
    offset = value - line.page
    numbers = [(other.page, _page_number(other.text)) for other in others]
    return len({page for page, number in numbers if number is not None and number - page == offset}) >= _MIN_PAGES


def _counts_inside(others: list[MarginLine], line: MarginLine) -> bool:
    """Whether one of several numbers in a line counts with the pages, as in `12.03.2024 1/6`."""
    values = [int(number) for number in _NUMBERS.findall(line.text)]
    return len(values) > 1 and any(
        len(
            {
                other.page
                for other in others
                if int(_NUMBERS.findall(other.text)[place]) - other.page == value - line.page
            }
        )
        >= _MIN_PAGES
        for place, value in enumerate(values)
    )


def _counts_beside(others: list[MarginLine], line: MarginLine) -> bool:
    """Whether the line is words, a wide gap and a page number, and the words are the same on enough pages."""
    key = _words_and_offset(line)
    return key is not None and len({other.page for other in others if _words_and_offset(other) == key}) >= _MIN_PAGES


def _words_and_offset(line: MarginLine) -> tuple[str, int] | None:
    parts = line.text.split("\t")
    numbers = [match for part in parts if (match := _PAGE_NUMBER.fullmatch(part.strip()))]
    if len(parts) < 2 or len(numbers) != 1:
        return None
    return "\t".join(part for part in parts if part.strip() != numbers[0][0]), int(numbers[0][1]) - line.page


def _splits_sentence(
    pages: list[list[str]], line: MarginLine, left_out: dict[int, set[int]], changing: list[MarginLine]
) -> bool:
    """Whether the text before the line ends without a sentence's end, and that after it goes on in small letters."""
    skipped = {(other.page, other.number) for other in changing}
    skipped |= {(page, number) for page, numbers in left_out.items() for number in numbers}
    first = line.page - 1 if line.is_top else line.page
    before = _words(pages, first, skipped, last=True)
    after = _words(pages, first + 1, skipped, last=False)
    return bool(before and after) and not _ENDS.search(before) and after[0].islower()


def _words(pages: list[list[str]], page: int, skipped: set[tuple[int, int]], *, last: bool) -> str:
    """The last or first line of a page without its running lines, "" if there is none."""
    if not 0 <= page < len(pages):
        return ""
    lines = [text for number, text in enumerate(pages[page]) if text and (page, number) not in skipped]
    return lines[-1 if last else 0] if lines else ""
