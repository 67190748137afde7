"""Turns that an engine elsewhere writes: they are turns like any other, and no failure loses or doubles one."""

import threading

import numpy as np
import pytest
from engine_server import DONE, EngineServer, chunk, running, usage
from reading_helpers import FERRY, GREEDY, last

from sala_core.errors import EngineError, EngineFailedError, EngineUnreachableError, LibraryError
from sala_core.events import Answer, PromptProgress, ReadProgress
from sala_core.remote.access import Access
from sala_core.remote.chat_engine import ChatEngine
from sala_core.remote.choice import EngineChoice
from sala_core.session.remote.engines import Engines
from sala_core.session.remote.turn import Writer
from sala_core.session.session import Session

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTION = "What is the ferryman of Tavelun called?"


@pytest.fixture
def server():
    with running(EngineServer(models=[{"id": "toy", "max_model_len": 2048}])) as state:
        yield state


@pytest.fixture
def writer(server):
    engine = ChatEngine(EngineChoice(access=Access.of(server.url), sends="passages"))
    yield Writer(engine=engine)
    engine.close()


def ask(session, writer, question=QUESTION, **options) -> Answer:
    return last(session.ask(question, writer=writer, **options))


def says(server, *words):
    server.events = [*(chunk(word) for word in words), chunk(reason="stop"), usage(500, 9, 0), DONE]


def test_an_answer_is_a_turn_with_its_passages_and_checked_quotations(session, library, server, writer, talking_engine):
    says(
        server,
        'He is called "Osrik". ',
        'It says "The ferryman of Tavelun is called Osrik." ',
        '"He sings all day long."',
    )
    before = session.row.num_tokens

    events = list(session.ask(QUESTION, writer=writer))

    answer = events[-1]
    assert any(isinstance(event, PromptProgress) and event.reader == "toy" for event in events)
    assert [item.text for item in answer.quotations] == ["The ferryman of Tavelun is called Osrik."]
    by = answer.written_by
    assert (by.engine, by.basis, by.passages) == ("toy", "passages", len(answer.evidence))
    assert (by.quotations_found, by.quotations_checked) == (1, 2), "a word alone is no quotation; one stands nowhere"
    assert "is called Osrik" in server.asked[0]["messages"][-1]["content"]
    question, told = library.messages(session.row.id)
    assert (question.text, told.text) == (QUESTION, answer.text)
    assert told.stats is not None
    assert told.stats.written_by == by
    ids = library.token_ids(session.row.id, before, session.row.num_tokens)
    assert answer.text in talking_engine.tokenizer.decode(ids.tolist())
    assert session.row.position == session.row.num_tokens, "the model here has read the turn"


def test_the_state_is_that_of_a_session_that_has_read_the_same_tokens(session, library, server, writer, talking_engine):
    says(server, "Osrik.")
    ask(session, writer)
    says(server, "At night.")
    ask(session, writer, "When does he never row?")
    row, state = session.row, session.state.state
    assert state is not None
    fresh = talking_engine.new_state()
    parts = library.parts(row.id)
    for start, end in zip([0, *(part.end for part in parts)], [part.end for part in parts], strict=False):
        for _ in talking_engine.read(fresh, library.token_ids(row.id, start, end)):
            pass
    for name, tensor in fresh.snapshot().items():
        assert np.allclose(tensor.cpu(), state.snapshot()[name].cpu(), atol=1e-4), name
    assert server.asked[1]["messages"][:2] == [
        {"role": "user", "content": f"Question: {QUESTION}"},
        {"role": "assistant", "content": "Osrik."},
    ], "the earlier turn is told"


def test_another_version_of_a_turn_may_come_from_elsewhere_and_a_later_one_from_here(session, library, server, writer):
    says(server, "First.")
    ask(session, writer)
    turn = library.turns(session.row.id)[0]
    says(server, "Second.")
    answer = last(session.regenerate(turn.id, writer=writer))
    assert answer.text == "Second."
    shown = library.turns(session.row.id)
    assert len(shown) == 1
    assert len(shown[0].versions) == 2
    assert session.row.position == session.row.num_tokens
    here = last(session.ask("And now?", GREEDY))
    assert here.written_by is None
    assert [message.text for message in library.messages(session.row.id)][:3] == [QUESTION, "Second.", "And now?"]


@pytest.mark.parametrize("status", [401, 404, 413, 429, 500])
def test_a_refused_question_changes_nothing_and_can_be_asked_again(session, library, server, writer, status):
    says(server, "Osrik.")
    before, state = session.row, session.state.state
    server.status = status
    with pytest.raises(EngineError):
        ask(session, writer)
    after = session.row
    assert (after.num_tokens, after.position, after.num_messages) == (before.num_tokens, before.position, 0)
    assert session.state.state is state, "nothing has to be loaded again"
    server.status = 200
    assert ask(session, writer).text == "Osrik."
    assert len(server.asked) == 2


def test_a_part_of_an_answer_is_kept_as_a_stopped_turn_and_nothing_is_asked_twice(session, library, server, writer):
    says(server, "Os", "rik ", "is he.")
    server.cut_after = 2
    answer = ask(session, writer)
    assert (answer.text, answer.finish_reason) == ("Osrik", "stopped")
    assert [message.status for message in library.messages(session.row.id)] == ["done", "stopped"]
    assert len(server.asked) == 1
    server.cut_after = 0
    with pytest.raises(EngineUnreachableError):
        ask(session, writer, "And when?")
    assert session.row.num_messages == 2


def test_an_answer_without_a_word_is_an_error_and_no_turn(session, server, writer):
    server.events = [chunk(reason="stop"), DONE]
    with pytest.raises(EngineFailedError, match="has written nothing"):
        ask(session, writer)
    assert session.row.num_messages == 0


def test_a_turn_is_on_disk_before_the_model_here_reads_it(session, library, server, writer):
    says(server, "Osrik.")
    events = session.ask(QUESTION, writer=writer)
    for event in events:
        if isinstance(event, ReadProgress) and library.messages(session.row.id):
            break
    assert [message.text for message in library.messages(session.row.id)] == [QUESTION, "Osrik."]
    events.close()
    session.state.forget()
    says(server, "Nine.")
    assert ask(session, writer, "When does the ferry leave?").text == "Nine.", "the next question reads what is unread"
    assert session.row.position == session.row.num_tokens


def test_a_stop_while_the_engine_is_silent_stores_nothing(session, library, server, writer):
    server.hang = threading.Event()
    events = list(session.ask(QUESTION, writer=writer, should_stop=lambda: bool(server.asked)))
    server.hang.set()
    assert not any(isinstance(event, Answer) for event in events)
    assert library.messages(session.row.id) == []
    server.hang = None
    says(server, "Osrik.")
    assert ask(session, writer).text == "Osrik."


def test_a_question_during_a_reading_is_answered_from_the_whole_text(library, talking_engine, tmp_path, server, writer):
    says(server, 'It says "The ferryman of Tavelun is called Osrik."')
    (tmp_path / "long.txt").write_text("Nothing else happens here. " * 1500 + FERRY, encoding="utf-8")
    with Session.open(library, talking_engine, "town", create=True) as session:
        reading = session.read([tmp_path / "long.txt"])
        for event in reading:
            if isinstance(event, ReadProgress) and event.phase == "reading" and session.can_ask_meanwhile:
                break
        answer = last(session.ask_meanwhile(QUESTION, writer=writer))
        assert "is called Osrik" in str(server.asked[-1])
        assert [item.text for item in answer.quotations] == ["The ferryman of Tavelun is called Osrik."]
        assert answer.read_so_far is None
        last(reading)
        assert session.row.position == session.row.num_tokens
        assert [message.text for message in library.messages(session.row.id)] == [QUESTION, answer.text]


def test_a_choice_and_its_key_are_kept_for_this_user_alone(tmp_path, server):
    server.key = "secret"
    engines = Engines(tmp_path)
    assert engines.choice is None
    assert engines.writer({}) is None
    choice = EngineChoice(access=Access.of(server.url, "secret"), model="toy", context_tokens=1024, sends="passages")
    assert engines.check(choice).model == "toy"
    engines.choose(choice)
    assert (tmp_path / "engine.key").stat().st_mode & 0o077 == 0
    assert "secret" not in (tmp_path / "engine.json").read_text()
    again = Engines(tmp_path)
    assert again.choice == choice
    assert again.key_for(Access.of(server.url)) == "secret"
    assert again.key_for(Access.of("http://127.0.0.1:1")) == "", "another server never gets it"
    made = again.writer({"temperature": 0.5, "verbatim": True})
    assert made is not None
    assert made.settings.temperature == 0.5
    assert again.info is not None
    assert again.info.context_tokens == 1024
    again.choose(EngineChoice(access=Access.of("http://127.0.0.1:9"), model="x"), keep=False)
    assert Engines(tmp_path).choice == choice, "for this start alone"
    with pytest.raises(EngineUnreachableError):
        again.writer({})
    again.choose(None)
    assert Engines(tmp_path).choice is None
    assert not (tmp_path / "engine.key").exists()
    for each in (engines, again):
        each.close()


def test_a_choice_that_is_damaged_is_none_and_one_that_cannot_be_kept_is_told(tmp_path):
    (tmp_path / "engine.json").write_text("{")
    assert Engines(tmp_path).choice is None
    (tmp_path / "engine.json").write_text('{"url": "ftp://x"}')
    assert Engines(tmp_path).choice is None
    with pytest.raises(LibraryError):
        Engines(tmp_path / "gone" / "there").choose(EngineChoice(access=Access.of("x"), model="m"))
