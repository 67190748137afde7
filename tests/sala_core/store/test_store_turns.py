"""Versions of turns are as safe as what is shown: checked, mended, carried elsewhere, deleted on a full disk."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from library_operations import ask_again
from made_library import FINGERPRINT, content, make_library

from sala_core.errors import LibraryError
from sala_core.store import Library
from sala_core.store.integrity.verify import verify_library
from sala_core.store.portable.export import export_session
from sala_core.store.portable.import_session import import_session


@pytest.fixture
def folder(tmp_path):
    """A library whose session `tale` has a turn with two versions."""
    make_library(tmp_path / "library")
    with Library.open(tmp_path / "library") as library:
        ask_again(library)
    return tmp_path / "library"


def shown(library, name="tale"):
    return [message.text for message in library.messages(name)]


def test_a_damaged_version_is_noticed_and_made_anew_from_the_record(folder):
    whole = content(folder)
    with Library.open(folder) as library:
        damaged = "UPDATE hidden_turns SET content = replace(content, 'best', 'w0rst')"
        with library.database.write() as conn:
            conn.execute("DROP TRIGGER hidden_turns_checksum_update")
            conn.execute("DROP TRIGGER hidden_turns_revision_update")
            conn.execute(damaged)
        assert [each.name for each in verify_library(library) if each.problem and each.kind == "rows"] == [
            "hidden_turns"
        ]
        with library.lock_session("tale"):
            assert "made anew from its record" in library.take_notices()[0]
        assert "best of times" in library.hidden_turns("tale")[0].content
    assert content(folder)["tale"][7] == whole["tale"][7]


def test_versions_go_with_their_session_to_another_library(folder, tmp_path):
    with Library.open(folder) as library:
        export_session(library, "tale", tmp_path / "tale.sala")
    with Library.open(tmp_path / "other") as other:
        import_session(other, tmp_path / "tale.sala", fingerprint=FINGERPRINT)
        assert [len(turn.versions) for turn in other.turns("tale")] == [2]
        other.show_version("tale", other.turns("tale")[0].id, -1)
        assert shown(other) == ["What?", "The best of times."]


def test_switching_there_and_back_changes_nothing(folder):
    before = content(folder)
    with Library.open(folder) as library:
        first = library.show_version("tale", library.turns("tale")[0].id, -1)
        assert (first.document_tokens, first.turn_tokens) == (0, 0)
        assert shown(library) == ["What?", "The best of times."]
        library.show_version("tale", library.turns("tale")[0].id, 1)
        assert shown(library) == ["Who?", "Nobody."]
    after = content(folder)
    assert {name: row[:7] for name, row in after.items() if isinstance(row, tuple)} == {
        name: row[:7] for name, row in before.items() if isinstance(row, tuple)
    }


def test_a_deletion_can_be_taken_back(folder):
    before = content(folder)
    with Library.open(folder) as library:
        change = library.delete_turn("tale", library.turns("tale")[0].id)
        assert shown(library) == ["What?", "The best of times."]
        library.restore_turn("tale", change.deleted)
        assert shown(library) == ["Who?", "Nobody."]
        assert [turn.version for turn in library.turns("tale")] == [2]
        gone = [library.delete_turn("tale", library.turns("tale")[0].id) for _ in range(2)]
        assert shown(library) == []
        with pytest.raises(LibraryError, match="changed since"):
            library.restore_turn("tale", replace(gone[0].deleted, turn=replace(gone[0].deleted.turn, parent="other")))
        for each in reversed(gone):
            library.restore_turn("tale", each.deleted)
    assert content(folder)["tale"][:7] == before["tale"][:7]


def test_what_is_no_turn_is_refused_and_nothing_changes(folder):
    before = content(folder)
    with Library.open(folder) as library:
        for change in (
            lambda: library.delete_turn("tale", "nothing"),
            lambda: library.show_version("tale", library.turns("tale")[0].id, 1),
            lambda: library.branch_session("tale", "branch", "nothing"),
        ):
            with pytest.raises(LibraryError, match=r"not part|no such version"):
                change()
    assert content(folder) == before


FULL = """
import sys
from pathlib import Path
from library_operations import ask_again
from made_library import make_library
from sala_core.store import Library
folder = Path(sys.argv[1])
make_library(folder)
with Library.open(folder) as library:
    ask_again(library)
    try:
        with open(folder.parent / "filler", "wb") as filler:
            while True:
                filler.write(bytes(4096))
    except OSError:
        pass
    for _ in range(2):
        library.delete_turn("tale", library.turns("tale")[0].id)
    print("left:", len(library.messages("tale")), len(library.hidden_turns("tale")))
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk")
def test_on_a_disk_that_is_really_full_turns_can_be_deleted(tmp_path, environment):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    helpers = str(Path(__file__).resolve().parents[1])
    environment = environment | {"PYTHONPATH": os.pathsep.join([environment["PYTHONPATH"], helpers])}
    try:
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(disk / "library")], env=environment, capture_output=True, text=True
        )
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert done.stdout.splitlines() == ["left: 0 0"], done.stderr[-2000:]
