"""Processes that use one session at the same time; run by test_store_processes.py.

Takes the library's folder, the numbers of writers and readers, and the turns that each writer adds. Prints how often a
writer was refused because another one held the session, and how often a reader looked, a line each; a fault ends it
with an error.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from made_library import FINGERPRINT, TURN, add_turn

from sala_core.errors import SessionBusyError
from sala_core.store import Library
from sala_core.store.states import StateStore

_PAUSE_S = 0.005


def write(folder: Path, writer: int, turns: int) -> int:
    """Add turns as soon as the session is free; return how often it was not."""
    refused = 0
    marker = folder.with_name("writing")
    with Library.open(folder) as library:
        for turn in range(turns):
            while True:
                try:
                    with library.lock_session("tale"):
                        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))  # fails if there is another writer
                        add_turn(library, StateStore(library, FINGERPRINT), answer_of(writer, turn))
                        marker.unlink()
                    break
                except SessionBusyError:
                    refused += 1
                    time.sleep(_PAUSE_S)
            time.sleep(_PAUSE_S)
    return refused


def answer_of(writer: int, turn: int) -> str:
    """What a writer answers in a turn."""
    return f"Writer {writer}, turn {turn}."


def read(folder: Path, reader: int) -> int:
    """Look at the session until all writers are done; return how often."""
    looks = seen = 0
    library = Library.open(folder)
    while not folder.with_name("done").exists() or looks == 0:
        if reader % 2:
            library.close()
            library = Library.open_to_read(folder)
        with library.database.read():  # all of one moment
            row, parts, messages = library.session("tale"), library.parts("tale"), library.messages("tale")
            tokens = library.token_ids("tale", 0, row.num_tokens).tolist()
        assert [message.role for message in messages] == ["user", "assistant"] * (len(messages) // 2)
        assert len(messages) >= seen, "a turn is gone"
        assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
        turns = len(messages) // 2
        assert row.position == row.num_tokens == parts[-1].end
        assert tokens[-len(TURN) * turns :] == TURN.tolist() * turns
        seen, looks = len(messages), looks + 1
        time.sleep(_PAUSE_S)
    library.close()
    return looks


def start(work: Callable[[], int]) -> int:
    """Fork a process that does some work and prints its number; return its pid."""
    child = os.fork()
    if child:
        return child
    try:
        os.write(sys.stdout.fileno(), f"{work()}\n".encode())
    except BaseException:  # noqa: BLE001  the process must end here in any case
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Start them all, and wait."""
    folder, writers, readers, turns = Path(sys.argv[1]), *map(int, sys.argv[2:])
    reading = [start(lambda number=number: read(folder, number)) for number in range(readers)]
    writing = [start(lambda number=number: write(folder, number, turns)) for number in range(writers)]
    failed = [child for child in writing if os.waitpid(child, 0)[1]]
    folder.with_name("done").touch()
    failed += [child for child in reading if os.waitpid(child, 0)[1]]
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
