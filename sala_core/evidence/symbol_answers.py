"""Answers to questions about names in code: the definitions or uses, as code, each with its document."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from sala_core.events import Evidence, Quotation
from sala_core.evidence.citations import evidence, quotation
from sala_core.evidence.quotation_marks import as_code
from sala_core.evidence.searched import FoundAnswer, SearchedDocument
from sala_core.finder.symbols import SymbolPlace, SymbolPlaces, SymbolQuestion
from sala_core.ingest import SourceMap

CONFIDENCE = 0.95
"""Of an answer about a name: how often what is shown is the definition or a use (`tests/measure/symbols.py`). Whether
that answers the question is for the reader to judge."""

MAX_PLACES = 8
_SHOWN, _MAX_SHOWN_CHARS = 4, 900


@dataclass(frozen=True, kw_only=True)
class _Located:
    place: SymbolPlace
    document: SearchedDocument
    lines: SourceMap


def symbol_answer(asked: SymbolQuestion, found: SymbolPlaces, documents: Sequence[SearchedDocument]) -> FoundAnswer:
    """The first places in full, and the others as evidence.

    Args:
        asked: the question.
        found: at least one place.
        documents: of the places, by number.
    """
    located = [
        _Located(place=place, document=documents[place.text], lines=lines)
        for place in found.places
        if (lines := documents[place.text].lines()) is not None
    ]
    shown = located[:1]
    for each in located[1:_SHOWN]:
        if sum(other.place.end - other.place.start for other in (*shown, each)) <= _MAX_SHOWN_CHARS:
            shown.append(each)
    parts = [_heading(asked, found, len(shown)), *map(_shown, shown)]
    return FoundAnswer(
        text="\n\n".join(filter(None, parts)),
        quotations=tuple(map(_quotation, shown)),
        evidence=tuple(_evidence(each, found.count) for each in located),
        confidence=CONFIDENCE,
    )


def _heading(asked: SymbolQuestion, found: SymbolPlaces, num_shown: int) -> str:
    """The sentence above the places; "" above one definition."""
    count, name = found.count, f"`{asked.name}`"
    first = f"; {num_shown} of them:" if count > num_shown else ":"
    places = "one place" if count == 1 else f"{count:,} places"
    if found.are_uses:
        return f"{name} is used in {places}{first}"
    unused = f"Nothing here uses {name}. " if asked.uses else ""
    if count == 1:
        return unused + ("It is defined here:" if unused else "")
    return f"{unused}{name} is defined in {places}{first}"


def _shown(located: _Located) -> str:
    """The document and the definition that holds the place, then the code, without the indentation of all lines."""
    place, name = located.place, located.document.name
    inside = f", in `{place.inside}`" if place.inside else ""
    code = _code(located)
    fence = "```"
    while fence in code:
        fence += "`"
    return f"{as_code(name)}{inside}:\n\n{fence}{PurePath(name).suffix[1:]}\n{code}\n{fence}"


def _code(located: _Located) -> str:
    """The lines from the first character's on, as they are in the document but for the common indentation."""
    lines, place = located.lines, located.place
    quoted = lines.place_of_chars(place.start, place.end)
    whole = lines.whole_lines(quoted)
    before = whole[: len(whole) - len(whole.lstrip(" \t"))]
    return textwrap.dedent(before + lines.text(quoted)).rstrip()


def _quotation(located: _Located) -> Quotation:
    place = located.lines.place_of_chars(located.place.start, located.place.end)
    return quotation(located.document, place, _code(located))


def _evidence(located: _Located, count: int) -> Evidence:
    around = located.lines.place_of_chars(*located.place.context)
    return evidence(located.document, around, located.lines.text(around), 1 / count)
