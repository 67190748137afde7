"""The desk with a model that writes: the same tokens however they come, and states that are shared and kept."""

import queue
import time
from itertools import pairwise

import pytest

from sala_core.errors import LibraryError, SettingsError
from sala_core.events import Answer
from sala_core.session.served.conversation import Said, conversation, raw_text, turns_of
from sala_core.session.served.desk import Desk
from sala_core.session.served.request import Done, Request
from sala_core.session.workspace import Workspace
from sala_core.store.sessions import SERVED

TEXT = "".join(f"Line {n} of the log says {n * 31 % 97}.\n" for n in range(700))
SHORT = {"max_tokens": 8, "temperature": 0.0}


@pytest.fixture(scope="module")
def workspace(random_model, tmp_path_factory):
    opened = Workspace(tmp_path_factory.mktemp("served") / "library", str(random_model), "cpu")
    while opened.model_info().status == "loading":
        time.sleep(0.05)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def desk(workspace):
    return Desk(workspace)


def run(start, **sampling):
    """The answer, its text, and what was read for it."""
    events = queue.Queue()
    start(Request(tell=events.put, sampling=SHORT | sampling))
    found = None
    while not isinstance(event := events.get(timeout=120), Done):
        found = event if isinstance(event, Answer) else found
    assert event.error is None, event.error
    return found, event.tokens_read + found.tokens_read, event.session_id


def chat(desk, *messages, **sampling):
    sent = conversation([Said(role=role, text=text) for role, text in messages], finds=False)
    return run(lambda request: desk.answer(sent, request), **sampling)


def test_a_question_in_the_message_of_its_text_continues_that_message(workspace, desk):
    first, num_read, session_id = chat(desk, ("user", f"{TEXT}\nWhat does line 5 say?"))
    assert num_read > 8192
    assert first.tokens_generated == 8
    _again, num_again, other_id = chat(desk, ("user", f"{TEXT}\nWhat does line 6 say?"))
    assert num_again < 40
    assert other_id != session_id
    library, engine = workspace.library, workspace.engine
    row = library.session(session_id)
    ids = library.token_ids(row.id, 0, row.num_tokens)
    shown = engine.tokenizer.decode(ids)
    suffix = engine.tokenizer.decode(engine.chat.message_suffix("user"))
    assert f"{TEXT}\nWhat does line 5 say?{suffix}" in shown, "one message, as it was sent"
    again_same, num_same, _ = chat(desk, ("user", f"{TEXT}\nWhat does line 5 say?"))
    assert (again_same.text, num_same < 40) == (first.text, True), "the same state gives the same answer"


def test_a_seed_gives_the_same_answer_from_a_state_that_was_kept(desk):
    messages = [("system", "Be brief."), ("user", "Say something."), ("assistant", "Something."), ("user", "More.")]
    answers = [chat(desk, *messages, seed=7, temperature=1.0)[0].text for _ in range(2)]
    assert answers[0] == answers[1]


def test_a_text_without_roles_goes_on(workspace, desk):
    sent = raw_text("Once upon a time there was a log. It said")
    first, num_read, session_id = run(lambda request: desk.answer(sent, request))
    assert first.tokens_generated == 8
    assert num_read > 8
    ids = workspace.library.token_ids(session_id, 0, num_read)
    assert workspace.engine.tokenizer.decode(ids).endswith("Once upon a time there was a log. It said")


def test_the_state_in_memory_is_that_of_a_reading_from_the_start(workspace, desk, random_model, tmp_path):
    history = [("user", TEXT), ("user", "One?")]
    first, _, _ = chat(desk, *history)
    chat(desk, ("user", TEXT), ("user", "Another?"))  # another branch takes the state over
    longer = [*history, ("assistant", first.text), ("user", "Two?")]
    here, _, _ = chat(desk, *longer)
    fresh = Workspace(tmp_path / "library", str(random_model), "cpu")
    try:
        while fresh.model_info().status == "loading":
            time.sleep(0.05)
        there, num_read, _ = chat(Desk(fresh), *longer)
    finally:
        fresh.close()
    assert num_read > 8192
    assert there.text == here.text


def test_the_longest_common_beginning_is_found_among_other_texts(desk):
    _, _whole, _ = chat(desk, ("user", TEXT), ("user", "x"))
    _, num_read, _ = chat(desk, ("user", TEXT + "And one more line.\n"), ("user", "x"))
    assert num_read < 4096 + 40
    _, later, _ = chat(desk, ("user", TEXT), ("user", "A second text."), ("user", "x"))
    _, changed, _ = chat(desk, ("user", TEXT), ("user", "A changed text."), ("user", "x"))
    assert later < 60
    assert changed < 60


def test_forks_of_a_session_take_up_what_fits(workspace, desk):
    library = workspace.library
    base = library.session(chat(desk, ("user", TEXT), ("user", "x"))[2])
    session = library.fork_session(base.id, "log")

    def ask(*messages):
        _, turns, question = turns_of([Said(role=role, text=text) for role, text in messages])
        row = library.session(session.id)
        return run(lambda request: desk.ask_session(row, turns, question, request))

    texts = [message.text for message in library.messages(session.id)]
    _answer, num_read, session_id = ask(("user", texts[0]), ("assistant", texts[1]), ("user", "y"))
    assert (session_id, num_read < 40) == (session.id, True), "the session's own conversation goes on in it"
    other, num_other, fork = ask(("user", "other"), ("assistant", "said elsewhere"), ("user", "y"))
    assert fork != session.id
    assert num_other < 80
    _, num_next, same_fork = ask(
        ("user", "other"), ("assistant", "said elsewhere"), ("user", "y"), ("assistant", other.text), ("user", "z")
    )
    assert (same_fork, num_next < 40) == (fork, True)
    assert [turn.number for turn in library.turns(session.id)] == [1, 2]


def test_what_a_model_cannot_do_is_refused_before_anything_is_queued(workspace, desk):
    before = len(workspace.library.served_sessions())
    for wrong in ({"think": True}, {"top_p": 0.0}):
        with pytest.raises(SettingsError):
            chat(desk, ("user", "x"), **wrong)
    assert len(workspace.library.served_sessions()) == before


def test_small_conversations_beyond_the_limit_are_dropped_and_large_ones_stay(workspace, desk, monkeypatch):
    monkeypatch.setattr("sala_core.store.turns.served.KEPT_SESSIONS", 2)
    monkeypatch.setattr("sala_core.store.turns.served.SMALL_TOKENS", 4096)
    large = chat(desk, ("user", TEXT[::-1]), ("user", "x"))[2]
    small = [chat(desk, ("user", f"Small question {n}."))[2] for n in range(4)]
    library = workspace.library
    workspace.runner.call(library.tidy)
    deadline = time.monotonic() + 60
    while library.surplus_served():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    left = [row.id for row in library.served_sessions()]
    assert large in left
    assert not set(small[:2]) & set(left)
    assert all(row.name.startswith(SERVED) for row in library.served_sessions())
    assert [a.updated_at >= b.updated_at for a, b in pairwise(library.served_sessions())].count(False) == 0


def test_a_user_cannot_take_a_name_that_no_list_shows(workspace):
    with pytest.raises(LibraryError, match="cannot be a session's name"):
        workspace.library.create_session("api: mine", model="", fingerprint="")
