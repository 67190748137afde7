"""What passes between the rooms of an evaluation: readings with their questions, replies, samples."""

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
    """One message before the question. document: the name in the header above the text; "" for none."""

    role: Literal["user", "assistant"]
    text: str
    document: str = ""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One sample to be asked. depth: 0 ... 1 where what answers it stands; None where it stands in several places.

    needles: where it stands in the reading's document; () where there is none. label: the row of the summary that it
    counts for; "" for the task's own. hidden: what scoring needs beside the gold answers.
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
    """What is read once, and the questions that are asked about it, each from the same state."""

    system: str
    messages: tuple[Message, ...]
    questions: tuple[Question, ...]

    @property
    def document(self) -> Message | None:
        """The message that has a document, if any."""
        return next((message for message in self.messages if message.document), None)


class TokenCounter(Protocol):
    """Counts as the model does that will read."""

    def count(self, reading: Reading) -> int:
        """Tokens of the whole prompt, chat template and longest question included."""
        ...

    def text_tokens(self, text: str) -> int:
        """Tokens of a text alone."""
        ...

    def first_tokens(self, text: str, num_tokens: int) -> str:
        """The text of the first tokens of `text`."""
        ...


@dataclass(frozen=True, kw_only=True)
class SampleSpec:
    """What a task is asked to make: a reading of exactly `length` tokens with so many questions.

    first: the index of the first question; everything random comes from `rng`, which derives from suite, task, length,
    the reading's number and the seed alone.
    """

    rng: Random
    length: int
    first: int
    num_questions: int
    counter: TokenCounter
    texts: TextSource

    def depths(self) -> list[float]:
        """A depth for each question, evenly spread over consecutive indices."""
        return [_depth(self.first + i) for i in range(self.num_questions)]


def _depth(index: int) -> float:
    """Multiples of the golden ratio fill 0 ... 1 evenly, however many there are."""
    return 0.01 + 0.98 * ((0.5 + index * 0.6180339887498949) % 1.0)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row of a suite. score: of an answer, by name; "score" is the one that counts.

    labels: questions take turns to count for these rows; () counts all for the task. max_shared: so many questions of a
    row can be asked about one reading. evidence: the places looked at can be held against the question's needles.
    """

    name: str
    make: Callable[[SampleSpec], Reading]
    score: Callable[[Question, str], dict[str, float]]
    labels: tuple[str, ...] = ()
    max_shared: int = 64
    evidence: bool = True


@dataclass(frozen=True, kw_only=True)
class EvidenceRank:
    """Where the model looked. rank: of the first place with a needle, from 1; share: of the needles in five places."""

    rank: int | None
    share: float


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer. seconds: from the question to its end; read_s: what the reading before it took, 0 if shared."""

    text: str
    reason: str
    prompt_tokens: int
    answer_tokens: int
    seconds: float
    read_s: float
    seen: EvidenceRank | None = None


@dataclass(frozen=True, kw_only=True)
class EvalProgress:
    """Tokens of a reading that are done."""

    task: str
    tokens_done: int
    tokens_total: int


@dataclass(frozen=True, kw_only=True)
class SampleDone:
    """A sample has been written. record: its line of the JSONL. left: samples still to do."""

    record: Mapping[str, Any]
    left: int


def require(condition: bool, message: str) -> None:
    """Raise EvalError with the message unless the condition holds."""
    if not condition:
        raise EvalError(message)
