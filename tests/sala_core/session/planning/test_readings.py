"""Readings wait for each other on disk, survive the end of the program, and can be taken back while they wait."""

import os
import time

import pytest

from sala_core.session.workspace import Workspace

pytestmark = pytest.mark.usefixtures("short_segments", "one_thread")


def until(condition):
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


@pytest.fixture
def start(tmp_path, random_model):
    opened = []

    def open_workspace():
        opened.append(Workspace(tmp_path / "library", str(random_model), "cpu"))
        return opened[-1]

    yield open_workspace
    for each in opened:
        each.close()


def dropped(workspace, name, num_lines):
    """A folder as an upload leaves it, and the file in it."""
    folder = workspace.new_upload_folder()
    path = folder / "files" / name
    path.parent.mkdir()
    path.write_text("".join(f"Line {number} of {name}: the snow fell on the army.\n" for number in range(num_lines)))
    return folder, path


def drop(workspace, session_id, name, num_lines=20, **options):
    folder, path = dropped(workspace, name, num_lines)
    return workspace.submit_read(session_id, [path], owned_folder=folder, **options)


def begun(workspace, job):
    return until(lambda: getattr(workspace.job(job).progress, "phase", "") == "reading")


def over(workspace, job):
    return until(lambda: workspace.job(job).status not in ("queued", "running"))


def names(workspace, session_id):
    return [row.name for row in workspace.library.documents(session_id)]


def uploads(tmp_path):
    walk = os.walk(tmp_path / "library" / "uploads")
    return [name for folder, _, names in walk for name in names if "incoming" not in folder]


def test_what_is_dropped_during_a_reading_waits_and_is_read_in_order(start, tmp_path):
    workspace = start()
    session = workspace.new_session("s").id
    first = drop(workspace, session, "long.txt", 900)
    begun(workspace, first)
    second, third = drop(workspace, session, "b.txt"), drop(workspace, session, "a.txt")
    assert [job.id for job in workspace.readings.waiting(session)] == [second, third]
    over(workspace, third)
    assert names(workspace, session) == ["long.txt", "b.txt", "a.txt"]
    assert [workspace.job(job).status for job in (first, second, third)] == ["done"] * 3
    until(lambda: uploads(tmp_path) == [])


def test_a_waiting_reading_can_be_taken_back_and_leaves_nothing(start, tmp_path):
    workspace = start()
    session = workspace.new_session("s").id
    first = drop(workspace, session, "long.txt", 900)
    begun(workspace, first)
    second = drop(workspace, session, "b.txt")
    workspace.readings.cancel(second)
    assert workspace.readings.waiting(session) == []
    assert workspace.job(second).status == "stopped"
    workspace.readings.cancel(first)
    assert workspace.job(first).status == "running", "what has begun is stopped, not taken back"
    over(workspace, first)
    until(lambda: uploads(tmp_path) == [])
    assert names(workspace, session) == ["long.txt"]


def test_waiting_readings_are_taken_up_by_the_next_start(start):
    workspace = start()
    session = workspace.new_session("s").id
    begun(workspace, drop(workspace, session, "long.txt", 3000))
    drop(workspace, session, "b.txt", left_out=["none"])
    workspace.close()
    workspace = start()
    until(lambda: "b.txt" in names(workspace, session) and workspace.active_job(session) is None)
    assert names(workspace, session) == ["long.txt", "b.txt"]
    row = workspace.library.session(session)
    assert row.position == row.num_tokens
    assert workspace.library.jobs(session)[-1].request.left_out == ("none",)


def test_a_reading_that_ran_alone_is_only_offered(start):
    workspace = start()
    session = workspace.new_session("s").id
    begun(workspace, drop(workspace, session, "long.txt", 3000))
    workspace.close()
    workspace = start()
    assert workspace.active_job(session) is None
    assert [job.status for job in workspace.library.jobs(session)] == ["interrupted"]
