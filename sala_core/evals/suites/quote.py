"""A sentence of the text is asked for by some of its words; the answer is that sentence."""

import re
from collections import Counter
from dataclasses import dataclass
from random import Random

from sala_core.evals.haystack import Haystack, Planted, chars_for, fitted
from sala_core.evals.records import Question, Reading, SampleSpec, Task, require
from sala_core.evals.scoring import match_quotation
from sala_core.evals.words import listed
from sala_core.text.prompt import SYSTEM_PROMPT
from sala_core.text.sentences import NOT_AFTER_A_TITLE, SENTENCE_END

_SENTENCE = re.compile(
    rf"(?:(?<=[.!?] )|(?<=[.!?]\n)|(?<=\n\n)){NOT_AFTER_A_TITLE}(?<! [A-Z]\.\s)"
    r"[A-Z][^.!?\"“”*|#:_]{40,220}"
    rf"(?<! [A-Z]){SENTENCE_END}(?=\s)"
)
_WORD = re.compile(r"[A-Za-z][a-z'’-]{3,}")
_STOPWORDS = frozenset(
    listed(
        "about above after again against almost along already also although always among another around because "
        "been before began being below between both came come could each either even ever every from give given "
        "gone great have having here himself herself however into itself just know known less like little long "
        "made make many might more most much must near never next nothing once only other others over perhaps "
        "quite rather said same seemed several shall should since some something soon still such than that their "
        "them themselves then there these they this those though through till together towards under until upon "
        "very well went were what when where which while whom whose will with within without would your yours"
    )
)
_WORDS_ASKED = 3
_MAX_TOKENS = 128
_START_TOKENS = 8
_BODY_SHARE = 0.94  # sentences stand before this share of the estimated text, so that the cut spares them
_FORMS = (
    "Quote the sentence that mentions {}.",
    "Find the sentence with {}.",
    "Which sentence of the text speaks of {}? Quote it.",
)


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """A sentence's characters in the filler and the words it is asked for by."""

    start: int
    end: int
    words: tuple[str, ...]


def quoting(order: SampleSpec) -> Reading:
    """Ask for sentences of the text itself, at the ordered depths. Raises EvalError where the text has too few."""
    rng = order.rng
    text = order.texts.text(rng, chars_for(order.length))
    end = _estimated_chars(order, text)
    chosen = _choose(order, text, int(end * _BODY_SHARE), int(end * 1.1))
    asked = [rng.choice(_FORMS).format(_listed(one.words)) for one in chosen]
    starts = [order.counter.first_tokens(text[one.start : one.end], _START_TOKENS) for one in chosen]

    def questions(planted: Planted) -> tuple[Question, ...]:
        return tuple(
            Question(
                text=question,
                gold=(" ".join(text[one.start : one.end].split()),),
                max_tokens=_MAX_TOKENS,
                depth=round(one.start / max(1, len(planted.text)), 4),
                needles=((one.start, one.end),),
                hidden={"start": start},
            )
            for one, question, start in zip(chosen, asked, starts, strict=True)
        )

    reading = fitted(order, Haystack(text), (), questions, system=SYSTEM_PROMPT)
    body = reading.messages[0].text
    assert all(one.end <= len(body) for one in chosen), "the text was cut before a sentence that is asked for"
    return reading


def _estimated_chars(order: SampleSpec, text: str) -> int:
    """Characters of the text that fit, less what template and question take."""
    sample = text[: min(len(text), 4 * order.length, 1 << 18)]
    rate = order.counter.text_tokens(sample) / len(sample)
    return int((order.length - 200) / rate)


def _choose(order: SampleSpec, text: str, last: int, end: int) -> list[_Chosen]:
    """For every depth the nearest sentence that stands once and that few rare words of it tell from all others."""
    found = [match.span() for match in _SENTENCE.finditer(text, 0, end)]
    bags = [frozenset(_words(text[a:b])) for a, b in found]
    holders: dict[str, list[int]] = {}
    for i, bag in enumerate(bags):
        for word in bag:
            holders.setdefault(word, []).append(i)
    total = Counter(_words(text[:end]))
    chosen: dict[int, _Chosen] = {}
    for depth in order.depths():
        near = sorted(range(len(found)), key=lambda i: abs(found[i][0] - depth * last))
        for i in near[:400]:
            if i in chosen or found[i][1] > last:
                continue
            words = _telling(order.rng, text[slice(*found[i])], i, holders, total)
            if words:
                chosen[i] = _Chosen(start=found[i][0], end=found[i][1], words=words)
                break
        else:
            require(False, "the text has too few sentences that can be asked for; give another --text")
    return list(chosen.values())


def _telling(
    rng: Random, sentence: str, index: int, holders: dict[str, list[int]], total: Counter[str]
) -> tuple[str, ...]:
    """Words that together stand in no other sentence, in the sentence's own spelling; () if there are none."""
    spelled = {word.lower(): word for word in _WORD.findall(sentence)}
    own = [word for word in dict.fromkeys(_words(sentence)) if word in spelled]
    if len(own) < _WORDS_ASKED + 1:  # asked for by some of its words, never by all
        return ()
    rare = sorted(own, key=lambda word: total[word])[: _WORDS_ASKED + 2]
    picked = rng.sample(rare, min(_WORDS_ASKED, len(rare)))
    others = set.intersection(*(set(holders.get(word, ())) for word in picked)) - {index}
    if others:
        return ()
    return tuple(spelled[word] for word in own if word in picked)


def _words(text: str) -> list[str]:
    return [word for word in (found.lower() for found in _WORD.findall(text)) if word not in _STOPWORDS]


def _listed(words: tuple[str, ...]) -> str:
    quoted = [f"“{word}”" for word in words]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


QUOTE = (Task(name="quote", make=quoting, score=match_quotation),)
