"""Lines with Hebrew or Arabic: from the order on the page, left to right, to the order in which they are read."""

import re
import unicodedata
from dataclasses import dataclass

RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_RTL_LETTER = r"[\u05be-\u05f4\u0608-\u064a\u066e-\u06d5\u06ee-\u06ef\u06fa-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]"
_RTL_LETTERS = re.compile(_RTL_LETTER)
_LTR_LETTERS = re.compile(r"[A-Za-z\u00c0-\u052f]")
_PRESENTATION = re.compile("[\ufb1d-\ufdff\ufe70-\ufefc]")
_NUMBER = r"[#$€£₪+\-]?\d+(?:[.,:/\-٫٬]\d+)*[%‰°$€£₪]?"
_LATIN = r"[A-Za-z\u00c0-\u052f]"
# runs that are read from left to right in a line from right to left: Latin words with what is between, and numbers
_LTR_RUN = re.compile(
    rf"(?:{_NUMBER}[ \-]?)?{_LATIN}(?:(?:(?!{_RTL_LETTER}).)*(?:{_LATIN}|\d))?[%°]?|{_NUMBER}", re.DOTALL
)
_RTL_RUN = re.compile(rf"{_RTL_LETTER}(?:(?!{_LATIN}).)*{_RTL_LETTER}|{_RTL_LETTER}", re.DOTALL)
_BRACKETS = str.maketrans("()[]{}<>«»", ")(][}{><»«")
_OPENING, _CLOSING = "([{«", ")]}»"


@dataclass(frozen=True, kw_only=True)
class Glyph:
    """The character or characters of one glyph, and where it begins and ends on the line, in points."""

    text: str
    x0: float
    x1: float
    is_synthetic: bool = False


def is_right_to_left(text: str) -> bool:
    """Return whether a text has more letters of right-to-left scripts than Latin, Greek and Cyrillic ones."""
    return len(_RTL_LETTERS.findall(text)) >= max(1, len(_LTR_LETTERS.findall(text)))


def logical_order(glyphs: list[Glyph], *, size: float, is_rtl_page: bool) -> str:
    """Return the text of one line as it is read, from its glyphs in any order.

    This is the bidirectional algorithm (Unicode Standard Annex #9) backwards, for one level of embedding. Words are
    separated where spaces or gaps of 0.18 `size` are. is_rtl_page: decides lines with few letters of both kinds.
    """
    clusters = _clusters(glyphs, size)
    visual = "".join(clusters)
    num_rtl, num_ltr = len(_RTL_LETTERS.findall(visual)), len(_LTR_LETTERS.findall(visual))
    if num_rtl >= num_ltr or (is_rtl_page and num_ltr < 3 * num_rtl):
        return _fix_brackets(_reversed_runs(clusters[::-1], _LTR_RUN, is_reversed=True))
    return _reversed_runs(clusters, _RTL_RUN, is_reversed=False)


def _clusters(glyphs: list[Glyph], size: float) -> list[str]:
    """Base characters from left to right with their marks, one space between words."""
    bases: list[list[Glyph]] = []
    marks: list[tuple[Glyph, list[Glyph] | None]] = []  # with the letter before them
    parts: list[Glyph] = []
    for glyph in glyphs:
        if glyph.text.isspace():
            if not glyph.is_synthetic:
                bases.append([glyph])
        elif unicodedata.combining(glyph.text[0]):
            marks.append((glyph, bases[-1] if bases else None))
        elif glyph.x1 - glyph.x0 < 0.01:
            parts.append(glyph)  # of a ligature, whose first letter has the whole width
        elif bases and abs(bases[-1][0].x0 - glyph.x0) < 0.01 and abs(bases[-1][0].x1 - glyph.x1) < 0.01:
            bases[-1].append(glyph)  # the parts of a ligature, in the order of reading
        else:
            bases.append([glyph])
    bases.sort(key=lambda cluster: (cluster[0].x0 + cluster[0].x1) / 2)
    letters = [cluster for cluster in bases if not cluster[0].text.isspace()]
    for part in parts:
        if letters:
            edges = [min(abs(letter.x0 - part.x0), abs(letter.x1 - part.x0)) for letter, *_ in letters]
            letters[edges.index(min(edges))].append(part)
        else:
            bases.append([part])
    for mark, before in marks:
        middle = (mark.x0 + mark.x1) / 2
        if before and not before[0].text.isspace() and before[0].x0 - 0.3 <= middle <= before[0].x1 + 0.3:
            before.append(mark)
        elif letters:
            min(letters, key=lambda cluster: abs((cluster[0].x0 + cluster[0].x1) / 2 - middle)).append(mark)
    clusters: list[str] = []
    end: float | None = None
    for cluster in bases:
        is_space = cluster[0].text.isspace()
        if clusters and clusters[-1] != " " and (is_space or (end is not None and cluster[0].x0 - end > 0.18 * size)):
            clusters.append(" ")
        if not is_space:
            clusters.append(_standard("".join(glyph.text for glyph in cluster)))
        end = cluster[0].x1
    return clusters[:-1] if clusters and clusters[-1] == " " else clusters


def _standard(text: str) -> str:
    """Letters instead of the forms that they have in a word (U+FE8E is a final alef)."""
    return unicodedata.normalize("NFKC", text).replace(" ", "") if _PRESENTATION.search(text) else text


def _reversed_runs(clusters: list[str], run: re.Pattern[str], *, is_reversed: bool) -> str:
    """Join clusters, each run of the other direction reversed.

    is_reversed: the clusters are in reverse, so runs are found in the order from left to right.
    """
    order = clusters[::-1] if is_reversed else clusters
    visual = "".join(cluster[0] for cluster in order)
    pieces: list[str] = []
    position = 0
    for match in run.finditer(visual):
        pieces += order[position : match.start()]
        inside = order[match.start() : match.end()]
        pieces.append("".join(inside) if is_reversed else _reversed_runs(inside[::-1], _LTR_RUN, is_reversed=True))
        position = match.end()
    pieces += order[position:]
    return "".join(pieces[::-1] if is_reversed else pieces)


def _fix_brackets(text: str) -> str:
    """Mirror brackets if the first one closes: glyphs are named by their shape, which is mirrored on the page."""
    first = next((char for char in text if char in _OPENING + _CLOSING), "")
    if not first or first in _OPENING:
        return text
    return text.translate(_BRACKETS)
