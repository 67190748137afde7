"""A session that was stopped, closed, asked or extended ends with the same bits as one that never was."""

import pytest
import torch
from reading_helpers import GREEDY, assert_equal_states, last, restored

from sala_core import Engine
from sala_core.session.session import Session

pytestmark = pytest.mark.usefixtures("short_segments")
LINES = {"a": 90, "b": 4, "c": 121, "d": 60}
"""No length is a multiple of the chunk: about 1,100, 60, 1,500 and 750 tokens."""


@pytest.fixture(params=[("float32", 1), ("float32", 2), ("bfloat16", 1), ("bfloat16", 2)], ids=str)
def engine(request, random_model):
    dtype, threads = request.param
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield Engine.load(random_model, dtype=dtype)
    torch.set_num_threads(before)


@pytest.fixture
def books(write_book):
    return {name: write_book(f"{name}.txt", lines, seed) for seed, (name, lines) in enumerate(LINES.items())}


def read_and_stop(session, paths):
    """Read, and stop after the first step of the prefill. Returns the receipt."""
    steps = []
    for event in session.read(paths, should_stop=lambda: bool(steps)):
        if getattr(event, "phase", None) == "reading":
            steps.append(event)
    return event


def test_documents_read_one_by_one_give_the_state_of_all_at_once(engine, library, books):
    with Session.open(library, engine, "whole", create=True) as session:
        last(session.read(list(books.values())))
    with Session.open(library, engine, "open", create=True) as session:
        for book in books.values():
            last(session.read([book]))
    for book in books.values():
        with Session.open(library, engine, "closed", create=True) as session:
            last(session.read([book]))
    whole = restored(library, engine, "whole")
    assert_equal_states(restored(library, engine, "open"), whole)
    assert_equal_states(restored(library, engine, "closed"), whole)
    assert library.session("open").head == library.session("whole").head, "the checkpoints are the same too"


def test_a_reading_stopped_at_every_place_gives_the_state_of_one_that_was_not(engine, library, books):
    with Session.open(library, engine, "whole", create=True) as session:
        last(session.read([*books.values()]))
    whole = restored(library, engine, "whole")
    library.delete_session("whole")
    positions = []
    for _ in range(8):
        with Session.open(library, engine, "stopped", create=True) as session:
            receipt = read_and_stop(session, [*books.values()])
            positions.append(session.row.position)
        if not receipt.stopped:
            break
    assert len(set(positions)) == len(positions) >= 2
    assert_equal_states(restored(library, engine, "stopped"), whole)


def test_reading_on_after_a_turn_gives_the_state_of_a_reading_at_once(engine, library, books):
    first, *others = books.values()
    with Session.open(library, engine, "once", create=True) as session:
        last(session.read([first]))
        last(session.ask("Who came?", GREEDY))
        last(session.read(others))
    with Session.open(library, engine, "later", create=True) as session:
        last(session.read([first]))
    with Session.open(library, engine, "later") as session:
        last(session.ask("Who came?", GREEDY))
    for book in others:
        with Session.open(library, engine, "later") as session:
            last(session.read([book]))
    assert_equal_states(restored(library, engine, "later"), restored(library, engine, "once"))


def test_a_state_read_again_after_its_loss_is_the_one_that_was_lost(engine, library, books):
    with Session.open(library, engine, "demo", create=True) as session:
        last(session.read([books["a"], books["b"]]))
        last(session.read([books["c"]]))
    before = restored(library, engine, "demo")
    library.drop_state("demo")
    with Session.open(library, engine, "demo") as session:
        last(session.read([]))
        assert session.state.tokens_read == before.position
    assert_equal_states(restored(library, engine, "demo"), before)
