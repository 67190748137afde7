"""The records of an evaluation: readings with their questions, replies, samples and events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, Protocol

from sala_core.errors import EvalError
from sala_core.evals.texts import TextSource

Span = tuple[int, int]
"""Characters start ... end - 1 of a document."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message before the question. document: the name in the header above the text; "" for no header."""

    role: Literal["user", "assistant"]
    text: str
    document: str = ""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One sample of a suite.

    gold: the ground-truth strings; () where the right answer is that the text does not say.
    depth: position of the answer in the document, 0 ... 1; None if it stands in several places.
    needles: the spans of the document that hold the answer; () if there are none.
    label: the row of the summary that the sample counts for; "" for the task's own row.
    hidden: what scoring needs besides the gold strings.
    """

    text: str
    gold: tuple[str, ...]
    max_tokens: int
    depth: float | None = None
    needles: tuple[Span, ...] = ()
    label: str = ""
    hidden: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A prompt that is prefilled once, and the questions about it. Each question starts from the same state."""

    system: str
    messages: tuple[Message, ...]
    questions: tuple[Question, ...]

    @property
    def document(self) -> Message | None:
        """The message with a document, if there is one."""
        return next((message for message in self.messages if message.document), None)


class TokenCounter(Protocol):
    """Counts tokens with the tokenizer and chat template of the evaluated model."""

    def count(self, reading: Reading) -> int:
        """Tokens of the whole prompt, chat template and longest question included."""
        ...

    def text_tokens(self, text: str) -> int:
        """Tokens of a text alone."""
        ...

    def first_tokens(self, text: str, num_tokens: int) -> str:
        """The text of the first `num_tokens` tokens of `text`."""
        ...


@dataclass(frozen=True, kw_only=True)
class SampleSpec:
    """What a task has to make: a reading of exactly `length` tokens with `num_questions` questions.

    rng: the only source of randomness. Its seed derives from suite, task, length, the reading's number and the seed.
    first: index of the first question.
    """

    rng: Random
    length: int
    first: int
    num_questions: int
    counter: TokenCounter
    texts: TextSource

    def depths(self) -> list[float]:
        """A depth for each question. Consecutive indices spread evenly over the document."""
        return [_depth(self.first + i) for i in range(self.num_questions)]


def _depth(index: int) -> float:
    """Multiples of the golden ratio modulo 1: any number of consecutive ones fills 0 ... 1 evenly."""
    return 0.01 + 0.98 * ((0.5 + index * 0.6180339887498949) % 1.0)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a suite.

    make: builds a reading with its questions.
    score: metrics of an answer by name; "score" is the main one.
    labels: the rows of the summary that consecutive questions count for in turn; () for one row, the task's own.
    max_shared: the most questions of a row that can share one reading.
    evidence: whether places of evidence can be compared with the needles.
    """

    name: str
    make: Callable[[SampleSpec], Reading]
    score: Callable[[Question, str], dict[str, float]]
    labels: tuple[str, ...] = ()
    max_shared: int = 64
    evidence: bool = True


@dataclass(frozen=True, kw_only=True)
class EvidenceRank:
    """Needles among the ranked places of evidence.

    rank: of the first place that holds a needle, from 1; None if no place does.
    share: share of the needles that the first five places hold.
    """

    rank: int | None
    share: float


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer. seconds: from the question to its end; read_s: the prefill before it, 0 if it was shared."""

    text: str
    reason: str
    prompt_tokens: int
    answer_tokens: int
    seconds: float
    read_s: float
    evidence: EvidenceRank | None = None


@dataclass(frozen=True, kw_only=True)
class EvalProgress:
    """Tokens of a reading that are prefilled."""

    task: str
    tokens_done: int
    tokens_total: int


@dataclass(frozen=True, kw_only=True)
class SampleDone:
    """A sample is on disk. record: its line of the JSONL file. left: the number of samples still to do."""

    record: Mapping[str, Any]
    left: int


def require(condition: bool, message: str) -> None:
    """Raise EvalError with the message unless the condition holds."""
    if not condition:
        raise EvalError(message)
