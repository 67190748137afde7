"""Questions that a sentence of the text answers, and questions that the text does not answer."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sala_core.text.sentences import NOT_AFTER_A_TITLE, SENTENCE_END
from sala_core.train.data.facts import Fact, invented_fact, invented_name

WORD = re.compile(r"[A-Za-z][\w'’-]+")
_SENTENCE = re.compile(
    rf"(?:(?<=[.!?]\s)|(?<=[.!?][\"”]\s)|(?<=\n\n)){NOT_AFTER_A_TITLE}"
    rf"[A-Z0-9`][^.!?\"“”]{{25,220}}?{SENTENCE_END}(?=\s)",
    re.DOTALL,
)
_ANY_END = re.compile(r"[.!?]")
_DEFINITION = re.compile(r"^[ \t]*((?:def|class|fn|struct|enum|trait) (\w{3,})[^\n]{0,80})$", re.MULTILINE)
_QUESTION_ANSWER = re.compile(r"^([^\n]{15,120}\?)\n([A-Z][^.\n\"]{20,250}\.)", re.MULTILINE)
_NAME = re.compile(r"(?<=[a-z,'] )[A-Z][a-z]{3,}")
_QUOTED = (("", ""),) * 6 + (("“", "”"), ('"', '"'))
_MENTIONS = (
    "Quote the sentence that mentions {}.",
    "What does the text say about {}?",
    "Where does the text mention {}?",
    "Find the sentence with {}.",
    "Who or what is {}?",
    "Tell me about {}.",
    "Which sentence speaks of {}?",
    "Quote what is said of {}.",
)
_DEFINED = (
    "Where is {} defined?",
    "Show the definition of {}.",
    "Which line defines {}?",
    "Where is `{}` defined?",
    "Quote the definition of `{}`.",
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a text. spans: start and end characters of the sentences that answer; () for no answer."""

    text: str
    spans: tuple[tuple[int, int], ...] = ()


def make_questions(
    rng: random.Random, body: str, planted: list[tuple[str, Fact]], frequency: Mapping[str, int]
) -> list[Question]:
    """Return questions about planted facts, definitions and sentences, and questions that the text itself contains.

    Some more questions are about facts that the text does not tell.

    Args:
        rng: source of randomness.
        body: the text.
        planted: sentences that may stand in the text, with their facts.
        frequency: of words in the corpus, 0 for unknown words.
    """
    questions = _about_planted(rng, body, planted)
    for match in _QUESTION_ANSWER.finditer(body):
        questions.append(Question(text=match[1], spans=(match.span(2),)))
    defined = Counter(match[2] for match in _DEFINITION.finditer(body))
    definitions = [match for match in _DEFINITION.finditer(body) if defined[match[2]] == 1]
    for match in rng.sample(definitions, min(len(definitions), 3 + len(body) // 3000)):
        questions.append(Question(text=rng.choice(_DEFINED).format(match[2]), spans=(match.span(1),)))
    sentences = [
        match
        for match in _SENTENCE.finditer(body)
        if not any(fact in match[0] and fact != match[0] for fact, _ in planted)
    ]
    parts = _ANY_END.split(body)
    for match in rng.sample(sentences, min(len(sentences), 2 + len(body) // 700)):
        if rng.random() < 0.5:
            key = _key_phrase(rng, match[0], body, frequency)
        else:
            key = _key_words(rng, match[0], parts, frequency)
        if key:
            questions.append(Question(text=rng.choice(_MENTIONS).format(key), spans=(match.span(),)))
    questions += _about_absent(rng, planted, 1 + len(questions) // 7)
    return questions


def _about_planted(rng: random.Random, body: str, planted: list[tuple[str, Fact]]) -> list[Question]:
    located: list[tuple[Fact, int, int]] = []
    for sentence, fact in planted:
        start = body.find(sentence)
        if start >= 0 and body.count(sentence) == 1:
            located.append((fact, start, start + len(sentence)))
    by_key: dict[tuple[str, ...], list[tuple[Fact, int, int]]] = {}
    for one in located:
        by_key.setdefault(one[0].questions, []).append(one)
    questions = []
    for same_key in by_key.values():
        fact = same_key[0][0]
        spans = tuple(sorted((start, end) for _, start, end in same_key))
        texts = fact.plural if len(same_key) > 1 and fact.plural else fact.questions
        questions.append(Question(text=rng.choice(texts), spans=spans))
    questions += _about_several_keys(rng, located)
    if len(questions) > 1 and rng.random() < 0.3:
        pair = rng.sample(questions, 2)
        spans = tuple(span for question in pair for span in question.spans)
        questions.append(Question(text=" ".join(question.text for question in pair), spans=spans))
    return questions


def _about_several_keys(rng: random.Random, located: list[tuple[Fact, int, int]]) -> list[Question]:
    """Return one question about two to four keys that have a single value each, or none."""
    num_values = Counter(fact.key for fact, _, _ in located)
    single = [one for one in located if one[0].together and num_values[one[0].key] == 1]
    if len(single) < 2 or rng.random() < 0.5:
        return []
    chosen = [one for one in single if one[0].together == single[0][0].together]
    chosen = rng.sample(chosen, min(len(chosen), rng.randint(2, 4)))
    keys = [fact.key for fact, _, _ in chosen]
    if len(keys) < 2:
        return []
    text = chosen[0][0].together.format(_join_with_and(keys))
    return [Question(text=text, spans=tuple((start, end) for _, start, end in chosen))]


def _about_absent(rng: random.Random, planted: list[tuple[str, Fact]], count: int) -> list[Question]:
    """Return questions about facts that the text does not tell. Most differ from a planted fact in one name only."""
    questions = []
    for _ in range(count):
        if rng.random() < 0.3:
            continue
        text = rng.choice(invented_fact(rng).questions)
        if planted and rng.random() < 0.6:
            answered = rng.choice(rng.choice(planted)[1].questions)
            names = _NAME.findall(answered)
            if names:
                name = rng.choice(names)
                text = answered.replace(name, invented_name(rng))
        questions.append(Question(text=text))
    return questions


def _key_words(rng: random.Random, sentence: str, parts: list[str], frequency: Mapping[str, int]) -> str | None:
    """Return two to four rare words of `sentence`, in random order, that no other part of the text has together."""
    words = [word for word in dict.fromkeys(WORD.findall(sentence)) if len(word) > 3]
    rare = sorted(words, key=lambda word: frequency[word])[:5]
    if len(rare) < 3:
        return None
    chosen = rng.sample(rare, rng.randint(2, min(4, len(rare))))
    if sum(all(word in part for word in chosen) for part in parts) > 1:
        return None
    before, after = rng.choice(_QUOTED)
    return _join_with_and([f"{before}{word}{after}" for word in chosen])


def _join_with_and(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _key_phrase(rng: random.Random, sentence: str, body: str, frequency: Mapping[str, int]) -> str | None:
    """Return one to four adjacent words of `sentence` that contain a word that occurs once in `body`; None if none."""
    words = list(WORD.finditer(sentence))
    rare = sorted((frequency[word[0]], index) for index, word in enumerate(words))[:3]
    unique = [index for _, index in rare if body.count(words[index][0]) == 1]
    if not unique:
        return None
    first = last = unique[0]
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        if rng.random() < 0.5 and first > 0:
            first -= 1
        elif last + 1 < len(words):
            last += 1
    before, after = rng.choice(_QUOTED)
    return f"{before}{sentence[words[first].start() : words[last].end()]}{after}"
