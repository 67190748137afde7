"""Question lists of a workspace: one question at a time, on disk at once, and continued after a stop or a crash."""

import threading
from collections import deque

import pytest
from engine_server import EngineServer, running
from reading_helpers import last

from sala_core.errors import EngineUnreachableError, QuestionListError
from sala_core.remote.access import Access
from sala_core.remote.chat_engine import ChatEngine
from sala_core.remote.choice import EngineChoice
from sala_core.session.lists.list_runs import QuestionLists
from sala_core.session.remote.turn import Writer
from sala_core.session.session import Session

QUESTIONS = ("Who came?", "Where?", "When?")
SHORT = {"max_tokens": 4, "temperature": 0.0}


class Engine:
    """Calls functions one after the other, as the engine's thread does between two jobs."""

    def __init__(self):
        self.waiting = deque()

    def run(self, number=100):
        while self.waiting and number:
            number -= 1
            self.waiting.popleft()()


@pytest.fixture
def made(session_engine, library, write_book, tmp_path):
    with Session.open(library, session_engine, "demo", create=True) as session:
        last(session.read([write_book(num_lines=20)]))
        session_id = session.row.id
    engine = Engine()

    def make(**options):
        return QuestionLists(
            tmp_path / "lists",
            engine.waiting.append,
            lambda name: Session.open(library, session_engine, name),
            **options,
        )

    return make, engine, session_id


def test_a_list_goes_on_where_a_killed_program_left_it(made):
    make, engine, session_id = made
    lists = make()
    list_id = lists.start(session_id, "mine.txt", QUESTIONS, SHORT)
    engine.run(1)
    assert lists.view(list_id, session_id).num_answered == 1
    engine.waiting.clear()  # the process is gone, with what was in its memory

    restarted = make()
    (view,) = restarted.views(session_id)
    assert (view.status, view.num_answered, view.name, view.changes) == ("interrupted", 1, "mine.txt", SHORT)
    restarted.resume(list_id, session_id)
    engine.run()
    assert restarted.view(list_id, session_id).status == "done"
    assert [row["question"] for row in restarted.rows(list_id, session_id)] == list(QUESTIONS)
    assert [row["tokens_generated"] <= 4 for row in restarted.rows(list_id, session_id)] == [True] * 3


def test_other_work_goes_between_two_questions(made):
    make, engine, session_id = made
    lists, seen = make(), []
    list_id = lists.start(session_id, "mine.txt", QUESTIONS, SHORT)
    engine.run(1)
    engine.waiting.appendleft(lambda: seen.append(lists.view(list_id, session_id).num_answered))
    engine.run()
    assert seen == [1]


def test_a_stopped_list_keeps_its_answers_and_continues(made):
    make, engine, session_id = made
    lists = make()
    list_id = lists.start(session_id, "mine.txt", QUESTIONS, SHORT)
    engine.run(1)
    lists.stop(list_id)
    engine.run()
    assert (lists.view(list_id, session_id).status, lists.view(list_id, session_id).num_answered) == ("stopped", 1)
    lists.resume(list_id, session_id)
    engine.run()
    assert lists.view(list_id, session_id).status == "done"


def test_a_failure_is_told_and_the_list_can_be_continued(made, library):
    make, engine, session_id = made
    lists = make()
    list_id = lists.start(session_id, "mine.txt", QUESTIONS, SHORT)
    with library.lock_session(session_id):
        thread = threading.Thread(target=engine.run)
        thread.start()
        thread.join()
    view = lists.view(list_id, session_id)
    assert view.status == "failed"
    assert view.error
    with pytest.raises(QuestionListError, match="not there any more"):
        lists.view("0" * 32, session_id)
    lists.resume(list_id, session_id)
    engine.run()
    assert lists.view(list_id, session_id).status == "done"


def test_lists_are_deleted_with_their_session_and_by_hand(made):
    make, engine, session_id = made
    lists = make()
    first = lists.start(session_id, "first.txt", QUESTIONS[:1], SHORT)
    second = lists.start(session_id, "second.txt", QUESTIONS[:1], SHORT)
    with pytest.raises(QuestionListError, match="stop it first"):
        lists.delete(first, session_id)
    engine.run()
    lists.delete(first, session_id)
    assert [view.id for view in lists.views(session_id)] == [second]
    lists.drop_unused({session_id})
    assert [view.id for view in make().views(session_id)] == [second]
    lists.drop_unused(set())
    assert make().views(session_id) == []
    assert make().views("../" + session_id) == []


def test_a_list_is_answered_by_the_chosen_engine_and_goes_on_once_that_is_there_again(made):
    make, engine, session_id = made
    with running(EngineServer()) as server:
        choice = EngineChoice(access=Access.of(server.url), model="toy")
        chosen = ChatEngine(choice)
        away = [EngineUnreachableError("nothing answers there; start it")]

        def writer(changes):
            assert changes == SHORT
            if away:
                raise away.pop()
            return Writer(engine=chosen)

        lists = make(writer=writer)
        list_id = lists.start(session_id, "mine.txt", QUESTIONS, SHORT)
        engine.run()
        view = lists.view(list_id, session_id)
        assert (view.status, view.error, view.num_answered) == ("failed", "nothing answers there; start it", 0)
        lists.resume(list_id, session_id)
        engine.run()
        rows = lists.rows(list_id, session_id)
        assert [row["written_by"]["engine"] for row in rows] == ["toy"] * 3
        chosen.close()
