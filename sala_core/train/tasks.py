"""Training rows: copying, plain text, and conversations about documents, answered by quoting from them."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer

from sala_core.train.corpus import SourceText
from sala_core.train.facts import Fact, invented_fact, similar_facts
from sala_core.train.tokenizer_training import CONTROL_TOKENS, END_OF_TEXT, TURN_END, TURN_START

NOT_SAID = "The text does not say."
SYSTEM_TEXTS = (
    "Answer from the documents above and quote them.",
    "You answer questions about the documents that follow. Quote the sentence that answers.",
    "You are a careful reader. Answer from the documents.",
    "You are a helpful assistant.",
)
TEXT_WEIGHT = 0.3
DOCUMENT_WEIGHT = 0.1
_FIRST_WORDS_WEIGHT, _FIRST_WORDS_TOKENS = 6.0, 4
_KIND_WEIGHTS = {"books": 50, "peps": 15, "rust-book": 7, "tldr": 6, "medquad": 22}
_OTHER_KINDS_WEIGHT = 20
_SENTENCE = re.compile(r"[A-Z0-9`][^.!?\"“”]{25,220}?(?<!Mr)(?<!Mrs)(?<!Dr)(?<!St)[.!?](?=\s)", re.DOTALL)
_DEFINITION = re.compile(r"^[ \t]*((?:def|class|fn|struct|enum|trait) (\w{3,})[^\n]{0,80})$", re.MULTILINE)
_ASKED = re.compile(r"^([^\n]{15,120}\?)\n([A-Z][^.\n\"]{20,250}\.)", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z][\w'’-]+")
_MENTIONS = (
    "Quote the sentence that mentions {}.",
    "What does the text say about {}?",
    "Where does the text mention {}?",
    "Find the sentence with {}.",
    "Who or what is {}?",
    "Tell me about {}.",
)


@dataclass
class Row:
    """One training row under construction; `queries` are (position, gold start, gold end, turn start)."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    queries: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add(self, ids: list[int], weight: float) -> None:
        self.ids.extend(ids)
        self.weights.extend([weight] * len(ids))


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a body of text; `start`, `end` are the answer's characters in it (-1: not said)."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A document inside a row: its body, the row index of its first token, each token's first character."""

    body: str
    first: int
    starts: np.ndarray
    planted: list[tuple[str, Fact]]


class TaskMaker:
    """Makes rows from the corpus; everything random comes from the generator handed in."""

    def __init__(self, tokenizer: Tokenizer, texts: list[SourceText]) -> None:
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.control: dict[str, int] = {token: tokenizer.token_to_id(token) or 0 for token in CONTROL_TOKENS}
        self.vocab_size = tokenizer.get_vocab_size()
        self.by_kind: dict[str, list[SourceText]] = {}
        self.frequency: Counter[str] = Counter()
        for text in texts:
            self.by_kind.setdefault(text.kind, []).append(text)
            self.frequency.update(_WORD.findall(text.text[:200_000]))
        self.kinds = [kind for kind in _KIND_WEIGHTS if kind in self.by_kind]
        self.kinds += sorted(set(self.by_kind) - set(self.kinds))

    def encode(self, text: str) -> list[int]:
        """Content ids: control tokens in `text` stay text."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def random_copy(self, rng: random.Random, length: int) -> Row:
        """A random run of tokens, repeated to the end; only repeats can be predicted."""
        numbers = np.random.default_rng(rng.getrandbits(32))
        symbols = numbers.integers(len(self.control), self.vocab_size, size=2 ** rng.randint(5, 12))
        run = numbers.choice(symbols, size=rng.randint(8, max(9, length // 2))).tolist()
        row = Row()
        row.add(run, 0.01)
        while len(row.ids) <= length:
            row.add(run, 0.5)
        return row

    def text_copy(self, rng: random.Random, length: int) -> Row:
        """Passages of real text, said again in another order."""
        passages = [self.passage(rng, rng.randint(20, max(21, length // 6)))[1] for _ in range(3)]
        row = Row()
        for passage in passages:
            row.add(passage, TEXT_WEIGHT)
        while len(row.ids) <= length:
            passage = rng.choice(passages)
            row.add(passage[:4], 0.1)
            row.add(passage[4:], 0.7)
        return row

    def plain_text(self, rng: random.Random, length: int) -> Row:
        """Consecutive text for language modelling."""
        row = Row()
        while len(row.ids) <= length:
            row.add(self.passage(rng, length + 1)[1], TEXT_WEIGHT)
            row.add([self.control[END_OF_TEXT]], TEXT_WEIGHT)
        return row

    def conversation(self, rng: random.Random, length: int, share: float | None = None) -> Row:
        """System message, documents, then questions and answers until the row is full.

        `share` is the part of the row that the documents take; drawn at random if None.
        """
        row = Row()
        self.message(row, "system", self.encode(rng.choice(SYSTEM_TEXTS)))
        room = int((length - 40) * (rng.uniform(0.35, 0.75) if share is None else share))
        num_documents = rng.choice((1, 1, 1, 2, 3)) if room > 300 else 1
        asked: list[tuple[Question, Reading | None]] = []
        for _ in range(num_documents):
            reading = self.read_document(row, rng, room // num_documents)
            asked.extend((question, reading) for question in self.questions(rng, reading.body, reading.planted))
        rng.shuffle(asked)
        while len(row.ids) <= length:
            for question, source in asked or [(Question(text="What is said?", start=-1, end=-1), None)]:
                self._turn(row, question, source)
        return row

    def message(self, row: Row, role: str, content: list[int]) -> None:
        row.add([self.control[TURN_START], *self.encode(role + "\n"), *content], 0.0)
        row.add([self.control[TURN_END], *self.encode("\n")], 0.0)

    def read_document(self, row: Row, rng: random.Random, tokens: int) -> Reading:
        source, text = self._excerpt(rng, tokens)
        count = rng.randint(1, 3) if tokens < 400 else rng.randint(2, 6)
        alike = rng.random() < 0.4
        facts = similar_facts(rng, count) if alike else [invented_fact(rng) for _ in range(count)]
        text, planted = _plant(rng, text[: int(tokens * 3.4)], facts)
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        ids, offsets = encoding.ids[:tokens], encoding.offsets[:tokens]
        body = text[: offsets[-1][1]] if offsets else ""
        header = self.encode("user\n") + self.encode(f"Document: {source.name}\n\n")
        row.add([self.control[TURN_START], *header], 0.0)
        first = len(row.ids)
        row.add(ids, DOCUMENT_WEIGHT)
        row.add([self.control[TURN_END], *self.encode("\n")], 0.0)
        return Reading(body=body, first=first, starts=np.array([start for start, _ in offsets]), planted=planted)

    def _turn(self, row: Row, question: Question, reading: Reading | None) -> None:
        asked_at = len(row.ids)
        self.message(row, "user", self.encode(question.text))
        row.add([self.control[TURN_START], *self.encode("assistant\n")], 0.0)
        answer_at = len(row.ids)
        if question.start < 0 or reading is None:
            row.add(self.encode(NOT_SAID), 2.0)
        else:
            row.add(self.encode(f'"{reading.body[question.start : question.end]}"'), 1.0)
            gold = np.searchsorted(reading.starts, [question.start, question.end - 1], side="right") - 1
            first_words = range(answer_at, min(answer_at + _FIRST_WORDS_TOKENS, len(row.ids)))
            for position in first_words:
                row.weights[position] = _FIRST_WORDS_WEIGHT
            span = (reading.first + int(gold[0]), reading.first + int(gold[1]) + 1)
            step = max(1, (len(row.ids) - answer_at) // 4)
            for position in ((asked_at + answer_at) // 2, *range(answer_at - 1, len(row.ids) - 1, step)):
                row.queries.append((position, *span, asked_at))
        row.add([self.control[TURN_END]], 1.0)
        row.add(self.encode("\n"), 0.0)

    def questions(self, rng: random.Random, body: str, planted: list[tuple[str, Fact]]) -> list[Question]:
        questions = []
        for sentence, fact in planted:
            start = body.find(sentence)
            if start >= 0 and body.count(sentence) == 1:
                questions.append(Question(text=rng.choice(fact.questions), start=start, end=start + len(sentence)))
        for match in _ASKED.finditer(body):
            questions.append(Question(text=match[1], start=match.start(2), end=match.end(2)))
        for match in _DEFINITION.finditer(body):
            if body.count(match[1]) == 1 and rng.random() < 0.5:
                text = rng.choice(("Where is {} defined?", "Show the definition of {}.")).format(match[2])
                questions.append(Question(text=text, start=match.start(1), end=match.end(1)))
        sentences = [
            match
            for match in _SENTENCE.finditer(body)
            if not any(planted_one in match[0] and planted_one != match[0] for planted_one, _ in planted)
        ]
        for match in rng.sample(sentences, min(len(sentences), 2 + len(body) // 700)):
            key = self._key_phrase(rng, match[0], body)
            if key:
                text = rng.choice(_MENTIONS).format(key)
                questions.append(Question(text=text, start=match.start(), end=match.end()))
        for _ in range(1 + len(questions) // 10):
            if rng.random() < 0.6:
                questions.append(Question(text=rng.choice(invented_fact(rng).questions), start=-1, end=-1))
        return questions

    def _key_phrase(self, rng: random.Random, sentence: str, body: str) -> str | None:
        """One to four words around a rare word of `sentence` that stands once in `body`, if any."""
        words = list(_WORD.finditer(sentence))
        rare = sorted((self.frequency[word[0]], index) for index, word in enumerate(words))[:3]
        once = [index for _, index in rare if body.count(words[index][0]) == 1]
        if not once:
            return None
        first = last = once[0]
        for _ in range(rng.choice((0, 0, 1, 2, 3))):
            if rng.random() < 0.5 and first > 0:
                first -= 1
            elif last + 1 < len(words):
                last += 1
        return sentence[words[first].start() : words[last].end()]

    def passage(self, rng: random.Random, tokens: int) -> tuple[SourceText, list[int]]:
        """About `tokens` ids cut from a random text at a word boundary."""
        source, text = self._excerpt(rng, tokens)
        return source, self.encode(text)[:tokens]

    def _excerpt(self, rng: random.Random, tokens: int) -> tuple[SourceText, str]:
        kind = rng.choices(self.kinds, weights=[_KIND_WEIGHTS.get(kind, _OTHER_KINDS_WEIGHT) for kind in self.kinds])[0]
        source = rng.choice(self.by_kind[kind])
        size = int(tokens * 4.2)
        start = rng.randint(0, max(0, len(source.text) - size))
        while 0 < start < len(source.text) and not source.text[start - 1].isspace():
            start += 1
        return source, source.text[start : start + size]


def _plant(rng: random.Random, text: str, facts: list[Fact]) -> tuple[str, list[tuple[str, Fact]]]:
    """Insert each fact's sentence between two sentences or as a paragraph of its own."""
    planted = []
    for fact in facts:
        gaps = [match.end() for match in re.finditer(r"[.!?][\"”]?\s+|\n+", text)] or [len(text)]
        at = rng.choice(gaps)
        after = " " if at and text[at - 1] == " " else rng.choice(("\n", "\n", "\n\n", " "))
        text = f"{text[:at]}{fact.sentence}{after}{text[at:]}"
        planted.append((fact.sentence, fact))
    return text, planted
