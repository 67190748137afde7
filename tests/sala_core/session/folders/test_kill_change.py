"""A reading of changed files that is killed at any step leaves the old session or the new one, whole."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from library_check import verify
from reading_helpers import text_of

from sala_core.store import Library

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither fork nor SIGKILL")
SCRIPT = Path(__file__).with_name("kill_changer.py")
BEFORE = ("text stored", "parts replaced", "head moved back", "old texts kept", "sources replaced")
AFTER = ("committed", "about to prefill", "segment stored")
SOME = ("head moved back", "sources replaced", "committed", "segment stored")
"""The steps without `--kills`, or with at most 20."""


def content(folder):
    """Names and texts of the session's documents, its parts' kinds, and its files."""
    with Library.open(folder) as library:
        row = library.session("demo")
        texts = [(d.name, library.load_document(d.id).document.text) for d in library.documents(row.id)]
        kinds = [(part.kind, part.start, part.end) for part in library.parts(row.id)]
        ids = library.token_ids(row.id, 0, row.num_tokens).tolist()
        return texts, kinds, ids, [(s.name, s.content_hash, s.status) for s in library.sources(row.id)]


@pytest.mark.timeout(240)
def test_a_reading_killed_at_any_step_leaves_the_old_session_or_the_new_one(
    tmp_path, environment, random_model, pytestconfig
):
    steps = (*BEFORE, *AFTER) if pytestconfig.getoption("--kills") > 20 else SOME
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for seed, name in enumerate(("a.txt", "b.txt", "c.txt")):
        (shelf / name).write_text(text_of(150, seed))
    command = [sys.executable, str(SCRIPT), str(random_model), str(shelf)]
    readers = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )

    def read(folder, step=""):
        readers.stdin.write(f"{folder}\t{step}\n")
        readers.stdin.flush()
        return int(readers.stdout.readline().split()[1])

    try:
        base = tmp_path / "base"
        assert read(base) == 0
        old = content(base)
        (shelf / "b.txt").write_text(text_of(140, 7))
        (shelf / "d.txt").write_text(text_of(20, 8))
        whole = tmp_path / "whole"
        shutil.copytree(base, whole)
        assert read(whole) == 0
        new = content(whole)
        assert old != new
        with Library.open(whole) as library:
            head = library.session("demo").head
        for step in steps:
            folder = tmp_path / step.replace(" ", "-")
            shutil.copytree(base, folder)
            assert read(folder, step) == -signal.SIGKILL, step
            with Library.open(folder) as library:
                fingerprint = library.session("demo").fingerprint
            verify(folder, fingerprint)
            assert content(folder) == (old if step in BEFORE else new), step
            assert read(folder) == 0, step
            assert content(folder) == new, step
            with Library.open(folder) as library:
                row = library.session("demo")
                assert (row.head, row.position) == (head, row.num_tokens)
    finally:
        readers.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(readers.pid, signal.SIGKILL)
        readers.wait()
        readers.stdout.close()
