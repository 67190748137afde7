"""The page's part: watched folders, documents that are removed, readings that read nothing, files that are dropped."""

import time

import pytest
from reading_helpers import text_of

from sala_core.session.folders import watch
from sala_core.session.workspace import Workspace

pytestmark = pytest.mark.usefixtures("short_segments", "one_thread")


@pytest.fixture
def start(tmp_path, random_model, monkeypatch):
    """Open a workspace on one library; all are closed at the end."""
    monkeypatch.setattr(watch, "_TICK_MS", 100)
    opened = []

    def open_workspace():
        opened.append(Workspace(tmp_path / "library", str(random_model), "cpu"))
        return opened[-1]

    yield open_workspace
    for each in opened:
        each.close()


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    for seed, name in enumerate(("a.txt", "b.txt")):
        (folder / name).write_text(text_of(20, seed))
    return folder


def until(condition, limit_s=60.0):
    """Wait for a condition, and return what it gives."""
    end = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


def finished(workspace, job_id):
    """The job once it is over."""
    return until(lambda: (view := workspace.job(job_id)).status not in ("queued", "running") and view)


def texts(workspace, session_id):
    rows = workspace.library.documents(session_id)
    return {row.name: workspace.library.load_document(row.id).document.text for row in rows}


def test_a_watched_folder_is_read_when_it_changes_also_after_a_restart(start, shelf):
    workspace = start()
    session = workspace.new_session("demo")
    finished(workspace, workspace.submit_read(session.id, [shelf]))
    assert workspace.watchers.folders(session.id) == [str(shelf)]
    workspace.watchers.switch(session.id, on=True)
    (shelf / "a.txt").write_text("The first change.\n")
    until(lambda: texts(workspace, session.id)["shelf/a.txt"] == "The first change.\n")
    until(lambda: workspace.active_job(session.id) is None)
    workspace.close()
    (shelf / "b.txt").write_text("A change while nobody watched.\n")
    workspace = start()
    until(lambda: texts(workspace, session.id)["shelf/b.txt"] == "A change while nobody watched.\n")
    workspace.watchers.switch(session.id, on=False)
    assert not workspace.watchers.is_on(session.id)
    until(lambda: workspace.active_job(session.id) is None)


def test_a_document_is_removed_and_its_cost_is_known_before(start, shelf):
    workspace = start()
    session = workspace.new_session("demo")
    finished(workspace, workspace.submit_read(session.id, [shelf]))
    row = workspace.library.documents(session.id)[0]
    cost = workspace.removal_cost(session.id, row.id)
    job = finished(workspace, workspace.submit_remove(session.id, [row.id]))
    assert job.result.plan.removed == ("shelf/a.txt",)
    assert job.result.tokens_read == cost
    assert list(texts(workspace, session.id)) == ["shelf/b.txt"]
    again = finished(workspace, workspace.submit_remove(session.id, [row.id]))
    assert (again.status, again.result.tokens_read) == ("done", 0)


def test_a_reading_of_nothing_leaves_no_session_and_says_why(start, tmp_path):
    workspace = start()
    (tmp_path / "tool.txt").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "tool.txt", tmp_path / "empty"):
        session = workspace.new_session(path.name)
        workspace.submit_read(session.id, [path])
        until(lambda: not workspace.library.sessions())
        words = until(lambda found=session.id: workspace.readings.take_nothing_read(found))
        assert words.startswith("Nothing was read. ")


def test_a_dropped_file_replaces_the_one_of_its_name(start):
    workspace = start()
    session = workspace.new_session("demo")
    for text in ("The first version.\n", "The second version.\n", "The second version.\n"):
        folder = workspace.new_upload_folder()
        (folder / "notes.txt").write_text(text)
        job = finished(workspace, workspace.submit_read(session.id, [folder / "notes.txt"], owned_folder=folder))
        assert job.status == "done"
    assert texts(workspace, session.id) == {"notes.txt": "The second version.\n"}
    assert (job.result.plan.unchanged, job.result.tokens_read) == (1, 0)
    assert workspace.watchers.folders(session.id) == []
