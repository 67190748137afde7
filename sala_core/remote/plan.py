"""What of a session an engine is sent for a question: the whole text where it fits, otherwise passages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sala_core.errors import EngineContextError, EngineError
from sala_core.events import Evidence
from sala_core.finder.question import parse_question
from sala_core.remote.choice import Sends
from sala_core.remote.counting import TokenCounter
from sala_core.remote.engine import EngineSettings, PastTurn, SessionText
from sala_core.remote.prompt import ChatMessage, passages_prompt, text_prompt

ASSUMED_CONTEXT_TOKENS = 4096
"""Where the server does not tell its own."""

SMALL_CONTEXT_TOKENS = 16_384
"""Up to here an engine that gets passages is told earlier turns only where the question refers back to them: models
with such contexts are small, and repeat the form of what was said before."""

MAX_PASSAGES = 14
_MAX_ANSWER_TOKENS = 1024
_MIN_ANSWER_TOKENS = 64
_TOKENS_PER_MESSAGE = 12
_TOKENS_AROUND = 48
"""What a chat template adds, rather too many."""

_MOST_BYTES_PER_TOKEN = 6.0
"""A text that is too long by this is not counted: it certainly does not fit."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A prompt for an engine.

    prompt_tokens: as counted or estimated here. turns_left_out: the oldest, because the context is small.
    """

    basis: Literal["passages", "text"]
    messages: tuple[ChatMessage, ...]
    prompt_tokens: int
    max_tokens: int
    passages: tuple[Evidence, ...] = ()
    turns_left_out: int = 0

    @property
    def text(self) -> str:
        """All that is sent, for counting."""
        return joined(self.messages)


def plan(
    session: SessionText,
    question: str,
    settings: EngineSettings,
    counter: TokenCounter,
    *,
    context_tokens: int | None,
    sends: Sends,
) -> Plan:
    """Decide what is sent.

    Args:
        session: documents, turns and passages.
        question: its text.
        settings: `max_tokens` counts.
        counter: of the engine.
        context_tokens: the engine's limit; None takes ASSUMED_CONTEXT_TOKENS.
        sends: what the user wants.

    Raises EngineContextError where that does not fit, EngineError where nothing is read.
    """
    if not session.documents:
        raise EngineError("nothing is read in this session yet: add a file or a folder, then ask about it")
    limit = context_tokens or ASSUMED_CONTEXT_TOKENS
    answer = settings.max_tokens or min(_MAX_ANSWER_TOKENS, limit // 4)
    answer = max(_MIN_ANSWER_TOKENS, min(answer, limit // 2))
    room = limit - answer
    if sends != "passages" and (whole := _whole_text(session, question, counter, room, answer)) is not None:
        return whole
    if sends == "text":
        raise EngineContextError(
            f"the whole text does not fit into the {limit:,} tokens of the engine's context; let it be sent as "
            "passages (--engine-sends passages), or choose an engine with a longer one",
            limit,
        )
    return _passages(session, question, counter, room, answer)


def told_turns(turns: Sequence[PastTurn]) -> list[PastTurn]:
    """The earlier turns without those whose answer has quotations and all of them made up: an engine repeats them."""
    return [turn for turn in turns if turn.written_by is None or not turn.written_by.is_made_up]


def _whole_text(session: SessionText, question: str, counter: TokenCounter, room: int, answer: int) -> Plan | None:
    """The plan with the whole text; None where that does not fit."""
    if sum(document.num_chars for document in session.documents) > room * _MOST_BYTES_PER_TOKEN:
        return None
    texts = [(document.name, document.text()) for document in session.documents]
    used = _around(1) + counter.estimate(joined(text_prompt([], [], question)))
    for document, (name, text) in zip(session.documents, texts, strict=True):
        used += counter.count_document(document.content_hash, text) + counter.estimate(name) + _TOKENS_PER_MESSAGE
    told = told_turns(session.turns)
    turns = _fitting(told, counter, room - used)
    if used > room or turns is None:
        return None
    messages = text_prompt(texts, turns, question)
    return Plan(
        basis="text",
        messages=messages,
        prompt_tokens=used + sum(_turn_tokens(turn, counter) for turn in turns),
        max_tokens=answer,
        turns_left_out=len(told) - len(turns),
    )


def _passages(session: SessionText, question: str, counter: TokenCounter, room: int, answer: int) -> Plan:
    found, told = list(session.passages(MAX_PASSAGES)), told_turns(session.turns)
    needs_turns = room + answer > SMALL_CONTEXT_TOKENS or parse_question(question).refers_back
    turns = _fitting(told, counter, room // 4) or [] if needs_turns else []
    while True:
        messages = passages_prompt(found, turns, question)
        used = counter.count(joined(messages)) + _around(len(messages))
        if used <= room:
            break
        if turns and (len(found) <= MAX_PASSAGES // 4 or not found):
            turns = turns[1:]
        elif len(found) > 1:
            keep = int(len(found) * room / used)
            found = found[: max(1, min(keep, len(found) - 1))]
        else:
            raise EngineContextError(
                f"the engine's context leaves {room:,} tokens for a question, which is too little for one passage; "
                "start the engine with a longer one"
            )
    return Plan(
        basis="passages",
        messages=messages,
        prompt_tokens=used,
        max_tokens=answer,
        passages=tuple(found),
        turns_left_out=len(told) - len(turns),
    )


def _fitting(turns: Sequence[PastTurn], counter: TokenCounter, room: int) -> list[PastTurn] | None:
    """The last turns that fit into `room` tokens, in order; None where that is negative."""
    if room < 0:
        return None
    kept: list[PastTurn] = []
    for turn in reversed(turns):
        room -= _turn_tokens(turn, counter)
        if room < 0:
            break
        kept.insert(0, turn)
    return kept


def _turn_tokens(turn: PastTurn, counter: TokenCounter) -> int:
    return counter.estimate(turn.question) + counter.estimate(turn.answer) + 2 * _TOKENS_PER_MESSAGE


def _around(num_messages: int) -> int:
    return _TOKENS_AROUND + num_messages * _TOKENS_PER_MESSAGE


def joined(messages: Sequence[ChatMessage]) -> str:
    """The contents of all messages."""
    return "\n\n".join(message.content for message in messages)
