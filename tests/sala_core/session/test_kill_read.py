"""The command `read`, killed with SIGKILL at any moment, loses at most one segment and ends in the same state."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from library_check import verify
from reading_helpers import SEGMENT_TOKENS, text_of

from sala_core.store import Library
from sala_core.store.states import StateStore

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither fork nor SIGKILL")

SNAPSHOT_TOKENS = 4 * SEGMENT_TOKENS
SCRIPT = Path(__file__).with_name("kill_reader.py")
SESSION = "victim"
LONGEST_LIFE_S = 1.3
"""Opening, loading and preparing take up to half of it; a whole reading takes several times as long."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with a book of about 30,000 tokens and a short note."""
    folder = tmp_path_factory.mktemp("files") / "shelf"
    folder.mkdir()
    (folder / "a note.txt").write_text(text_of(15, seed=1))
    (folder / "book.txt").write_text(text_of(1900, seed=2))
    return folder


@pytest.fixture
def readers(environment, random_model, shelf):
    """The process that forks readers."""
    command = [sys.executable, str(SCRIPT), str(random_model), str(shelf), str(SEGMENT_TOKENS), str(SNAPSHOT_TOKENS)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    yield process
    process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def read(readers, folder, life_s=None):
    """Start a reader and kill it `life_s` after it is ready; returns (tokens it reported, its exit code)."""
    readers.stdin.write(f"{folder}\n")
    readers.stdin.flush()
    word, pid = readers.stdout.readline().split()
    assert word == "ready"
    if life_s is not None:
        time.sleep(life_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    reported = 0
    while (line := readers.stdout.readline().split())[0] != "gone":
        reported = int(line[0])
    return reported, int(line[1])


def session_in(folder):
    """The victim's row and the state it stands on; None before it exists."""
    with Library.open(folder) as library:
        rows = [row for row in library.sessions() if row.name == SESSION]
        return rows[0] if rows else None


def check(folder, reported, before):
    """Check the library after a kill; returns the position of the session."""
    row = session_in(folder)
    if row is None:
        assert (reported, before) == (0, 0)
        return 0
    verify(folder, row.fingerprint)
    assert row.position >= before, "what was stored is lost"
    assert row.position % SEGMENT_TOKENS == 0 or row.position == row.num_tokens
    assert reported - row.position <= SEGMENT_TOKENS, "more than one segment of work is lost"
    with Library.open(folder) as library:
        kinds = [part.kind for part in library.parts(row.id)]
        assert kinds in (["system"], ["system", "document", "document"])
        if row.head is not None:
            chain = StateStore(library, row.fingerprint).chain(row.head)
            assert chain[-1].end == row.position
    return row.position


def stored(folder):
    """Every tensor of the victim's state, by its checkpoint."""
    row = session_in(folder)
    with Library.open(folder) as library:
        store = StateStore(library, row.fingerprint)
        chain = store.chain(row.head)
        tensors = {(c.name, key): t for c in chain for key, t in store.load_segment(c.name).items()}
        kept = [c.name for c in chain if c.has_snapshot]
        return tensors | {(name, key): t for name in kept for key, t in store.load_snapshot(name).items()}


@pytest.mark.timeout(0)
def test_a_reading_killed_many_times_ends_like_an_undisturbed_one(tmp_path, readers, pytestconfig):
    whole = tmp_path / "whole"
    assert read(readers, whole)[1] == 0
    expected, row = stored(whole), session_in(whole)
    with Library.open(whole) as library:
        whole_bytes = library.usage().states_bytes
    moments = random.Random(0)
    number, position, advances, folder = 0, 0, 0, tmp_path / "0"
    for _ in range(pytestconfig.getoption("--kills")):
        reported, code = read(readers, folder, moments.uniform(0.0, LONGEST_LIFE_S))
        if code == 0:
            number, position, folder = number + 1, 0, tmp_path / str(number + 1)
            continue
        assert code == -signal.SIGKILL, "the reader ended by itself"
        reached = check(folder, reported, position)
        advances += reached > position
        position = reached
    assert advances > 0, "no reader ever stored anything"
    for each in range(number + 1):
        folder = tmp_path / str(each)
        assert read(readers, folder)[1] == 0
        verify(folder, row.fingerprint)
        assert session_in(folder).head == row.head
        found = stored(folder)
        assert found.keys() == expected.keys()
        assert [key for key in found if not torch.equal(found[key], expected[key])] == []
        with Library.open(folder) as library:
            library.collect_garbage(min_age_s=0)
            assert library.usage().stray_bytes == 0
            assert library.usage().states_bytes == whole_bytes
