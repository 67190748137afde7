"""The parts of a text as its headings name them: chapters, books and other divisions, and Markdown headings."""

import re
from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

_RANKS = {
    "volume": 0, "book": 1, "part": 1, "act": 1, "epilogue": 1, "prologue": 1,
    "chapter": 2, "letter": 2, "canto": 2, "section": 3, "scene": 3, "appendix": 3,
}  # fmt: skip
_HEADINGS = {
    "volume": "volume tome tomo volumen",
    "book": "book buch livre libro",
    "part": "part teil partie parte",
    "act": "act akt aufzug acte acto atto",
    "epilogue": "epilogue epilog épilogue epílogo epilogo",
    "prologue": "prologue prolog prólogo prologo",
    "chapter": "chapter kapitel chapitre capítulo capitolo",
    "letter": "letter lettre carta lettera",
    "canto": "canto gesang chant",
    "section": "section abschnitt sección sezione",
    "scene": "scene szene auftritt scène escena scena",
    "appendix": "appendix anhang appendice apéndice",
}
_NAMED_SO = {
    "volume": "volumes tomes tomos band bände volúmenes volumi",
    "book": "books bücher livres libros libri",
    "part": "parts teile parties partes parti",
    "act": "acts akte aufzüge actes actos atti",
    "chapter": "chapters chapitres capítulos capitoli",
    "letter": "letters brief briefe lettres cartas lettere",
    "canto": "cantos canti gesänge chants",
    "section": "sections abschnitte secciones sezioni",
    "scene": "scenes szenen auftritte scènes escenas scene",
}
_KIND_OF_HEADING = {word: kind for kind, words in _HEADINGS.items() for word in words.split()}
KINDS = {word: kind for kind, words in _NAMED_SO.items() for word in words.split()} | _KIND_OF_HEADING
"""Words for parts of a text in five languages, one and several -> the kind, in English."""

_NUMBER_FIRST = "kapitel|teil|buch|abschnitt|akt|aufzug|szene|auftritt|gesang"  # "1. Kapitel"
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60}
_NUMBERS = {
    word: number
    for words in (
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen",
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
        "erste zweite dritte vierte fünfte sechste siebente achte neunte zehnte elfte zwölfte",
        "erster zweiter dritter vierter fünfter sechster siebenter achter neunter zehnter elfter zwölfter",
        "erstes zweites drittes viertes fünftes sechstes siebentes achtes neuntes zehntes elftes zwölftes",
        "premier deuxième troisième quatrième cinquième sixième septième huitième neuvième dixième onzième douzième",
        "première seconde",
        "primero segundo tercero cuarto quinto sexto séptimo octavo noveno décimo undécimo duodécimo",
        "primera segunda tercera cuarta quinta sexta séptima octava novena décima",
        "primo secondo terzo quarto quinto sesto settimo ottavo nono decimo undicesimo dodicesimo",
        "prima seconda terza quarta quinta sesta settima ottava nona decima",
    )
    for number, word in enumerate(words.split(), 1)
} | {"siebter": 7, "siebtes": 7, "siebte": 7, "second": 2}


def _any_of(words: Iterable[str]) -> str:
    """A regular expression for one of some words. By their first letter, so that few are tried at each line."""
    by_first = groupby(sorted(words), key=itemgetter(0))
    return "|".join(f"{first}(?:{'|'.join(word[1:] for word in group)})" for first, group in by_first)


_WRITTEN = _any_of((*_NUMBERS, *_TENS))
_DIVISION = re.compile(
    rf"(?im)^[ \t]*(?:(?P<before>{_WRITTEN}|(?:[ivxlcdm]+|\d+)\.(?=[ \t]+(?:{_NUMBER_FIRST})\b))[ \t]+)?"
    rf"(?P<kind>{_any_of(_KIND_OF_HEADING)})\b(?:[ \t]+(?:the[ \t]+)?"
    rf"(?P<number>[ivxlcdm]+\b|\d+|(?:{_WRITTEN})(?:-\w+)?\b|last\b))?(?P<title>[^\n]{{0,90}})$"
)
_MARKDOWN = re.compile(r"(?m)^(#{1,6})[ \t]+(\S[^\n]*?)[ \t]*#*[ \t]*$")
_GUTENBERG, _GUTENBERG_END = re.compile(r"\*\*\* ?START OF TH[^\n]*\n"), re.compile(r"\n\*\*\* ?END OF TH")
_FENCE = re.compile(r"(?ms)^[ \t]*(```|~~~).*?^[ \t]*\1")
_EMPTY_LINE_BEFORE, _EMPTY_LINE_BEHIND = re.compile(r"\n[ \t]*\r?\n\Z"), re.compile(r"\r?\n[ \t]*\r?\n")
_AROUND_CHARS = 200
_MIN_BODY_CHARS = 200
"""Fewer characters before the next heading of the same rank are an entry of a list of contents."""

_ALONE = ("epilogue", "prologue", "appendix")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A heading: characters start ... end - 1. kind: "chapter", "book" and so on; "heading" in Markdown.

    rank: 0 for the largest parts. number: as it is written, None without one.
    """

    kind: str
    rank: int
    start: int
    end: int
    number: int | None = None


def find_parts(text: str) -> list[Part]:
    """The headings of a text's parts in their order, without those of a list of contents.

    Divisions are lines such as "CHAPTER IV. The Counterpane", between empty lines. A text without any gives its
    Markdown headings.
    """
    parts = _without_contents(text, _divisions(text))
    for kind in sorted({part.kind for part in parts}, key=_RANKS.__getitem__):
        parts = _without_copies(parts, kind)
    inside = {kind for kind in {part.kind for part in parts} if _are_inside(kind, parts)}
    return [part for part in parts if part.kind not in inside] or _markdown(text)


def body_of(text: str) -> tuple[int, int]:
    """The range of a text without what Project Gutenberg puts before and behind its books."""
    start, end = _GUTENBERG.search(text), _GUTENBERG_END.search(text)
    return start.end() if start else 0, end.start() if end else len(text)


def are_counted(parts: Sequence[Part], kind: str) -> bool:
    """Whether the numbers of a kind of part follow each other, so that their count is that of the text.

    They may begin again where there are larger parts.
    """
    last = highest = 0
    may_begin_again = any(part.rank < _RANKS[kind] for part in parts)
    for part in parts:
        if part.kind == kind:
            number = last + 1 if part.number is None else part.number
            if number != last + 1 and not (number == 1 and may_begin_again):
                return False
            last, highest = number, max(highest, number)
    return highest > 1


def _without_copies(parts: list[Part], kind: str) -> list[Part]:
    """Without what lists of contents and summaries have left of a kind of part: entries before the first number 1,
    entries with the number of the next one, and a whole row that begins again below no larger part."""
    rank = _RANKS[kind]
    first = next((part.start for part in parts if part.kind == kind and part.number == 1), 0)
    kept = [part for part in parts if part.kind != kind or part.start >= first]
    own = [part for part in kept if part.kind == kind]
    larger = [part.start for part in kept if part.rank < rank]
    doubled = {
        one
        for one, two in pairwise(own)
        if one.number == two.number and bisect(larger, one.start) == bisect(larger, two.start)
    }
    kept = [part for part in kept if part not in doubled]
    begins = [part.start for part in own if part.number == 1 and part not in doubled]
    if not larger and len(begins) > 1:
        kept = [part for part in kept if part.start >= begins[-1] or part.kind in _ALONE]
    return kept


def _are_inside(kind: str, parts: Sequence[Part]) -> bool:
    """Whether a kind of part that is usually larger stands inside a smaller one here: the smaller ones began before."""
    first = next(part.start for part in parts if part.kind == kind)
    smaller = (part for part in parts if part.rank > _RANKS[kind] and part.kind not in _ALONE)
    return kind not in _ALONE and any(part.start < first for part in smaller)


def _divisions(text: str) -> list[Part]:
    found = []
    for match in _DIVISION.finditer(text):
        kind = _KIND_OF_HEADING[match["kind"].lower()]
        number = _number(match["before"] or match["number"] or "")
        if (number is None and kind not in _ALONE and not match["number"]) or _is_sentence(match):
            continue
        if _is_apart(text, match):
            line = match[0].strip()
            start = match.start() + len(match[0]) - len(match[0].lstrip())
            found.append(Part(kind=kind, rank=_RANKS[kind], start=start, end=start + len(line), number=number))
    return found


def _number(written: str) -> int | None:
    """The number that is written in digits, Roman numerals or words; None for another word, such as "last"."""
    word = written.lower().rstrip(".")
    if word.isdigit():
        return int(word)
    if word and set(word) <= set(_ROMAN):
        values = [_ROMAN[letter] for letter in word]
        return sum(-one if one < two else one for one, two in pairwise([*values, 0]))
    tens, _, ones = word.partition("-")
    if tens in _TENS:
        return _TENS[tens] + _NUMBERS.get(ones, 0)
    return _NUMBERS.get(word)


def _is_sentence(match: re.Match[str]) -> bool:
    """Whether the line goes on like a sentence that happens to begin with such a word."""
    title = match["title"]
    stands_alone = match["before"] is not None and match["before"][0].isupper() and not title.strip()
    return bool(re.match(r"[ \t]+[a-z]", title)) or not (match["kind"][0].isupper() or stands_alone)


def _is_apart(text: str, match: re.Match[str]) -> bool:
    """Whether an empty line, or an end of the text, stands before the line, and behind it if it has no title."""
    before = text[max(0, match.start() - _AROUND_CHARS) : match.start()]
    behind = text[match.end() : match.end() + _AROUND_CHARS]
    opens = not before.strip() or _EMPTY_LINE_BEFORE.search(before) is not None
    closes = not behind.strip() or _EMPTY_LINE_BEHIND.match(behind) is not None
    return opens and (closes or bool(match["title"].strip(" .:—–-")))


def _without_contents(text: str, parts: list[Part]) -> list[Part]:
    """The headings behind which their part stands, not the next entry of a list."""
    kept: list[Part] = []
    following: Part | None = None
    for part in reversed(parts):
        stop = len(text) if following is None else following.start
        has_body = len(text[part.end : stop].strip()) >= _MIN_BODY_CHARS
        opens = bool(kept) and following is kept[-1] and kept[-1].rank > part.rank
        if has_body or opens or (following is None and not kept):
            kept.append(part)
        following = part
    return kept[::-1]


def _markdown(text: str) -> list[Part]:
    fences = [match.span() for match in _FENCE.finditer(text)]
    return [
        Part(kind="heading", rank=len(match[1]), start=match.start(2), end=match.end(2))
        for match in _MARKDOWN.finditer(text)
        if not any(start <= match.start() < end for start, end in fences)
    ]
