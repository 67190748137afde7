"""Watching a folder survives what editors, version control and systems do to it."""

import os
import shutil
import threading
import time

import pytest

from sala_core.errors import IngestError
from sala_core.session.folders import watch
from sala_core.session.folders.watch import watch_folders


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "a.txt").write_text("The first text.\n")
    return folder


@pytest.fixture
def events(folder, monkeypatch):
    """Starts to watch; returns a function that waits for the next event that fits."""
    monkeypatch.setattr(watch, "_TICK_MS", 100)
    monkeypatch.setattr(watch, "_QUIET_MS", 50)
    stop, found = threading.Event(), []

    def follow():
        for event in watch_folders([folder], stop):
            found.append(event)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()

    def wait(fits, limit_s=30.0):
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            while found:
                if fits(event := found.pop(0)):
                    return event
            time.sleep(0.02)
        raise AssertionError("no such event came")

    wait(lambda event: event.is_changed)  # the first one
    yield wait
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def changed(event):
    return event.is_changed


def test_a_save_by_rename_is_seen(events, folder):
    (folder / "a.txt.tmp").write_text("The second text.\n")
    os.replace(folder / "a.txt.tmp", folder / "a.txt")
    events(changed)


def test_a_thousand_changes_come_in_few_batches(folder):
    stop, batches = threading.Event(), 0
    for index, event in enumerate(watch_folders([folder], stop)):
        batches += event.is_changed
        if index == 0:
            for number in range(1000):
                (folder / f"{number}.txt").write_text(f"{number}\n")
        elif not event.is_changed:
            stop.set()
    assert 2 <= batches <= 6


def test_a_folder_that_is_deleted_is_waited_for(events, folder):
    shutil.rmtree(folder)
    assert "is not there" in events(lambda event: event.note).note
    folder.mkdir()
    events(changed)
    (folder / "b.txt").write_text("After that.\n")
    events(changed)


def test_a_folder_that_another_one_replaces_is_watched_on(events, folder):
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    events(changed)
    (folder / "b.txt").write_text("In the new folder.\n")
    events(changed)


def test_the_systems_limit_leads_to_polling_and_names_the_remedy(folder, monkeypatch):
    real, calls = watch.watch, []

    def limited(*roots, force_polling, **options):
        calls.append(force_polling)
        if not force_polling:
            raise OSError("OS file watch limit reached. about [] (MaxFilesWatch)")
        return real(*roots, force_polling=True, **options)

    monkeypatch.setattr(watch, "watch", limited)
    monkeypatch.setattr(watch, "POLL_MS", 50)
    monkeypatch.setattr(watch, "_TICK_MS", 100)
    stop, notes, is_changed_after = threading.Event(), [], False
    for event in watch_folders([folder], stop):
        if event.note:
            notes.append(event.note)
        elif not is_changed_after:
            is_changed_after = True
            (folder / "b.txt").write_text("By polling.\n")
        elif event.is_changed:
            stop.set()
    assert calls == [None, True]
    (note,) = notes
    assert "sysctl fs.inotify.max_user_watches" in note


def test_a_folder_that_cannot_be_watched_at_all_is_refused(folder, monkeypatch):
    def broken(*roots, **options):
        raise OSError("Function not implemented (os error 38)")

    monkeypatch.setattr(watch, "watch", broken)
    with pytest.raises(IngestError, match="cannot be watched"):
        list(watch_folders([folder], threading.Event()))
