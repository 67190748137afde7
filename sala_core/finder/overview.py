"""Questions about a text as a whole: what it is about, who wrote it, its parts and names, how often a word is in it.

No sentence answers them. What can be said of them without understanding is counted or read off the text's form.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from sala_core.finder.characters import fold
from sala_core.finder.overview_forms import FORMS, Overview
from sala_core.finder.parts import KINDS

__all__ = ["Overview", "OverviewQuestion", "overview_question"]


@dataclass(frozen=True, kw_only=True)
class OverviewQuestion:
    """What is asked. what: the kind of part, "chapter", or the words that are counted; "" for anything else."""

    kind: Overview
    what: str = ""


_POLITE = re.compile(
    r"^(?:please|can you|could you|would you|i want|hi|hello|ok|bitte|kannst du|hallo|s'il (?:te|vous) pla[iî]t|peux-tu"
    r"|pouvez-vous|bonjour|por favor|puedes|hola|per favore|puoi|ciao)\b[ ,]*"
    r"|[ ,]*\b(?:please|bitte|s'il (?:te|vous) pla[iî]t|por favor|per favore)$",
    re.IGNORECASE,
)


def overview_question(question: str) -> OverviewQuestion | None:
    """What a question asks of a text as a whole; None for any other question."""
    asked = " ".join(re.sub(r"[¿¡]|[?!.,;:]+(?=\s|$)", " ", question.replace("’", "'")).split())
    while asked != (shorter := _POLITE.sub("", asked).strip()):
        asked = shorter
    plain = fold(asked)
    for kind, pattern in _patterns():
        if (match := pattern.fullmatch(plain)) is not None:
            name = next((name for name, found in match.groupdict().items() if found), None)
            what = asked[slice(*match.span(name))] if name else ""
            is_word = kind is Overview.OCCURRENCES
            what = what.strip("\"'“”„«»` ") if is_word else KINDS.get(what.lower(), what.lower())
            return OverviewQuestion(kind=kind, what=what)
    return None


@lru_cache(1)
def _patterns() -> tuple[tuple[Overview, re.Pattern[str]], ...]:
    """What is asked, and the form of the question. Compiled at the first question: it takes 30 ms."""
    return tuple((kind, re.compile(form)) for kind, form in FORMS)
