"""Questions with their candidate sentences, as numbers: what ranking and confidence are fitted on."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sala_core.finder.confidence import QuestionInText
from sala_core.finder.features import NAMES, Floats, SearchedText, sentence_features
from sala_core.finder.question import parse_question
from sala_core.finder.question_texts import find_text
from sala_core.finder.related import related_words
from sala_core.finder.text_index import TextIndex, build_index, fold

NUM_CANDIDATES = 200
_MADE_PER_TEXT = 12
_WORD = re.compile(r"[^\W_]+")
_SIEVE = {"near3": 1.0, "own1": 1.0, "other1": 1.0, "bm25": 0.5, "meaning1": 0.5}
"""Features whose weighted sum chooses the candidates."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A question with its best candidates, n of them."""

    text: str
    question: str
    features: Floats
    """[n, len(NAMES)]"""
    rows: NDArray[np.int64]
    """[n] their rows in the index."""
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    """[n] their characters."""
    answers: NDArray[np.bool_]
    """[n] whether each holds an answer, or a part of one."""
    near: NDArray[np.bool_]
    """[n] whether it or a neighbor does."""
    has_answer: bool
    """False for a question that the text does not answer."""
    is_made: bool
    """Whether the question was made of the words of a sentence. Such ones are for the confidence alone."""
    in_text: QuestionInText


def load_examples(files: Sequence[Path], folders: Sequence[Path]) -> Iterator[Example]:
    """Read questions and compute the features of their candidates, one text after another.

    files: .jsonl as `assets/training/questions/README.md` describes them. folders: where the texts are.
    Raises FileNotFoundError for a text that is in none of them, ValueError for a passage that its text does not have.
    """
    by_text: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            question = json.loads(line)
            by_text[question["text"]].append(question)
    for name, questions in by_text.items():
        found = find_text(name, folders)
        if found is None:
            raise FileNotFoundError(f"{name} is in none of {', '.join(map(str, folders))}")
        text = found.read_text(encoding="utf-8", errors="replace")
        searched = SearchedText.of(build_index([text]), related_words())
        for question in questions:
            yield _example(searched, text, question)
        for question in exact_questions(searched.index, text, Random(name)):
            yield _example(searched, text, question | {"text": name}, is_made=True)


def exact_questions(index: TextIndex, text: str, rng: Random) -> Iterator[dict[str, Any]]:
    """Make questions of the words of sentences, and for each one with a name the same about somebody else.

    The first are answered by their sentence. The others are not in the text. So the confidence learns that a sentence
    with all words of a question answers it, and that one with another name does not.
    """
    num_words = np.bincount(index.sentence_of, minlength=index.num_sentences)
    good = (num_words >= 8) & (num_words <= 30) & ~index.is_heading & ~index.is_question
    names = [index.vocabulary[i] for i in np.nonzero(index.is_name)[0].tolist() if index.frequency[i] >= 2]
    rows = np.nonzero(good)[0].tolist()
    for row in rng.sample(rows, min(_MADE_PER_TEXT, len(rows))):
        passage = text[index.starts[row] : index.ends[row]]
        words = _WORD.findall(passage)
        kept = words[: max(4, round(len(words) * rng.uniform(0.5, 0.9)))]
        if rng.random() < 0.5:
            kept = [word for word in kept if rng.random() < 0.7] or kept
        yield {"question": f"What {' '.join(kept)}?", "passages": [passage]}
        own = [word for word in kept[1:] if word[0].isupper() and fold(word) in names]
        if own and len(names) > 1:
            other = rng.choice([name for name in names if name != fold(own[0])]).capitalize()
            changed = [other if word == own[0] else word for word in kept]
            yield {"question": f"What {' '.join(changed)}?", "passages": []}


def _example(searched: SearchedText, text: str, question: dict[str, Any], *, is_made: bool = False) -> Example:
    index, parsed = searched.index, parse_question(question["question"])
    features = sentence_features(searched, parsed)
    answers = answer_rows(index, text, question["passages"])
    near = answers.copy()
    near[1:] |= answers[:-1]
    near[:-1] |= answers[1:]
    sieve = sum(weight * features[:, NAMES.index(name)] for name, weight in _SIEVE.items())
    can_answer = (index.lengths > 0) & ~index.is_heading
    order = np.argsort(-np.where(can_answer, sieve, -np.inf), kind="stable")[: min(NUM_CANDIDATES, can_answer.sum())]
    return Example(
        text=question["text"],
        question=question["question"],
        features=features[order],
        rows=order,
        starts=index.starts[order],
        ends=index.ends[order],
        answers=answers[order],
        near=near[order],
        has_answer=bool(question["passages"]),
        is_made=is_made,
        in_text=QuestionInText.of(searched, parsed),
    )


def answer_rows(index: TextIndex, text: str, passages: Sequence[str]) -> NDArray[np.bool_]:
    """[S] whether each sentence overlaps a passage. Raises ValueError for a passage that the text does not have."""
    found = np.zeros(index.num_sentences, bool)
    for passage in passages:
        at = text.find(passage)
        if at < 0:
            raise ValueError(f"not in its text: {passage!r}")
        while at >= 0:
            found |= (index.starts < at + len(passage)) & (index.ends > at) & (index.lengths > 0)
            at = text.find(passage, at + 1)
    return found
