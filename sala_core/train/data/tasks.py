"""Training rows: copying, plain text, and conversations about documents, answered by quoting from them."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer

from sala_core.text.sentences import SENTENCE_END
from sala_core.train.data.corpus import SourceText
from sala_core.train.data.facts import Fact, invented_fact, keyed_facts, similar_facts
from sala_core.train.data.questions import WORD, Question, ask
from sala_core.train.data.tokenizer_training import CONTROL_TOKENS, END_OF_TEXT, TURN_END, TURN_START

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
_LISTS_SHARE = 0.15
_KIND_WEIGHTS = {"books": 46, "peps": 12, "rust-book": 6, "tldr": 5, "medquad": 18, "code": 13}
MEMORY_TOKENS, _MEMORY_EVERY = 4, 10
"""How many of a sentence's first tokens are told, and of how many tokens one is asked."""
_OTHER_KINDS_WEIGHT = 20
_BEGINNING = re.compile(
    rf"""\A\s*|{SENTENCE_END}["”’)]?\s+|\n\s*\n\s*"""
    r"""|(?<=[:;{})"])[ \t]*\n\s*|^[^\n]{0,44}\n[ \t]*""",
    re.MULTILINE,
)


@dataclass
class Row:
    """One training row under construction.

    queries: (position, gold start, gold end, turn start) of positions that must find a span; memory: (position, first
    tokens of the sentence it stands in, as a quotation begins; -1 for those that come after the position). documents:
    (start, end) of their own tokens. turns: (start of a question's turn, start of its answer, spans that answer it).
    """

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    queries: list[tuple[int, int, int, int]] = field(default_factory=list)
    memory: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    documents: list[tuple[int, int]] = field(default_factory=list)
    turns: list[tuple[int, int, list[tuple[int, int]]]] = field(default_factory=list)

    def add(self, ids: list[int], weight: float) -> None:
        self.ids.extend(ids)
        self.weights.extend([weight] * len(ids))


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
            self.frequency.update(WORD.findall(text.text[:200_000]))
        self.kinds = [kind for kind in _KIND_WEIGHTS if kind in self.by_kind]
        self.kinds += sorted(set(self.by_kind) - set(self.kinds))

    def encode(self, text: str) -> list[int]:
        """Content ids: control tokens in `text` stay text."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def random_copy(self, rng: random.Random, length: int) -> Row:
        """A random run of tokens, repeated to the end; only repeats can be predicted."""
        numbers = np.random.default_rng(rng.getrandbits(32))
        symbols = numbers.integers(len(self.control), self.vocab_size, size=2 ** rng.randint(3, 12))
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
        """System message, documents, questions and answers, then others, until the row is full.

        `share` is the part of the row that the documents take; drawn at random if None.
        """
        row = Row()
        self.message(row, "system", self.encode(rng.choice(SYSTEM_TEXTS)))
        while len(row.ids) <= length:
            left = max(80, length - 40 - len(row.ids))
            room = int(left * (rng.uniform(0.35, 0.75) if share is None else share))
            num_documents = rng.choice((1, 1, 1, 2, 3)) if room > 300 else 1
            asked: list[tuple[Question, Reading]] = []
            for _ in range(num_documents):
                reading = self.read_document(row, rng, room // num_documents)
                asked.extend(
                    (question, reading) for question in ask(rng, reading.body, reading.planted, self.frequency)
                )
            rng.shuffle(asked)
            for question, source in asked:
                self._turn(row, question, source)
        return row

    def message(self, row: Row, role: str, content: list[int]) -> None:
        row.add([self.control[TURN_START], *self.encode(role + "\n"), *content], 0.0)
        row.add([self.control[TURN_END], *self.encode("\n")], 0.0)

    def read_document(self, row: Row, rng: random.Random, tokens: int) -> Reading:
        if rng.random() < _LISTS_SHARE:
            name, text, planted = _register(rng, tokens)
        else:
            source, text = self._excerpt(rng, tokens)
            count = rng.randint(1, 3) if tokens < 400 else rng.randint(2, 8)
            alike = rng.random() < 0.5
            makers = (similar_facts, keyed_facts) if alike else (_any_facts,)
            facts = rng.choice(makers)(rng, count)
            text, planted = _plant(rng, text[: int(tokens * 3.4)], facts)
            name = source.name
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        ids, offsets = encoding.ids[:tokens], encoding.offsets[:tokens]
        body = text[: offsets[-1][1]] if offsets else ""
        header = self.encode("user\n") + self.encode(f"Document: {name}\n\n")
        row.add([self.control[TURN_START], *header], 0.0)
        reading = Reading(
            body=body, first=len(row.ids), starts=np.array([start for start, _ in offsets]), planted=planted
        )
        row.add(ids, DOCUMENT_WEIGHT)
        row.documents.append((reading.first, len(row.ids)))
        row.memory.extend(self._sentence_memory(rng, reading))
        row.add([self.control[TURN_END], *self.encode("\n")], 0.0)
        return reading

    def _sentence_memory(self, rng: random.Random, reading: Reading) -> list[tuple[int, tuple[int, ...]]]:
        """How the sentences of some of the document's tokens begin."""
        beginnings = np.array(sorted({match.end() for match in _BEGINNING.finditer(reading.body)}))
        count = len(reading.starts)
        if not count:
            return []
        chosen = sorted(rng.sample(range(count), max(1, count // _MEMORY_EVERY)))
        at = beginnings[np.searchsorted(beginnings, reading.starts[chosen] + 1, side="right") - 1]
        texts = ['"' + reading.body[start : start + 40] for start in at.tolist()]
        quoted = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        firsts = np.searchsorted(reading.starts, at + 1, side="right") - 1
        memory = []
        for token, first, encoding in zip(chosen, firsts.tolist(), quoted, strict=True):
            wanted = (encoding.ids[1:] + [-1] * MEMORY_TOKENS)[:MEMORY_TOKENS]
            known = token - first + 1
            memory.append((reading.first + token, tuple(w if i < known else -1 for i, w in enumerate(wanted))))
        return memory

    def _turn(self, row: Row, question: Question, reading: Reading) -> None:
        asked_at = len(row.ids)
        self.message(row, "user", self.encode(question.text))
        row.add([self.control[TURN_START], *self.encode("assistant\n")], 0.0)
        if not question.spans:
            first, *rest = self.encode(NOT_SAID)
            row.add([first], _FIRST_WORDS_WEIGHT)
            row.add(rest, 2.0)
        else:
            spans: list[tuple[int, int]] = []
            row.turns.append((asked_at, len(row.ids), spans))
            asking = [(asked_at * (4 - part) + len(row.ids) * part) // 4 for part in (2, 3)]
            for number, (start, end) in enumerate(question.spans):
                answer_at = len(row.ids)
                row.add(self.encode(f'{" " if number else ""}"{reading.body[start:end]}"'), 1.0)
                for position in range(answer_at, min(answer_at + _FIRST_WORDS_TOKENS, len(row.ids))):
                    row.weights[position] = _FIRST_WORDS_WEIGHT
                gold = np.searchsorted(reading.starts, [start, end - 1], side="right") - 1
                span = (reading.first + int(gold[0]), reading.first + int(gold[1]) + 1)
                spans.append(span)
                step = max(1, (len(row.ids) - answer_at) // 4)
                for position in (*asking, *range(answer_at - 1, len(row.ids) - 1, step)):
                    row.queries.append((position, *span, asked_at))
                asking = []
        row.add([self.control[TURN_END]], 1.0)
        row.add(self.encode("\n"), 0.0)

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


def _any_facts(rng: random.Random, count: int) -> list[Fact]:
    return [invented_fact(rng) for _ in range(count)]


def _plant(rng: random.Random, text: str, facts: list[Fact]) -> tuple[str, list[tuple[str, Fact]]]:
    """Insert each fact's sentence between two sentences, as a paragraph of its own, or as a line of its own."""
    planted = []
    for fact in facts:
        gaps = [match.end() for match in re.finditer(r"\n+" if fact.own_line else r"[.!?][\"”]?\s+|\n+", text)] or [0]
        at = rng.choice(gaps)
        after = " " if at and text[at - 1] == " " else rng.choice(("\n", "\n", "\n\n", " "))
        after = "\n" if fact.own_line else after
        text = f"{text[:at]}{fact.sentence}{after}{text[at:]}"
        planted.append((fact.sentence, fact))
    return text, planted


def _register(rng: random.Random, tokens: int) -> tuple[str, str, list[tuple[str, Fact]]]:
    """A document that is nothing but facts of one kind, a line each: (name, text, planted)."""
    facts: list[Fact] = []
    while sum(len(fact.sentence) + 1 for fact in facts) < 3 * tokens:
        facts += keyed_facts(rng, 6) if rng.random() < 0.6 else similar_facts(rng, 6)
    keys = list(dict.fromkeys(fact.questions for fact in facts))
    asked = set(rng.sample(keys, min(len(keys), 8)))
    text = "\n".join(fact.sentence for fact in facts)
    return "register.txt", text, [(fact.sentence, fact) for fact in facts if fact.questions in asked]
