"""Questions go before readings: between two chunks, on one thread; what waits is kept and told."""

import threading
import time

import pytest
from reading_helpers import GREEDY, finished, last, until

from sala_core import SamplingParams
from sala_core.session.session import Session
from sala_core.session.workspace import Workspace
from sala_core.store import AskRequest

pytestmark = pytest.mark.usefixtures("short_segments", "one_thread")

SHORT = SamplingParams(temperature=0.0, max_tokens=4)


@pytest.fixture
def start(tmp_path, random_model):
    """Open a workspace on the library folder; all are closed at the end."""
    opened = []

    def open_workspace():
        opened.append(Workspace(tmp_path / "library", str(random_model), "cpu"))
        return opened[-1]

    yield open_workspace
    for each in opened:
        each.close()


@pytest.fixture
def workspace(start):
    return start()


@pytest.fixture
def long_reading(workspace, write_book):
    """Start a reading of some length; returns the session and the job, once the model has read a chunk."""
    session = workspace.new_session("long")
    job = workspace.submit_read(session.id, [write_book("long.txt", num_lines=3000)])
    until(lambda: getattr(workspace.job(job).progress, "phase", "") == "reading")
    return session, job


def test_a_question_of_another_session_is_answered_between_two_chunks(workspace, write_book, long_reading):
    _, job = long_reading
    other = workspace.new_session("other")
    asked = finished(workspace, workspace.submit_ask(other.id, "Who came?", SHORT))
    assert asked.status == "done"
    assert workspace.job(job).status == "running", "the reading goes on"
    assert {thread.name for thread in threading.enumerate() if thread.name == "engine"} == {"engine"}
    position = workspace.job(job).progress.tokens_done
    until(lambda: workspace.job(job).progress.tokens_done > position)
    again = finished(workspace, workspace.submit_ask(other.id, "And then?", SHORT))
    assert again.result.tokens_reused > 0
    workspace.stop(job)


def test_a_question_in_the_session_that_is_read_says_what_it_knew(workspace, long_reading):
    session, job = long_reading
    asked = finished(workspace, workspace.submit_ask(session.id, "Who came?", SHORT))
    position, total = asked.result.read_so_far
    assert 0 < position < total
    assert workspace.job(job).status == "running"
    assert workspace.active_job(session.id).id == job
    read = finished(workspace, job)
    row = workspace.library.session(session.id)
    assert (read.status, row.position) == ("done", row.num_tokens)
    assert [part.kind for part in workspace.library.parts(session.id)][-2:] == ["user", "assistant"]
    follow = finished(workspace, workspace.submit_ask(session.id, "And then?", SHORT))
    assert (follow.result.read_so_far, follow.result.tokens_reused) == (None, row.num_tokens)


def test_the_queue_tells_place_and_time(workspace):
    sessions = [workspace.new_session(f"session {number}") for number in range(4)]
    first = finished(workspace, workspace.submit_ask(sessions[0].id, "Who?", SHORT))
    assert first.waiting is None
    running = workspace.submit_ask(sessions[1].id, "Who?", SamplingParams(temperature=0.0, max_tokens=4000))
    until(lambda: workspace.job(running).text)
    second, third = (workspace.submit_ask(session.id, "Who?", SHORT) for session in sessions[2:])
    places = [workspace.job(each).waiting for each in (second, third)]
    assert [each.place for each in places] == [1, 2]
    assert places[0].seconds is not None
    assert places[1].seconds > places[0].seconds
    workspace.stop(running)
    assert [finished(workspace, each).status for each in (second, third)] == ["done", "done"]


def test_a_reading_waits_for_the_questions_that_came_after_it(workspace, write_book, long_reading):
    _, running = long_reading
    other, asking = workspace.new_session("other"), workspace.new_session("asking")
    read = workspace.submit_read(other.id, [write_book(num_lines=30)])
    asked = workspace.submit_ask(asking.id, "Who?", SHORT)
    assert finished(workspace, asked).status == "done"
    assert workspace.job(read).waiting.place == 1
    workspace.stop(running)
    assert finished(workspace, read).status == "done"


def test_a_question_waits_for_another_program_and_is_answered_then(workspace, open_library):
    session = workspace.new_session("demo")
    elsewhere = open_library("library")
    with elsewhere.lock_session(session.id):
        asked = workspace.submit_ask(session.id, "Who came?", SHORT)
        time.sleep(0.1)
        assert workspace.job(asked).status == "queued"
        assert workspace.library.job(asked).request == AskRequest(question="Who came?")
        other = workspace.new_session("other")
        assert finished(workspace, workspace.submit_ask(other.id, "Who?", SHORT)).status == "done"
        assert workspace.job(asked).status == "queued"
    assert finished(workspace, asked).status == "done"


def test_a_question_that_waits_when_the_program_ends_is_asked_by_the_next(start, open_library):
    workspace = start()
    session = workspace.new_session("demo")
    with open_library("library").lock_session(session.id):
        workspace.submit_ask(session.id, "Who came?", changes={"max_tokens": 3, "temperature": 0.0})
        workspace.close()
    again = start()
    until(lambda: again.library.messages(session.id))
    question, answer = again.library.messages(session.id)
    assert question.text == "Who came?"
    assert answer.stats.tokens_generated <= 3


def left_by_a_killed_program(library, session_id, question, status):
    """A question's row as a killed program leaves it."""
    job = library.create_job(session_id, AskRequest(question=question, changes={"max_tokens": 3, "temperature": 0.0}))
    library.update_job(job.id, status=status)
    library.release_job(job.id)
    return job


def test_a_question_that_was_cut_off_is_asked_again_before_those_behind_it(start, open_library):
    workspace = start()
    session = workspace.new_session("demo")
    workspace.close()
    with open_library("library") as library:
        left_by_a_killed_program(library, session.id, "Who came?", "running")
        left_by_a_killed_program(library, session.id, "And then?", "queued")
    again = start()
    until(lambda: len(again.library.messages(session.id)) == 4)
    assert [each.text for each in again.library.messages(session.id)[::2]] == ["Who came?", "And then?"]


def test_a_question_whose_turn_was_stored_is_not_asked_twice(start, open_library):
    workspace = start()
    session = workspace.new_session("demo")
    with open_library("library") as library:
        answered = left_by_a_killed_program(library, session.id, "Who came?", "running")
        left_by_a_killed_program(library, session.id, "And then?", "queued")
    finished(workspace, workspace.submit_ask(session.id, "Who came?", SHORT))
    workspace.close()
    again = start()
    until(lambda: len(again.library.messages(session.id)) == 4)
    assert [each.text for each in again.library.messages(session.id)[::2]] == ["Who came?", "And then?"]
    assert again.library.is_answered(again.library.job(answered.id))


def test_a_question_that_was_cut_off_alone_is_left_to_the_user(start, open_library):
    workspace = start()
    session = workspace.new_session("demo")
    workspace.close()
    with open_library("library") as library:
        job = left_by_a_killed_program(library, session.id, "Who came?", "running")
    again = start()
    assert again.library.job(job.id).status == "interrupted"
    assert [each.id for each in again.library.jobs(session.id)] == [job.id]
    assert not again.library.is_answered(again.library.job(job.id))


def test_a_question_that_does_not_fit_beside_the_reading_waits_for_its_end(workspace, long_reading, monkeypatch):
    from sala_core.errors import MemoryBudgetError

    _, job = long_reading
    ask, other = Session.ask, workspace.new_session("other")

    def cramped(self, *arguments, **options):
        if workspace.runner.suspended is not None:
            raise MemoryBudgetError("it needs more than is free")
        return ask(self, *arguments, **options)

    monkeypatch.setattr(Session, "ask", cramped)
    asked = workspace.submit_ask(other.id, "Who?", SHORT)
    until(lambda: workspace.job(asked).waiting and workspace.job(asked).waiting.reason)
    assert "memory" in workspace.job(asked).waiting.reason
    workspace.stop(job)
    assert finished(workspace, asked).status == "done"


def test_another_version_of_a_turn_is_a_job_too(workspace):
    session = workspace.new_session("demo")
    finished(workspace, workspace.submit_ask(session.id, "Who came?", GREEDY))
    (turn,) = workspace.library.turns(session.id)
    job = finished(workspace, workspace.submit_ask(session.id, "Who went?", GREEDY, instead_of=turn.id))
    assert (job.status, job.result.document_tokens_read) == ("done", 0)
    assert workspace.library.messages(session.id)[0].text == "Who went?"
    assert len(workspace.library.turns(session.id)[0].versions) == 2


def test_a_commands_reading_is_told_by_its_jobs_row(workspace, open_library, write_book):
    from sala_core.session.queue.recorded import recorded
    from sala_core.store import ReadRequest

    until(lambda: workspace.model_info().status == "ready")
    elsewhere, session = open_library("library"), workspace.new_session("demo")
    book = write_book(num_lines=300)
    with Session.open(elsewhere, workspace._engine, "demo") as reading:
        events = recorded(elsewhere, session.id, ReadRequest(paths=(str(book),)), reading.read([book]))
        for event in events:
            if getattr(event, "phase", "") == "reading":
                break
        view = workspace.active_reading(session.id)
        assert (view.status, view.request.paths) == ("running", (str(book),))
        asked = workspace.submit_ask(session.id, "Who came?", SHORT)
        assert "being read by a command" in workspace.job(asked).waiting.reason
        assert last(events).stopped is False
    assert workspace.job(view.id).status == "done"
    assert finished(workspace, asked).result.read_so_far is None
