"""Texts to read, and ways to look at what a reading or an answer did."""

import random
from collections.abc import Iterable
from typing import Any

import torch

from sala_core import Engine, SamplingParams
from sala_core.engine.generate import Token
from sala_core.model.state import SalaState
from sala_core.session.session import Session
from sala_core.store import Library

SEGMENT_TOKENS = 1024
"""One chunk, so that short texts have several segments."""

_WORDS = (
    "the of and to in that his her with he was she for had not as him at but which said from were have prince "
    "princess moscow winter army river letter horse table window candle evening morning soldier general village "
    "orchard silver answer question silence forest garden music silently slowly gently never always perhaps"
)


GREEDY = SamplingParams(temperature=0.0, max_tokens=8)


def rows(library: Library, name: str) -> tuple[Any, ...]:
    """What the library says of a session: head, position, messages, parts."""
    row = library.session(name)
    talk = [(message.role, message.text, message.status) for message in library.messages(row.id)]
    return row.head, row.position, row.num_tokens, talk, library.parts(row.id)


def text_of(num_lines: int, seed: int = 0) -> str:
    """Lines of ten words, about twelve tokens each, every one numbered."""
    choice, words = random.Random(seed), _WORDS.split()
    return "".join(f"{n}. {' '.join(choice.choices(words, k=10))}.\n" for n in range(1, num_lines + 1))


def last(events: Iterable[Any]) -> Any:
    """Run an iterator to its end; its last event, None if there was none."""
    event = None
    for event in events:  # noqa: B007
        pass
    return event


def tokens_in(events: Iterable[Any]) -> list[int]:
    """The ids of the answer's tokens."""
    return [event.id for event in events if isinstance(event, Token) and event.id is not None]


def tensors(state: SalaState) -> dict[str, torch.Tensor]:
    """Everything that a state holds."""
    return {**state.segment(0, state.position), **state.snapshot()}


def assert_equal_states(first: SalaState, second: SalaState) -> None:
    """Bit by bit."""
    assert first.position == second.position
    ours, theirs = tensors(first), tensors(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def restored(library: Library, engine: Engine, name: str) -> SalaState:
    """The state that the library holds for a session, loaded anew."""
    with Session.open(library, engine, name) as session:
        list(session.state.catch_up(lambda: False))
        assert session.state.tokens_read == 0
        assert session.state.state is not None
        return session.state.state
