"""What a session needs of an engine elsewhere, and what it gives to it. Every kind of engine implements `RemoteEngine`.

No tensor passes through here, and torch is not imported. An engine never changes the library: the session checks the
quotations of its answer, and stores the turn (`sala_core.session.remote`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, Protocol

from sala_core.events import Evidence, PromptProgress, Quotation, ReadProgress
from sala_core.ingest import Document
from sala_core.written_by import WrittenBy

EngineKind = Literal["vllm", "llama.cpp", "llama-cpp-python", "ollama", "lm-studio", "sglang", "openai", "sala"]
"""Which server it is; "openai" for any other one with an OpenAI-compatible API."""


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """An engine as its server describes it.

    url: the server's address, with scheme. model: the name under which it is asked. context_tokens: the longest prompt
    and answer together; None where the server does not tell it. keeps_state: whether it keeps what it has read of a
    session between questions; None where that is not known yet. has_sessions: whether it offers sessions of its own, to
    which a text is only appended (SGLang).
    """

    kind: EngineKind
    url: str
    model: str
    context_tokens: int | None = None
    keeps_state: bool | None = None
    has_sessions: bool = False

    @property
    def name(self) -> str:
        """The model as a person names it: the name of its file, where the server names that."""
        is_file = self.model.endswith(".gguf") or self.model.startswith("/")
        return PurePath(self.model.replace("\\", "/")).name.removesuffix(".gguf") if is_file else self.model


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What the user has set for answers; None leaves it to the engine. max_tokens: of the answer.

    thinking_budget, verbatim: only another Sala has them.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    think: bool | None = None
    thinking_budget: int | None = None
    verbatim: bool | None = None


@dataclass(frozen=True, kw_only=True)
class TextDocument:
    """A document of a session. content_hash: `Document.content_hash`. text: loads its text, "" where that is lost."""

    id: str
    name: str
    content_hash: str
    num_chars: int
    num_tokens: int
    """By the tokenizer of the model here."""
    text: Callable[[], str]
    load: Callable[[], Document] | None = None
    """Loads it whole, with its pages, however much of it is read here; None where only its text is there."""


@dataclass(frozen=True, kw_only=True)
class PastTurn:
    """An earlier question and its answer."""

    id: str
    question: str
    answer: str
    written_by: WrittenBy | None = None


class SessionText(Protocol):
    """What a session offers to an engine: its documents in the order of the stream, its turns, and its passages."""

    session_id: str

    @property
    def documents(self) -> Sequence[TextDocument]:
        """As far as they are read."""
        ...

    @property
    def turns(self) -> Sequence[PastTurn]:
        """The shown turns before the question, the oldest first."""
        ...

    def passages(self, limit: int) -> Sequence[Evidence]:
        """At most `limit` places that the model here found for the question, the best first. Found at the first call:
        an engine that gets the whole text never waits for them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Written:
    """Text of the answer as it comes. thinking: whether it belongs to the thinking."""

    text: str
    thinking: bool = False


@dataclass(frozen=True, kw_only=True)
class EngineAnswer:
    """The end of an answer: the last event of `RemoteEngine.ask`. The text is what `Written` events gave before.

    finish_reason: "stop", "length", or "stopped" where `should_stop` ended it. passages: those that the engine was
    given. evidence, quotations: an engine's own, which has read the text itself; they name documents of the session.
    tokens_generated: with thinking. warnings: what the user should know, told with the answer.
    """

    finish_reason: str
    written_by: WrittenBy
    passages: tuple[Evidence, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    quotations: tuple[Quotation, ...] = ()
    """Found in the documents here, word for word; () leaves it to the session to look for them."""
    tokens_generated: int = 0
    seconds_prefill: float = 0.0
    seconds_decode: float = 0.0
    warnings: tuple[str, ...] = ()
    confidence: float | None = None
    """As `Answer.confidence`; None of an engine that does not tell it."""


EngineEvent = ReadProgress | PromptProgress | Written | EngineAnswer


class RemoteEngine(Protocol):
    """An engine elsewhere. Used by one thread at a time. Every failure is an `EngineError` (`sala_core.errors`)."""

    def connect(self) -> EngineInfo:
        """Ask the server what it is, anew at every call. Raises EngineError where it cannot be used."""
        ...

    def note_before(self, session: SessionText) -> str:
        """What the user has to know before the next question is sent, such as that the whole text is read again for
        every one; "" for nothing. Sends no text of the session."""
        ...

    def ask(
        self, session: SessionText, question: str, settings: EngineSettings, *, should_stop: Callable[[], bool]
    ) -> Iterator[EngineEvent]:
        """Answer a question of a session; the last event is an EngineAnswer.

        Nothing is sent twice once a byte of the answer has come. `should_stop` is looked at several times a second,
        also while the server is silent; the connection is then closed, and the answer ends as it is. No EngineAnswer
        comes where it was stopped before a word was written.

        Args:
            session: documents, turns and passages.
            question: its text.
            settings: what the user has set.
            should_stop: ends the answer when it returns True.

        Raises EngineError.
        """
        ...

    def close(self) -> None:
        """Close all connections. What the server keeps of sessions stays there until it forgets it."""
        ...
