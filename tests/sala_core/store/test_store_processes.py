"""Eight processes on one session: exactly one of them writes, the others read, and no turn is lost or doubled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from library_check import settled
from made_library import make_library
from one_session_many_processes import answer_of

from sala_core.store import Library

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")

SCRIPT = Path(__file__).parents[1] / "one_session_many_processes.py"
WRITERS = READERS = 4
SHORT_TURNS = 4


@pytest.mark.timeout(0)
def test_of_eight_processes_one_writes_and_the_others_read(tmp_path, environment, pytestconfig):
    folder = tmp_path / "library"
    make_library(folder)
    turns = SHORT_TURNS if pytestconfig.getoption("--kills") <= 20 else 50
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *map(str, (WRITERS, READERS, turns))],
        env=environment | {"PYTHONPATH": os.pathsep.join([environment["PYTHONPATH"], str(SCRIPT.parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert len(done.stdout.splitlines()) == WRITERS + READERS
    assert all(int(line) >= 0 for line in done.stdout.splitlines())
    expected = {answer_of(writer, turn) for writer in range(WRITERS) for turn in range(turns)}
    with Library.open(folder) as library:
        texts = [message.text for message in library.messages("tale") if message.role == "assistant"]
        heads = {part.end for part in library.parts("tale")}
        assert library.session("tale").position in heads
    assert sorted(texts[1:]) == sorted(expected), "a turn is lost or doubled"
    for writer in range(WRITERS):
        own = [text for text in texts if text in {answer_of(writer, turn) for turn in range(turns)}]
        assert own == [answer_of(writer, turn) for turn in range(turns)], "the turns of one writer are in order"
    settled(folder)
    print(done.stdout)
