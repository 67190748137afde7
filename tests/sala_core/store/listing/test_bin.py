"""The bin: 30 days, back under the same name, first to make room, whole after a kill."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest

from sala_core.errors import SessionBusyError, SessionNotFoundError
from sala_core.store import Library, MessageDraft, PartDraft
from sala_core.store.integrity.repair import repair_library
from sala_core.store.listing.bin import BIN_S

DAY_S = 86_400.0


def test_a_session_in_the_bin_is_not_listed_found_or_searched_and_comes_back_whole(library, new_session, store, save):
    session = new_session("Emma")
    head = save(num_tokens=64)
    library.commit_turn(
        session,
        parts=[PartDraft(kind="user", token_ids=np.arange(4, dtype=np.int32))],
        messages=[MessageDraft(role="user", text="Who is Harriet?")],
        head=head,
        position=64,
    )
    library.pin_session(session, pinned=True)
    binned = library.bin_session(session)
    assert (binned.name, binned.pinned) == ("Emma", False)
    assert library.sessions() == library.sessions("Harriet") == library.search_hits("Harriet") == []
    for name in ("Emma", session):
        with pytest.raises(SessionNotFoundError, match="is in the bin; `restore` brings it back"):
            library.session(name)
    assert [row.name for row in library.sessions_in_bin()] == ["Emma"]
    restored = library.restore_session("Emma")
    assert (restored.id, restored.name, restored.position) == (session, "Emma", 64)
    assert [message.text for message in library.messages(session)] == ["Who is Harriet?"]
    assert library.sessions_in_bin() == []


def test_its_name_is_free_meanwhile_and_it_comes_back_beside_the_new_one(library, new_session):
    old = new_session("Emma")
    library.bin_session(old)
    new = new_session("Emma")
    assert library.session("Emma").id == new
    assert library.restore_session(old).name == "Emma (2)"
    library.bin_session(new)
    assert library.restore_session("Emma").name == "Emma"


def test_of_several_with_one_name_the_one_deleted_last_comes_back(library, new_session):
    first, second = new_session("Emma"), None
    library.bin_session(first)
    second = new_session("Emma")
    library.bin_session(second)
    assert library.restore_session("Emma").id == second
    with pytest.raises(SessionNotFoundError, match="sessions --bin"):
        library.restore_session("Persuasion")


def test_the_bin_is_emptied_after_thirty_days_and_not_before(library, new_session, save, store):
    old, young = new_session("old"), new_session("young", num_tokens=32)
    head = save(num_tokens=64)
    library.set_head(old, head, 64)
    for session in (old, young):
        library.bin_session(session)
    with library.database.write() as conn:
        for session, days in ((old, 30.1), (young, 29.9)):
            at = time.time() - days * DAY_S
            conn.execute("UPDATE session_marks SET binned_at = ? WHERE session_id = ?", [at, session])
    library.tidy()
    assert [row.name for row in library.sessions_in_bin()] == ["young"]
    assert BIN_S == 30 * DAY_S
    assert not list(library.states_folder.iterdir()), "its states are gone with it"


def test_a_session_that_is_open_is_neither_binned_nor_restored(library, new_session):
    session = new_session("Emma")
    with library.lock_session(session), pytest.raises(SessionBusyError):
        library.bin_session(session)
    assert library.session("Emma").binned_at is None


def test_a_session_brought_back_at_the_last_moment_is_not_deleted(library, new_session):
    session = new_session("Emma")
    library.bin_session(session)
    library.restore_session(session)
    with pytest.raises(SessionNotFoundError, match="not in the bin any more"):
        library.delete_session(session, only_in_bin=True)
    assert library.session("Emma").id == session


def test_the_states_of_the_bin_make_room_before_any_other(library, new_session, save):
    binned, used = new_session("binned"), new_session("used")
    heads = {session: save(salt=salt) for session, salt in ((used, 1), (binned, 2))}  # the binned one is used later
    for session, head in heads.items():
        library.set_head(session, head, 4)
    library.bin_session(binned)
    library.make_room(library.usage().states_bytes - 1)
    assert library.session(used).position == 4
    restored = library.restore_session(binned)
    assert (restored.position, restored.num_tokens) == (0, 64), "its tokens stay, to be read again"


def test_a_repaired_library_knows_what_was_in_the_bin_and_what_was_set(library, new_session):
    kept, binned = new_session("Emma"), new_session("Persuasion", num_tokens=32)
    library.pin_session(kept, pinned=True)
    library.set_system_prompt(kept, "Answer in French.")
    library.bin_session(binned)
    library.close()
    for name in ("library.db", "library.copy.db", "library.seal"):
        (library.folder / name).unlink(missing_ok=True)
    list(repair_library(library.folder))
    with Library.open(library.folder) as repaired:
        (row,) = repaired.sessions()
        assert (row.name, row.pinned, row.system_prompt) == ("Emma", True, "Answer in French.")
        assert repaired.restore_session("Persuasion").num_tokens == 32


def test_flipped_marks_are_noticed_and_made_anew(library, new_session):
    session = new_session("Emma")
    library.bin_session(session)
    library.close()
    (library.folder / "library.seal").unlink()
    with closing(sqlite3.connect(library.folder / "library.db")) as conn:
        conn.create_function("sala_checksum", -1, lambda *values: "0" * 32)
        conn.execute("UPDATE session_marks SET binned_at = 1.0")
        conn.commit()
    with Library.open(library.folder) as opened:
        assert any("made anew from its record" in note for note in opened.take_notices())
        opened.tidy()
        assert [row.name for row in opened.sessions_in_bin()] == ["Emma"], "a wrong date does not delete it"


def test_a_library_of_the_earlier_schema_gets_the_table_and_keeps_its_sessions(library, new_session):
    new_session("Emma")
    with library.database.write() as conn:
        for event in ("insert", "update", "delete"):
            conn.execute(f"DROP TRIGGER session_marks_revision_{event}")
        conn.execute("DROP TABLE session_marks")
        conn.execute("DELETE FROM _sqlite_migrations WHERE name = 'm005_sessions'")
    library.database.after_commit = None
    library.database.close()
    with Library.open(library.folder) as opened:
        session = opened.session("Emma")
        assert (session.pinned, session.binned_at, session.system_prompt) == (False, None, "")
        assert opened.bin_session(session.id).name == "Emma"


WRITER = """
import sys
from pathlib import Path
from sala_core.store import Library
library = Library.open(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    library.bin_session(library.session("Emma").id)
    library.restore_session("Emma")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_kill_at_any_moment_leaves_the_session_listed_or_in_the_bin(library, new_session, environment):
    session = new_session("Emma")
    library.pin_session(session, pinned=False)
    library.close()
    for delay_ms in (3, 11, 23, 40):
        command = [sys.executable, "-c", WRITER, str(library.folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        process.stdout.readline()
        time.sleep(delay_ms / 1000)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with Library.open(library.folder) as opened:
            assert opened.take_notices() == []
            listed, binned = opened.sessions(), opened.sessions_in_bin()
            assert [row.id for row in listed + binned] == [session]
            if binned:
                opened.restore_session("Emma")
            assert opened.session("Emma").num_tokens == 64
