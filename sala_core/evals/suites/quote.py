"""Quotation: a sentence of the text is asked for by some of its words. The answer is that sentence."""

import re
from collections import Counter
from dataclasses import dataclass
from random import Random

from sala_core.evals.haystack import Haystack, PlantedText, chars_for, haystack_reading
from sala_core.evals.records import Question, Reading, SampleSpec, Task, require
from sala_core.evals.scoring import match_quotation
from sala_core.evals.words import split_list
from sala_core.text.prompt import SYSTEM_PROMPT
from sala_core.text.sentences import NOT_AFTER_A_TITLE, SENTENCE_END

_SENTENCE = re.compile(
    rf"(?:(?<=[.!?] )|(?<=[.!?]\n)|(?<=\n\n)){NOT_AFTER_A_TITLE}(?<! [A-Z]\.\s)"
    r"[A-Z][^.!?\"“”*|#:_]{40,220}"
    rf"(?<! [A-Z]){SENTENCE_END}(?=\s)"
)
_WORD = re.compile(r"[A-Za-z][a-z'’-]{3,}")
_STOPWORDS = frozenset(
    split_list(
        "about above after again against almost along already also although always among another around because "
        "been before began being below between both came come could each either even ever every from give given "
        "gone great have having here himself herself however into itself just know known less like little long "
        "made make many might more most much must near never next nothing once only other others over perhaps "
        "quite rather said same seemed several shall should since some something soon still such than that their "
        "them themselves then there these they this those though through till together towards under until upon "
        "very well went were what when where which while whom whose will with within without would your yours"
    )
)
_NUM_WORDS = 3  # of the sentence, in the question
_MAX_TOKENS = 128
_START_TOKENS = 8
_USED_SHARE = 0.94  # of the estimated text: sentences near its end could be cut off
_FORMS = (
    "Quote the sentence that mentions {}.",
    "Find the sentence with {}.",
    "Which sentence of the text speaks of {}? Quote it.",
)


@dataclass(frozen=True, kw_only=True)
class _Sentence:
    """A sentence that is asked for: its characters in the text, and the words in the question."""

    start: int
    end: int
    words: tuple[str, ...]


def quotation(spec: SampleSpec) -> Reading:
    """Ask for sentences of the text at the depths of the spec. Raises EvalError if it has too few suitable ones."""
    rng = spec.rng
    text = spec.texts.text(rng, chars_for(spec.length))
    end = _estimated_chars(spec, text)
    sentences = _choose(spec, text, int(end * _USED_SHARE), int(end * 1.1))
    texts = [rng.choice(_FORMS).format(_quoted_list(one.words)) for one in sentences]
    starts = [spec.counter.first_tokens(text[one.start : one.end], _START_TOKENS) for one in sentences]

    def questions(planted: PlantedText) -> tuple[Question, ...]:
        return tuple(
            Question(
                text=question_text,
                gold=(" ".join(text[one.start : one.end].split()),),
                max_tokens=_MAX_TOKENS,
                depth=round(one.start / max(1, len(planted.text)), 4),
                needles=((one.start, one.end),),
                hidden={"start": start},
            )
            for one, question_text, start in zip(sentences, texts, starts, strict=True)
        )

    reading = haystack_reading(spec, Haystack(text), (), questions, system=SYSTEM_PROMPT)
    document = reading.messages[0].text
    assert all(one.end <= len(document) for one in sentences), "the text was cut before a sentence that is asked for"
    return reading


def _estimated_chars(spec: SampleSpec, text: str) -> int:
    """Characters of the text that fit into the prompt beside template and question."""
    sample = text[: min(len(text), 4 * spec.length, 1 << 18)]
    rate = spec.counter.text_tokens(sample) / len(sample)
    return int((spec.length - 200) / rate)


def _choose(spec: SampleSpec, text: str, last: int, end: int) -> list[_Sentence]:
    """For every depth, the nearest sentence that some rare words identify.

    last: no chosen sentence ends after this character. end: sentences up to this character are compared with it.
    """
    spans = [match.span() for match in _SENTENCE.finditer(text, 0, end)]
    word_sets = [frozenset(_words(text[a:b])) for a, b in spans]
    sentences_with: dict[str, list[int]] = {}
    for i, words in enumerate(word_sets):
        for word in words:
            sentences_with.setdefault(word, []).append(i)
    counts = Counter(_words(text[:end]))
    chosen: dict[int, _Sentence] = {}
    for depth in spec.depths():
        near = sorted(range(len(spans)), key=lambda i: abs(spans[i][0] - depth * last))
        for i in near[:400]:
            if i in chosen or spans[i][1] > last:
                continue
            identifying = _identifying_words(spec.rng, text[slice(*spans[i])], i, sentences_with, counts)
            if identifying:
                chosen[i] = _Sentence(start=spans[i][0], end=spans[i][1], words=identifying)
                break
        else:
            require(False, "the text has too few sentences that can be asked for; give another --text")
    return list(chosen.values())


def _identifying_words(
    rng: Random, sentence: str, index: int, sentences_with: dict[str, list[int]], counts: Counter[str]
) -> tuple[str, ...]:
    """Words, as the sentence spells them, that no other sentence has together; () if the ones drawn do not qualify.

    sentences_with: the indices of the sentences that have a word. counts: how often a word occurs in the text.
    """
    spelled = {word.lower(): word for word in _WORD.findall(sentence)}
    own = [word for word in dict.fromkeys(_words(sentence)) if word in spelled]
    if len(own) < _NUM_WORDS + 1:  # the question must not hold all words of the sentence
        return ()
    rare = sorted(own, key=lambda word: counts[word])[: _NUM_WORDS + 2]
    picked = rng.sample(rare, min(_NUM_WORDS, len(rare)))
    others = set.intersection(*(set(sentences_with.get(word, ())) for word in picked)) - {index}
    if others:
        return ()
    return tuple(spelled[word] for word in own if word in picked)


def _words(text: str) -> list[str]:
    return [word for word in (found.lower() for found in _WORD.findall(text)) if word not in _STOPWORDS]


def _quoted_list(words: tuple[str, ...]) -> str:
    quoted = [f"“{word}”" for word in words]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


QUOTE = (Task(name="quote", make=quotation, score=match_quotation),)
