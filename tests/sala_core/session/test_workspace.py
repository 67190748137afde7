"""Jobs run one after the other, can be followed and stopped, and no failure ends the thread that runs them."""

import json
import os
import signal
import subprocess
import sys
import threading
from itertools import pairwise

import pytest
from reading_helpers import finished, last, until

from sala_core import SamplingParams
from sala_core.engine.memory_budget import MAX_TOKENS
from sala_core.errors import IngestError, LibraryError, ModelError, SessionBusyError, SessionExistsError
from sala_core.events import DeviceNote, KernelProgress
from sala_core.model.checkpoint import EMBEDDED
from sala_core.session.session import Session
from sala_core.session.workspace import Workspace
from sala_core.store import ReadRequest

pytestmark = pytest.mark.usefixtures("short_segments", "one_thread")

SHORT = SamplingParams(temperature=0.0, max_tokens=4)
LONG = SamplingParams(temperature=0.0, max_tokens=4000)


@pytest.fixture
def start(tmp_path, random_model):
    """Open a workspace on a library folder; all are closed at the end."""
    opened = []

    def open_workspace(name="library", model=random_model):
        opened.append(Workspace(tmp_path / name, str(model), "cpu"))
        return opened[-1]

    yield open_workspace
    for each in opened:
        each.close()


@pytest.fixture
def workspace(start):
    return start()


def reading(workspace, job_id):
    """Wait until the model has read a chunk for the job."""
    return until(lambda: getattr(workspace.job(job_id).progress, "phase", "") == "reading")


def test_read_then_ask(workspace, write_book):
    session = workspace.new_session("demo")
    assert workspace.active_job(session.id) is None
    book = write_book()
    done = finished(workspace, workspace.submit_read(session.id, [book]))
    row = workspace.library.session(session.id)
    assert (done.status, done.kind, done.error, done.session_id) == ("done", "read", None, session.id)
    assert done.result.tokens_read == row.num_tokens == row.position
    assert done.progress.tokens_done == done.progress.tokens_total == row.num_tokens
    asked = finished(workspace, workspace.submit_ask(session.id, "Who came?", SHORT))
    assert (asked.status, asked.kind) == ("done", "ask")
    assert asked.result.tokens_reused == row.num_tokens
    assert asked.result.evidence[0].document == "book.txt"
    _, said = workspace.library.messages(session.id)
    assert said.text == asked.result.text
    assert said.evidence == asked.result.evidence
    assert workspace.active_job(session.id) is None
    json.dumps([record.to_json() for record in (done.result, asked.result, done.progress)])


def test_the_second_question_loads_nothing(workspace, write_book):
    session = workspace.new_session("demo")
    finished(workspace, workspace.submit_read(session.id, [write_book(num_lines=30)]))
    held = workspace._held[session.id].state.state
    finished(workspace, workspace.submit_ask(session.id, "Who came?", SHORT))
    assert workspace._held[session.id].state.state is held
    other = workspace.new_session("other")
    finished(workspace, workspace.submit_ask(other.id, "Who came?", SHORT))
    assert list(workspace._held) == [other.id]


def test_a_view_shows_the_answer_as_it_grows(workspace):
    session = workspace.new_session("demo")
    job = workspace.submit_ask(session.id, "Who came?", SamplingParams(temperature=0.0, max_tokens=60))
    seen = set()

    def over():
        view = workspace.job(job)
        seen.add(view.text)
        return view.status not in ("queued", "running")

    until(over)
    final = workspace.job(job).result.text
    grown = sorted(seen, key=len)
    assert len(grown) > 3
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(grown) if longer)
    assert all(text.strip() in final for text in grown)


def test_a_stopped_reading_continues_without_its_paths(workspace, write_book):
    session = workspace.new_session("demo")
    job = workspace.submit_read(session.id, [write_book(num_lines=900)])
    reading(workspace, job)
    workspace.stop(job)
    stopped = finished(workspace, job)
    row = workspace.library.session(session.id)
    assert stopped.status == "stopped"
    assert stopped.result.stopped
    assert row.position < row.num_tokens
    meter = workspace.meter(session.id)
    assert (meter.tokens_read, meter.tokens_pending) == (row.position, row.num_tokens - row.position)
    rest = finished(workspace, workspace.submit_read(session.id, []))
    assert rest.status == "done"
    assert rest.result.tokens_read == row.num_tokens - row.position
    workspace.stop(job)


def test_a_stopped_answer_is_kept(workspace):
    session = workspace.new_session("demo")
    job = workspace.submit_ask(session.id, "Who came?", LONG)
    until(lambda: len(workspace.job(job).text) > 10)
    workspace.stop(job)
    view = finished(workspace, job)
    assert (view.status, view.result.finish_reason) == ("stopped", "stopped")
    assert [message.status for message in workspace.library.messages(session.id)] == ["done", "stopped"]


def test_a_busy_session_refuses_other_jobs_and_another_session_waits(workspace):
    busy, idle = workspace.new_session("busy"), workspace.new_session("idle")
    first = workspace.submit_ask(busy.id, "Who came?", LONG)
    until(lambda: workspace.job(first).text)
    assert workspace.active_job(busy.id).id == first
    for submit in (
        lambda: workspace.submit_ask(busy.id, "And then?", SHORT, instead_of="of a turn"),
        lambda: workspace.submit_read(busy.id, []),
        lambda: workspace.submit_reread(busy.id),
    ):
        with pytest.raises(SessionBusyError, match=r"still at work|being answered"):
            submit()
    second = workspace.submit_ask(idle.id, "Who came?", SHORT)
    assert workspace.job(second).status == "queued"
    assert workspace.active_job(idle.id).id == second
    workspace.stop(first)
    assert finished(workspace, second).status == "done"
    assert workspace.job(first).status == "stopped"


def test_questions_of_one_session_wait_in_their_order_and_can_be_taken_back(workspace):
    session = workspace.new_session("demo")
    first = workspace.submit_ask(session.id, "First?", LONG)
    until(lambda: workspace.job(first).text)
    second, third, fourth = (workspace.submit_ask(session.id, f"{word}?", SHORT) for word in ("Two", "Three", "Four"))
    assert workspace.active_job(session.id).id == first
    waiting = workspace.questions.waiting(session.id)
    assert [(job.id, job.waiting.place) for job in waiting] == [(second, 1), (third, 2), (fourth, 3)]
    workspace.questions.cancel(third)
    workspace.questions.cancel(first)  # it has begun, and goes on
    assert [(job.id, job.waiting.place) for job in workspace.questions.waiting(session.id)] == [
        (second, 1),
        (fourth, 2),
    ]
    assert workspace.job(third).status == "stopped"
    assert workspace.job(first).status == "running"
    workspace.stop(first)
    assert finished(workspace, fourth).status == "done"
    asked = [message.text for message in workspace.library.messages(session.id) if message.role == "user"]
    assert asked == ["First?", "Two?", "Four?"]


def test_questions_that_wait_survive_the_end_of_the_program(start):
    workspace = start()
    session = workspace.new_session("demo")
    first = workspace.submit_ask(session.id, "First?", LONG)
    until(lambda: workspace.job(first).status == "running")
    for question in ("Two?", "Three?"):
        workspace.submit_ask(session.id, question, SHORT)
    workspace.stop(first)
    workspace.close()
    later = start()
    until(lambda: len(later.library.messages(session.id)) >= 4 and later.active_job(session.id) is None)
    asked = [message.text for message in later.library.messages(session.id) if message.role == "user"]
    assert asked[-2:] == ["Two?", "Three?"]


def test_no_more_than_twenty_questions_of_a_session_wait(workspace):
    session = workspace.new_session("demo")
    first = workspace.submit_ask(session.id, "First?", LONG)
    until(lambda: workspace.job(first).status == "running")
    for number in range(20):
        workspace.submit_ask(session.id, f"{number}?", SHORT)
    with pytest.raises(SessionBusyError, match="20 questions wait"):
        workspace.submit_ask(session.id, "And this?", SHORT)
    for job in workspace.questions.waiting(session.id):
        workspace.questions.cancel(job.id)
    assert workspace.questions.waiting(session.id) == []
    workspace.stop(first)


def test_a_job_stopped_in_the_queue_does_nothing(workspace):
    busy, idle = workspace.new_session("busy"), workspace.new_session("idle")
    first, second = workspace.submit_ask(busy.id, "Who?", LONG), workspace.submit_ask(idle.id, "Who?", SHORT)
    workspace.stop(second)
    workspace.stop(first)
    assert finished(workspace, second).status == "stopped"
    assert workspace.library.messages(idle.id) == []


def test_a_failed_job_keeps_its_reason_and_the_next_one_runs(workspace, write_book):
    session = workspace.new_session("demo")
    with workspace.library.lock_session(session.id):
        failed = finished(workspace, workspace.submit_read(session.id, [write_book(num_lines=10)]))
    assert failed.status == "failed"
    assert "in use by this program" in failed.error
    assert workspace.library.job(failed.id).error == failed.error
    assert finished(workspace, workspace.submit_ask(session.id, "Who came?", SHORT)).status == "done"


def test_an_unexpected_error_is_logged_and_the_next_job_runs(workspace, tmp_path, monkeypatch):
    session = workspace.new_session("demo")

    def broken(*arguments, **options):
        raise KeyError("oops")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "ask", broken)
        failed = finished(workspace, workspace.submit_ask(session.id, "Who came?", SHORT))
    assert failed.status == "failed"
    assert "KeyError" in failed.error
    (log,) = (tmp_path / "library" / "logs").iterdir()
    assert str(log) in failed.error
    assert "Traceback" in log.read_text()
    assert finished(workspace, workspace.submit_ask(session.id, "Who came?", SHORT)).status == "done"


def test_a_session_deleted_while_its_job_waits_does_not_end_the_thread(workspace):
    busy, doomed = workspace.new_session("busy"), workspace.new_session("doomed")
    first, second = workspace.submit_ask(busy.id, "Who?", LONG), workspace.submit_ask(doomed.id, "Who?", SHORT)
    workspace.library.delete_session(doomed.id)
    workspace.stop(first)
    third = workspace.submit_ask(workspace.new_session("next").id, "Who?", SHORT)
    assert finished(workspace, third).status == "done"
    with pytest.raises(LibraryError):
        workspace.job(second)


def test_closing_in_the_middle_of_a_reading_leaves_it_to_be_continued(start, write_book):
    workspace, book = start(), write_book(num_lines=900)
    session = workspace.new_session("demo")
    job = workspace.submit_read(session.id, [book])
    until(lambda: workspace.library.session(session.id).position > 0)
    workspace.close()
    again = start()
    assert again.library.job(job).status == "interrupted"
    row = again.library.session(session.id)
    assert 0 < row.position < row.num_tokens
    done = finished(again, again.submit_read(session.id, [book]))
    assert (done.status, done.result.tokens_reused) == ("done", row.position)
    assert done.result.tokens_read == row.num_tokens - row.position


def test_a_closed_workspace_has_released_its_lock(start, random_model, session_engine, tmp_path, open_library):
    workspace = start()
    session = workspace.new_session("demo")
    job = workspace.submit_ask(session.id, "Who?", LONG)
    until(lambda: workspace.job(job).text)
    workspace.close()
    library = open_library("library")
    assert [message.status for message in library.messages(session.id)] == ["done", "stopped"]
    with library.lock_session(session.id):
        pass


_VICTIM = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from sala_core.session.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]), sys.argv[2], "cpu")
session = workspace.new_session("demo")
job = workspace.submit_read(session.id, [Path(sys.argv[3])])
queued = workspace.submit_read(workspace.new_session("waiting").id, [Path(sys.argv[3])])
while workspace.library.session(session.id).position == 0:
    time.sleep(0.01)
print(session.id, job, queued, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_programs_jobs_are_marked_interrupted(start, tmp_path, environment, random_model, write_book):
    book = write_book(num_lines=3000)
    command = [sys.executable, "-c", _VICTIM, str(tmp_path / "library"), str(random_model), str(book)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as victim:
        session, job, queued = victim.stdout.readline().split()
        bystander = start()
        assert bystander.library.job(job).status == "running", "a living program's jobs are left alone"
        with pytest.raises(SessionBusyError):
            bystander.submit_read(session, [book])
        victim.send_signal(signal.SIGKILL)
    workspace = start()
    assert [workspace.library.job(each).status for each in (job, queued)] == ["interrupted"] * 2
    assert workspace.library.job(job).request == ReadRequest(paths=(str(book),))
    position = workspace.library.session(session).position
    assert position > 0
    job = workspace.submit_read(session, [])
    until(lambda: workspace.library.session(session).position > position)
    workspace.stop(job)


def test_dropped_files_live_in_the_library_until_they_are_read(start, tmp_path, write_book):
    workspace, session = start(), None
    session = workspace.new_session("demo")
    book = write_book("drop/a.txt", 900)
    folder = tmp_path / "files" / "drop"
    job = workspace.submit_read(session.id, [book], owned_folder=folder)
    assert not folder.exists()
    reading(workspace, job)
    workspace.stop(job)
    finished(workspace, job)
    (path,) = workspace.library.job(job).request.paths
    assert os.path.exists(path), "a stopped reading keeps its files"
    assert path.startswith(str(tmp_path / "library" / "uploads"))
    assert [row.name for row in workspace.library.documents(session.id)] == ["a.txt"]
    done = finished(workspace, workspace.submit_read(session.id, [tmp_path.joinpath(path)]))
    assert (done.status, done.result.files) == ("done", 1)
    until(lambda: not os.path.exists(path))
    assert list((tmp_path / "library" / "uploads").glob("*/*")) == []
    assert book.parent.parent.exists()


def test_the_users_own_files_are_never_removed(workspace, write_book):
    book = write_book(num_lines=10)
    finished(workspace, workspace.submit_read(workspace.new_session("demo").id, [book]))
    assert book.exists()


def test_a_path_that_does_not_exist_is_refused_at_once(workspace, tmp_path):
    session = workspace.new_session("demo")
    with pytest.raises(IngestError, match=r"gone\.txt"):
        workspace.submit_read(session.id, [tmp_path / "gone.txt"])
    assert workspace.library.jobs(session.id) == []
    with pytest.raises(SessionExistsError):
        workspace.new_session("demo")


def test_a_model_that_cannot_be_loaded_is_reported_by_every_job(start, tmp_path):
    workspace = start(model=tmp_path / "nothing here")
    info = until(lambda: workspace.model_info() if workspace.model_info().status != "loading" else None)
    assert (info.status, info.is_demonstration, info.max_tokens) == ("failed", False, MAX_TOKENS)
    assert "nothing here" in info.error
    session = workspace.new_session("demo")
    assert workspace.refusal(session.id) is None
    failed = finished(workspace, workspace.submit_ask(session.id, "Who?", SHORT))
    assert (failed.status, failed.error) == ("failed", info.error)
    assert workspace.meter(session.id).tokens_free > 0


def test_an_unexpected_error_while_loading_is_reported(start, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("driver gone")

    monkeypatch.setattr("sala_core.session.workspace.Engine.load", broken)
    workspace = start()
    until(lambda: workspace.model_info().status == "failed")
    assert "driver gone" in workspace.model_info().error


def test_what_loading_reports_is_in_the_models_info(start, monkeypatch):
    release, progress = threading.Event(), KernelProgress(kernels_done=3, kernels_total=14)

    def slow(*arguments, report, **options):
        report(DeviceNote(text="the first of 2 cards computes"))
        report(progress)
        release.wait(30)
        raise ModelError("enough")

    monkeypatch.setattr("sala_core.session.workspace.Engine.load", slow)
    workspace = start()
    info = until(lambda: workspace.model_info() if workspace.model_info().kernels else None)
    assert (info.status, info.device_note, info.kernels) == ("loading", "the first of 2 cards computes", progress)
    release.set()
    until(lambda: workspace.model_info().status == "failed")
    assert workspace.model_info().kernels is None


def test_a_ready_model_is_reported(workspace, random_model):
    info = until(lambda: workspace.model_info() if workspace.model_info().status == "ready" else None)
    assert (info.name, info.device, info.error) == (str(random_model), "cpu", None)
    assert info.dtype in ("float32", "bfloat16")
    assert info.is_demonstration == (str(random_model) == EMBEDDED) is False


def test_another_models_session_is_refused_until_it_is_read_again(start, write_book, other_model):
    first = start()
    session = first.new_session("demo")
    finished(first, first.submit_read(session.id, [write_book(num_lines=30)]))
    finished(first, first.submit_ask(session.id, "Who came?", SHORT))
    assert first.refusal(session.id) is None
    first.close()
    other = start(model=other_model)
    until(lambda: other.model_info().status == "ready")
    assert "conversation stay" in other.refusal(session.id)
    failed = finished(other, other.submit_ask(session.id, "And then?", SHORT))
    assert failed.status == "failed"
    again = finished(other, other.submit_reread(session.id))
    row = other.library.session(session.id)
    assert (again.status, again.kind, again.result.tokens_read) == ("done", "reread", row.num_tokens)
    assert other.refusal(session.id) is None
    assert finished(other, other.submit_ask(session.id, "And then?", SHORT)).status == "done"
    assert other.library.session(session.id).num_messages == 4


def test_the_meter_counts_bytes_and_tokens(workspace, write_book):
    session = workspace.new_session("demo")
    empty = workspace.meter(session.id)
    assert (empty.tokens_read, empty.tokens_pending, empty.state_bytes) == (0, 0, 0)
    finished(workspace, workspace.submit_read(session.id, [write_book(num_lines=60)]))
    full, row = workspace.meter(session.id), workspace.library.session(session.id)
    assert (full.tokens_read, full.tokens_pending) == (row.num_tokens, 0)
    assert full.tokens_free <= MAX_TOKENS - row.num_tokens
    assert 0 < full.state_bytes < full.library_bytes
    assert full.process_bytes > 1 << 20


def test_a_turn_of_another_program_is_taken_into_account(workspace, session_engine, write_book, open_library):
    session = workspace.new_session("demo")
    finished(workspace, workspace.submit_read(session.id, [write_book("a.txt", 30, 1)]))
    before = workspace.library.session(session.id)
    library = open_library("library")
    engine = workspace._engine
    with Session.open(library, engine, "demo") as elsewhere:
        last(elsewhere.ask("Who came?", SHORT))
    asked = finished(workspace, workspace.submit_ask(session.id, "And then?", SHORT))
    assert asked.result.tokens_reused == library.session("demo").num_tokens - asked.result.tokens_read - (
        asked.result.tokens_generated + len(engine.chat.message_suffix("assistant"))
    )
    assert asked.result.tokens_reused > before.num_tokens


def test_a_freed_session_is_read_again_when_it_is_asked(workspace, write_book):
    session = workspace.new_session("demo")
    finished(workspace, workspace.submit_read(session.id, [write_book(num_lines=60)]))
    first = finished(workspace, workspace.submit_ask(session.id, "Who came?", SHORT))
    whole = workspace.library.session(session.id).num_tokens
    assert workspace.library.drop_state(session.id) > 0
    assert workspace.meter(session.id).tokens_read == 0
    again = finished(workspace, workspace.submit_ask(session.id, "Who came?", SHORT))
    assert again.result.tokens_reused == 0
    assert again.result.tokens_read == whole + first.result.tokens_read
    row = workspace.library.session(session.id)
    assert row.position == row.num_tokens


def test_the_users_settings_replace_the_models_own(workspace):
    session = workspace.new_session("demo")
    until(lambda: workspace.model_info().status == "ready")
    assert workspace.model_info().sampling == SamplingParams()
    changes = {"max_tokens": 3, "temperature": 0.0}
    one = finished(workspace, workspace.submit_ask(session.id, "Who came?", changes=changes))
    assert one.result.tokens_generated <= 3
    seeds = [
        finished(
            workspace,
            workspace.submit_ask(
                workspace.new_session(f"seed {number}").id, "Who?", changes={"seed": seed, "max_tokens": 8}
            ),
        ).result.text
        for number, seed in enumerate((5, 5, 6))
    ]
    assert seeds[0] == seeds[1] != seeds[2]


def test_an_upload_folder_is_private_and_removed_on_close(start, tmp_path):
    workspace = start()
    folder = workspace.new_upload_folder()
    assert folder != workspace.new_upload_folder()
    assert folder.is_relative_to(tmp_path / "library" / "uploads")
    if os.name != "nt":
        assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "part.txt").write_text("half")
    other = start()
    until(lambda: other.model_info().status == "ready")
    other.runner.call(other._tidy)
    other.close()
    assert (folder / "part.txt").exists(), "another program on the same library leaves it alone"
    workspace.close()
    assert not folder.exists()


def test_unfinished_uploads_of_a_killed_program_are_removed_after_a_while(start, tmp_path):
    left = tmp_path / "library" / "uploads" / "incoming" / "killed"
    left.mkdir(parents=True)
    os.utime(left, (1, 1))
    start()
    until(lambda: not left.exists())
