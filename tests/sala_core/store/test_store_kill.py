"""A library survives kill -9 at any moment; the same check detects a writer that overwrites in place.

A kill does not clear the page cache, so this shows that no moment between two system calls is dangerous. The order of
calls in test_store_files.py shows that data is on the disk before its row is.
"""

import contextlib
import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from library_check import verify

from sala_core.errors import CorruptStateError
from sala_core.store import Library, PartDraft
from sala_core.store.states import StateStore

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither fork nor SIGKILL")

KILLS_PER_LIBRARY = 20
WRITER = Path(__file__).with_name("kill_writer.py")
_spec = importlib.util.spec_from_file_location("kill_writer", WRITER)
writer = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(writer)


@pytest.fixture
def writers(environment):
    """The process that forks the writers."""
    process = subprocess.Popen(
        [sys.executable, str(WRITER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    yield process
    process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def kill_once(writers: subprocess.Popen, mode: str, folder: Path, delay_s: float) -> int:
    """Start a writer, kill it `delay_s` after it is ready; return the last position that it reported."""
    writers.stdin.write(f"{mode} {folder}\n")
    writers.stdin.flush()
    word, pid = writers.stdout.readline().split()
    assert word == "ready"
    time.sleep(delay_s)
    os.kill(int(pid), signal.SIGKILL)
    reported = 0
    while (line := writers.stdout.readline().split())[0] != "gone":
        reported = int(line[0])
    assert int(line[1]) == signal.SIGKILL, "the writer ended by itself"
    return reported


def damage_in(folder: Path) -> str | None:
    """The error that `verify` raises for the state files, or None."""
    try:
        verify(folder, writer.FINGERPRINT)
    except CorruptStateError as error:
        return str(error)
    return None


def verify_progress(folder: Path, reported: int) -> int:
    """Check that no reported state is lost and that the states are correct; return the head's position."""
    with Library.open(folder) as library:
        store = StateStore(library, writer.FINGERPRINT)
        session = library.session(writer.SESSION)
        assert session.position >= reported, "a state that was reported as stored is lost"
        turns = session.position // writer.RUN_TOKENS // writer.KEEP_EVERY
        assert [message.text for message in library.messages(session.id)] == [
            f"turn {turn * writer.KEEP_EVERY}" for turn in range(1, turns + 1)
        ]
        assert len(library.parts(session.id)) == 1 + turns
        if session.head is None:
            return 0
        chain = store.chain(session.head)
        assert chain[-1].end == session.position
        assert torch.equal(store.load_snapshot(session.head)["state.0"], writer.snapshot_at(chain[-1].start)["state.0"])
        for row in chain[-3:]:
            assert torch.equal(store.load_segment(row.name)["k.0"], writer.tensors_at(row.start)["k.0"])
        with library.database.read() as conn:
            newest = conn.execute("SELECT max(end_token) FROM checkpoints").fetchone()[0]
        assert newest - session.position <= writer.RUN_TOKENS, "more than one run of work is lost"
        return session.position


def new_library(folder: Path) -> None:
    """Make a library whose session has more tokens than any writer reaches."""
    with Library.open(folder) as library:
        session = library.create_session(writer.SESSION, model="A", fingerprint=writer.FINGERPRINT)
        ids = np.arange(1 << 20, dtype=np.int32)
        library.append_parts(session.id, [PartDraft(kind="document", token_ids=ids)])


@pytest.mark.timeout(0)
def test_a_kill_at_any_moment_loses_at_most_one_run(tmp_path, writers, pytestconfig):
    moments = random.Random(0)
    for kill in range(pytestconfig.getoption("--kills")):
        folder = tmp_path / str(kill // KILLS_PER_LIBRARY)
        if kill % KILLS_PER_LIBRARY == 0:
            new_library(folder)
            position = 0
        reported = kill_once(writers, "durable", folder, moments.uniform(0.0, 0.4))
        verify(folder, writer.FINGERPRINT)
        reached = verify_progress(folder, reported)
        assert reached >= position
        position = reached
    assert position > 0, "the writer never stored anything"
    with Library.open(folder) as library:
        library.collect_garbage(min_age_s=0)
        assert library.usage().stray_bytes == 0
    verify(folder, writer.FINGERPRINT)
    verify_progress(folder, position)


@pytest.mark.timeout(0)
def test_the_same_check_detects_overwriting_in_place(tmp_path, writers, pytestconfig):
    moments = random.Random(1)
    for attempt in range(max(20, pytestconfig.getoption("--kills"))):
        folder = tmp_path / str(attempt)
        with Library.open(folder) as library:
            writer.overwrite_in_place(library, steps=2)
        verify(folder, writer.FINGERPRINT)
        kill_once(writers, "naive", folder, moments.uniform(0.0, 0.4))
        damage = damage_in(folder)
        if damage is not None:
            break
    assert damage is not None, "overwriting in place was never caught"
    assert "checksum" in damage, "the file is there, of the right length, and a mix of two states"
