"""Training rows: copying, plain text, and conversations in which answers quote documents."""

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
from sala_core.train.data.questions import WORD, Question, make_questions
from sala_core.train.data.tokenizer_training import CONTROL_TOKENS, END_OF_TEXT, TURN_END, TURN_START

NOT_SAID = "The text does not say."
SYSTEM_TEXTS = (
    "Answer from the documents above and quote them.",
    "You answer questions about the documents that follow. Quote the sentence that answers.",
    "You are a careful reader. Answer from the documents.",
    "You are a helpful assistant.",
)
TEXT_WEIGHT, DOCUMENT_WEIGHT = 0.3, 0.1
_FIRST_WORDS_WEIGHT, _FIRST_WORDS_TOKENS = 6.0, 4  # of an answer
_REGISTER_SHARE = 0.15  # of documents that consist of facts only
_KIND_WEIGHTS = {"books": 46, "peps": 12, "rust-book": 6, "tldr": 5, "medquad": 18, "code": 13}
_OTHER_KINDS_WEIGHT = 20
MEMORY_TOKENS = 4
"""How many first tokens of a sentence `memory_loss` predicts."""
_TOKENS_PER_MEMORY = 10  # one in ten document tokens predicts the beginning of its sentence
_BEGINNING = re.compile(
    rf"""\A\s*|{SENTENCE_END}["”’)]?\s+|\n\s*\n\s*"""
    r"""|(?<=[:;{})"])[ \t]*\n\s*|^[^\n]{0,44}\n[ \t]*""",
    re.MULTILINE,
)


@dataclass
class Row:
    """One training row under construction.

    ids, weights: token ids and their weights as targets.
    queries: (position, start and end of the answering span, start of the turn) of positions whose block selection is
        supervised.
    memory: (position, first tokens of its sentence as a quotation begins; -1 for tokens after the position).
    documents: (start, end) of the document tokens.
    turns: (start of a question's turn, start of its answer, answering spans).
    """

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    queries: list[tuple[int, int, int, int]] = field(default_factory=list)
    memory: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    documents: list[tuple[int, int]] = field(default_factory=list)
    turns: list[tuple[int, int, list[tuple[int, int]]]] = field(default_factory=list)

    def add(self, ids: list[int], weight: float) -> None:
        """Append ids that share a weight."""
        self.ids.extend(ids)
        self.weights.extend([weight] * len(ids))


@dataclass(frozen=True, kw_only=True)
class RowDocument:
    """A document inside a row.

    body: its text.
    first: position of its first token in the row.
    char_starts: [tokens], the first character of each token in the text.
    planted: planted sentences with their facts.
    """

    body: str
    first: int
    char_starts: np.ndarray
    planted: list[tuple[str, Fact]]


class TaskMaker:
    """Makes rows from the corpus. All randomness comes from the `rng` argument of each method."""

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
        """Return the ids of content. Control tokens in `text` are encoded as plain text."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def random_copy(self, rng: random.Random, length: int) -> Row:
        """Return a row that repeats a random run of tokens. Only the repeats can be predicted."""
        numbers = np.random.default_rng(rng.getrandbits(32))
        symbols = numbers.integers(len(self.control), self.vocab_size, size=2 ** rng.randint(3, 12))
        run = numbers.choice(symbols, size=rng.randint(8, max(9, length // 2))).tolist()
        row = Row()
        row.add(run, 0.01)
        while len(row.ids) <= length:
            row.add(run, 0.5)
        return row

    def text_copy(self, rng: random.Random, length: int) -> Row:
        """Return a row with passages of the corpus, then the same passages again in random order."""
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
        """Return a row of consecutive text for language modeling."""
        row = Row()
        while len(row.ids) <= length:
            row.add(self.passage(rng, length + 1)[1], TEXT_WEIGHT)
            row.add([self.control[END_OF_TEXT]], TEXT_WEIGHT)
        return row

    def conversation(self, rng: random.Random, length: int, share: float | None = None) -> Row:
        """Return a row with a system message, then documents with questions and answers until the row is full.

        share: part of the remaining row that each group of documents takes; None for a random one.
        """
        row = Row()
        self.add_message(row, "system", self.encode(rng.choice(SYSTEM_TEXTS)))
        while len(row.ids) <= length:
            left = max(80, length - 40 - len(row.ids))
            room = int(left * (rng.uniform(0.35, 0.75) if share is None else share))
            num_documents = rng.choice((1, 1, 1, 2, 3)) if room > 300 else 1
            questions: list[tuple[Question, RowDocument]] = []
            for _ in range(num_documents):
                document = self.add_document(row, rng, room // num_documents)
                made = make_questions(rng, document.body, document.planted, self.frequency)
                questions.extend((question, document) for question in made)
            rng.shuffle(questions)
            for question, document in questions:
                self._add_turn(row, question, document)
        return row

    def add_message(self, row: Row, role: str, content: list[int]) -> None:
        """Append a ChatML message without weight."""
        row.add([self.control[TURN_START], *self.encode(role + "\n"), *content], 0.0)
        row.add([self.control[TURN_END], *self.encode("\n")], 0.0)

    def add_document(self, row: Row, rng: random.Random, tokens: int) -> RowDocument:
        """Append a document of at most `tokens` tokens, with planted facts, as a user message."""
        if rng.random() < _REGISTER_SHARE:
            name, text, planted = _register(rng, tokens)
        else:
            source, text = self._excerpt(rng, tokens)
            count = rng.randint(1, 3) if tokens < 400 else rng.randint(2, 8)
            similar = rng.random() < 0.5
            makers = (similar_facts, keyed_facts) if similar else (_any_facts,)
            facts = rng.choice(makers)(rng, count)
            text, planted = _plant(rng, text[: int(tokens * 3.4)], facts)
            name = source.name
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        ids, offsets = encoding.ids[:tokens], encoding.offsets[:tokens]
        body = text[: offsets[-1][1]] if offsets else ""
        header = self.encode("user\n") + self.encode(f"Document: {name}\n\n")
        row.add([self.control[TURN_START], *header], 0.0)
        char_starts = np.array([start for start, _ in offsets])
        document = RowDocument(body=body, first=len(row.ids), char_starts=char_starts, planted=planted)
        row.add(ids, DOCUMENT_WEIGHT)
        row.documents.append((document.first, len(row.ids)))
        row.memory.extend(self._sentence_memory(rng, document))
        row.add([self.control[TURN_END], *self.encode("\n")], 0.0)
        return document

    def _sentence_memory(self, rng: random.Random, document: RowDocument) -> list[tuple[int, tuple[int, ...]]]:
        """Return entries of `Row.memory` for a random sample of the document's tokens."""
        beginnings = np.array(sorted({match.end() for match in _BEGINNING.finditer(document.body)}))
        count = len(document.char_starts)
        if not count:
            return []
        chosen = sorted(rng.sample(range(count), max(1, count // _TOKENS_PER_MEMORY)))
        sentence_starts = beginnings[np.searchsorted(beginnings, document.char_starts[chosen] + 1, side="right") - 1]
        texts = ['"' + document.body[start : start + 40] for start in sentence_starts.tolist()]
        quoted = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        firsts = np.searchsorted(document.char_starts, sentence_starts + 1, side="right") - 1
        memory = []
        for token, first, encoding in zip(chosen, firsts.tolist(), quoted, strict=True):
            targets = (encoding.ids[1:] + [-1] * MEMORY_TOKENS)[:MEMORY_TOKENS]
            num_seen = token - first + 1  # tokens of the sentence up to this one
            memory.append((document.first + token, tuple(t if i < num_seen else -1 for i, t in enumerate(targets))))
        return memory

    def _add_turn(self, row: Row, question: Question, document: RowDocument) -> None:
        """Append a question and its answer: the quoted sentences, or NOT_SAID."""
        turn_start = len(row.ids)
        self.add_message(row, "user", self.encode(question.text))
        row.add([self.control[TURN_START], *self.encode("assistant\n")], 0.0)
        if not question.spans:
            first, *rest = self.encode(NOT_SAID)
            row.add([first], _FIRST_WORDS_WEIGHT)
            row.add(rest, 2.0)
        else:
            spans: list[tuple[int, int]] = []
            row.turns.append((turn_start, len(row.ids), spans))
            in_question = [(turn_start * (4 - part) + len(row.ids) * part) // 4 for part in (2, 3)]
            for number, (start, end) in enumerate(question.spans):
                answer_start = len(row.ids)
                row.add(self.encode(f'{" " if number else ""}"{document.body[start:end]}"'), 1.0)
                for position in range(answer_start, min(answer_start + _FIRST_WORDS_TOKENS, len(row.ids))):
                    row.weights[position] = _FIRST_WORDS_WEIGHT
                gold = np.searchsorted(document.char_starts, [start, end - 1], side="right") - 1
                span = (document.first + int(gold[0]), document.first + int(gold[1]) + 1)
                spans.append(span)
                step = max(1, (len(row.ids) - answer_start) // 4)
                for position in (*in_question, *range(answer_start - 1, len(row.ids) - 1, step)):
                    row.queries.append((position, *span, turn_start))
                in_question = []
        row.add([self.control[TURN_END]], 1.0)
        row.add(self.encode("\n"), 0.0)

    def passage(self, rng: random.Random, tokens: int) -> tuple[SourceText, list[int]]:
        """Return at most `tokens` ids from a random text, starting at a word, and the text."""
        source, text = self._excerpt(rng, tokens)
        return source, self.encode(text)[:tokens]

    def _excerpt(self, rng: random.Random, tokens: int) -> tuple[SourceText, str]:
        """Return a random text and about 4.2 characters per token of it, starting at a word."""
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
    """Insert each fact's sentence between two sentences, as a paragraph or on its own line; return (text, planted)."""
    planted = []
    for fact in facts:
        gaps = [match.end() for match in re.finditer(r"\n+" if fact.own_line else r"[.!?][\"”]?\s+|\n+", text)] or [0]
        gap = rng.choice(gaps)
        after = " " if gap and text[gap - 1] == " " else rng.choice(("\n", "\n", "\n\n", " "))
        after = "\n" if fact.own_line else after
        text = f"{text[:gap]}{fact.sentence}{after}{text[gap:]}"
        planted.append((fact.sentence, fact))
    return text, planted


def _register(rng: random.Random, tokens: int) -> tuple[str, str, list[tuple[str, Fact]]]:
    """Return a document with nothing but similar facts, one per line: (name, text, planted)."""
    facts: list[Fact] = []
    while sum(len(fact.sentence) + 1 for fact in facts) < 3 * tokens:
        facts += keyed_facts(rng, 6) if rng.random() < 0.6 else similar_facts(rng, 6)
    keys = list(dict.fromkeys(fact.questions for fact in facts))
    chosen = set(rng.sample(keys, min(len(keys), 8)))
    text = "\n".join(fact.sentence for fact in facts)
    return "register.txt", text, [(fact.sentence, fact) for fact in facts if fact.questions in chosen]
