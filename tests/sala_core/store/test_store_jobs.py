"""Jobs outlive their window, and the end of their process is noticed."""

import os
import subprocess
import sys
import threading

import psutil
import pytest

from sala_core.errors import LibraryError, SessionNotFoundError
from sala_core.events import Answer, PromptProgress
from sala_core.store import AskRequest, Library, ReadRequest


def test_a_job_starts_queued_and_belongs_to_this_process(library, new_session):
    session = new_session()
    job = library.create_job(session, ReadRequest(paths=("/a",)))
    assert (job.status, job.kind, job.request, job.progress, job.result, job.error) == (
        "queued",
        "read",
        ReadRequest(paths=("/a",)),
        None,
        None,
        None,
    )
    assert job.owner_pid == os.getpid()
    assert job.owner_started == pytest.approx(psutil.Process().create_time(), abs=1)
    assert library.job(job.id) == job


def test_an_update_changes_only_what_is_given(library, new_session):
    job = library.create_job(new_session(), AskRequest(question="Who?"))
    progress, result = PromptProgress(tokens_done=5, tokens_total=9), Answer.from_json({"text": "x"})
    library.update_job(job.id, status="running", progress=progress)
    library.update_job(job.id, result=result)
    done = library.update_job(job.id, status="failed", error="no room")
    assert (done.status, done.progress, done.result, done.error) == (
        "failed",
        progress,
        result,
        "no room",
    )
    assert done.updated_at >= done.created_at


def test_jobs_are_listed_by_session_and_status(library, new_session):
    one, two = new_session("one"), new_session("two")
    first, second = library.create_job(one, ReadRequest()), library.create_job(two, ReadRequest())
    library.update_job(second.id, status="done")
    assert [job.id for job in library.jobs()] == [first.id, second.id]
    assert [job.id for job in library.jobs(one)] == [first.id]
    assert [job.id for job in library.jobs(status="done")] == [second.id]
    assert library.jobs(one, "done") == []
    library.delete_session(one)
    assert [job.id for job in library.jobs()] == [second.id]


def test_unknown_jobs_and_sessions_are_refused(library):
    with pytest.raises(SessionNotFoundError):
        library.create_job("unknown", ReadRequest())
    for call in (library.job, library.update_job):
        with pytest.raises(LibraryError):
            call("unknown")


CHILD = """
import sys
import threading
from pathlib import Path
from sala_core.store import Library, ReadRequest
library = Library.open(Path(sys.argv[1]))
for status in ("queued", "running", "done"):
    library.update_job(library.create_job("book", ReadRequest()).id, status=status)
"""


def test_jobs_of_a_process_that_has_ended_become_interrupted(library, new_session, environment):
    session = new_session()
    alive = library.create_job(session, AskRequest(question="Who?"))
    subprocess.run([sys.executable, "-c", CHILD, str(library.folder)], env=environment, check=True)
    assert [library.is_orphaned(job) for job in library.jobs(session)] == [False, True, True, False]
    recovered = library.recover_jobs()
    assert [job.status for job in recovered] == ["interrupted", "interrupted"]
    assert [job.status for job in library.jobs(session)] == ["queued", "interrupted", "interrupted", "done"]
    assert library.job(alive.id).status == "queued"
    assert library.recover_jobs() == []


def test_a_process_that_reuses_the_pid_is_not_the_owner(library, new_session):
    job = library.create_job(new_session(), ReadRequest())
    with library.database.write() as conn:
        conn.execute("UPDATE jobs SET owner_started = owner_started - 100")
    assert [item.id for item in library.recover_jobs()] == [job.id]


def test_a_reopened_library_still_has_the_jobs(library, new_session):
    job = library.create_job(new_session(), ReadRequest())
    library.close()
    with Library.open(library.folder) as again:
        assert again.job(job.id) == job


def test_unfinished_jobs_are_found_while_they_begin_and_go_back_into_the_line(library, new_session):
    session, other = new_session("one"), new_session("two")
    first, second, done = (library.create_job(session, AskRequest(question=each)) for each in "abc")
    library.create_job(other, ReadRequest())
    library.update_job(second.id, status="running")
    library.update_job(done.id, status="done")
    assert [job.id for job in library.unfinished_jobs(session)] == [second.id, first.id]
    stopped = threading.Event()

    def change_over():
        while not stopped.is_set():
            for status in ("running", "queued"):
                library.update_job(first.id, status=status)

    thread = threading.Thread(target=change_over)
    thread.start()
    try:
        assert all(len(library.unfinished_jobs(session)) == 2 for _ in range(8000))
    finally:
        stopped.set()
        thread.join()
