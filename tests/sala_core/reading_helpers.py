"""Texts for tests to read, and helpers to inspect what a reading or an answer did."""

import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from sala_core import Engine, SamplingParams
from sala_core.engine.generate import Token
from sala_core.model.state import SalaState
from sala_core.session.job_runner import JobView
from sala_core.session.session import Session
from sala_core.session.workspace import Workspace
from sala_core.store import Library

SEGMENT_TOKENS = 1024
"""One chunk, so that short texts have several segments."""

_WORDS = (
    "the of and to in that his her with he was she for had not as him at but which said from were have prince "
    "princess moscow winter army river letter horse table window candle evening morning soldier general village "
    "orchard silver answer question silence forest garden music silently slowly gently never always perhaps"
)


FERRY = "The ferry leaves at nine.\n\nThe ferryman of Tavelun is called Osrik. He never rows at night.\n"
PATIENCE_S = 60.0
GREEDY = SamplingParams(temperature=0.0, max_tokens=8)


def rows(library: Library, name: str) -> tuple[Any, ...]:
    """A session's rows in the library: head, position, tokens, messages, parts."""
    row = library.session(name)
    talk = [(message.role, message.text, message.status) for message in library.messages(row.id)]
    return row.head, row.position, row.num_tokens, talk, library.parts(row.id)


def text_of(num_lines: int, seed: int = 0) -> str:
    """Numbered lines of ten words, about twelve tokens each."""
    choice, words = random.Random(seed), _WORDS.split()
    return "".join(f"{n}. {' '.join(choice.choices(words, k=10))}.\n" for n in range(1, num_lines + 1))


def last(events: Iterable[Any]) -> Any:
    """Exhaust an iterator. Returns its last event, None if it had none."""
    event = None
    for event in events:  # noqa: B007
        pass
    return event


def tokens_in(events: Iterable[Any]) -> list[int]:
    """Token ids of an answer."""
    return [event.id for event in events if isinstance(event, Token) and event.id is not None]


def tensors(state: SalaState) -> dict[str, torch.Tensor]:
    """All tensors of a state."""
    return {**state.segment(0, state.position), **state.snapshot()}


def assert_equal_states(first: SalaState, second: SalaState) -> None:
    """Assert that two states are equal bit for bit."""
    assert first.position == second.position
    ours, theirs = tensors(first), tensors(second)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].dtype == tensor.dtype for name, tensor in theirs.items())
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def restored(library: Library, engine: Engine, name: str) -> SalaState:
    """A session's state, loaded from the library."""
    with Session.open(library, engine, name) as session:
        list(session.state.catch_up(lambda: False))
        assert session.state.tokens_read == 0
        assert session.state.state is not None
        return session.state.state


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition, and return what it gives."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.003)
    return value


def finished(workspace: Workspace, job_id: str) -> JobView:
    """The job once it is over."""

    def over() -> JobView | None:
        view = workspace.job(job_id)
        return view if view.status not in ("queued", "running") else None

    found: JobView = until(over)
    return found
