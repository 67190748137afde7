"""Whatever is damaged in a library is noticed before it is used, and mended where there is another copy of it."""

import os
import random
import shutil
import sqlite3
import tarfile
from pathlib import Path

import numpy as np
import pytest
from library_check import without_state
from library_operations import make_starts, run
from made_library import FINGERPRINT, content, copy_of, encoded, linked_copy, make_library

from sala_core.disk.files import open_regular, read_whole
from sala_core.disk.layout import decode_blocks
from sala_core.errors import CorruptStateError, LibraryDamagedError, SalaError
from sala_core.store import Library
from sala_core.store.database import MIGRATIONS
from sala_core.store.integrity import seal
from sala_core.store.integrity.repair import repair_library
from sala_core.store.integrity.verify import verify_library
from sala_core.store.states import StateStore

FIRST_SCHEMA = Path(__file__).with_name("first-schema.tar.xz")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sound, closed library, and what it holds."""
    folder = tmp_path_factory.mktemp("whole") / "library"
    make_library(folder)
    with Library.open(folder) as library:
        assert [each for each in verify_library(library) if each.problem] == []
    return folder, content(folder)


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it."""
    return copy_of(whole[0], tmp_path / "library")


def problems(folder):
    with Library.open(folder) as library:
        return [f"{each.kind} {each.name}: {each.problem}" for each in verify_library(library) if each.problem]


def is_noticed(folder):
    """Whether opening the library refuses, mends or reports anything, or a full check does."""
    try:
        with Library.open(folder) as library:
            return bool(library.take_notices()) or any(each.problem for each in verify_library(library))
    except SalaError:
        return True


def damaged_file(folder, name, change):
    """Change one occurrence of a text in the database's file, as a failing disk would, without a seal."""
    (folder / seal.SEAL).unlink()
    data = (folder / "library.db").read_bytes()
    assert name in data
    (folder / "library.db").write_bytes(data.replace(name, change))


def flip(path, other, chance):
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    replace(path, data)


def truncate(path, other, chance):
    replace(path, path.read_bytes()[: chance.randrange(path.stat().st_size)])


def lengthen(path, other, chance):
    replace(path, path.read_bytes() + chance.randbytes(chance.randrange(1, 5000)))


def swap(path, other, chance):
    path.rename(path.with_name("swapped"))
    other.rename(path)
    path.with_name("swapped").rename(other)


def duplicate(path, other, chance):
    replace(path, other.read_bytes())


def delete(path, other, chance):
    path.unlink()


def make_folder(path, other, chance):
    path.unlink()
    path.mkdir()


def make_pipe(path, other, chance):
    path.unlink()
    os.mkfifo(path)


def make_link(path, other, chance):
    path.unlink()
    path.symlink_to("nowhere")


def replace(path, data):
    """Put other bytes in the place of a file, which can be a link to that of another library."""
    path.unlink()
    path.write_bytes(data)


OTHER_DAMAGES = (truncate, lengthen, swap, duplicate, delete, make_folder, make_pipe, make_link)
NEEDED_BY_NOTHING = (seal.SEAL, seal.COPY, "library.copy.json", "library.reserve")
"""Without one of these a library is only checked in another way. A record that is deleted is written again."""


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """A sound, closed library with two files of each kind."""
    base = tmp_path_factory.mktemp("larger")
    start = make_starts(base)["whole"]
    run("import", start / "library")
    return start / "library"


@pytest.mark.timeout(0)
def test_every_damage_of_every_kind_of_file_is_noticed_and_the_library_is_mended(
    larger, tmp_path, unsynced, pytestconfig
):
    number = pytestconfig.getoption("--flips")
    before, chance = content(larger, with_texts=False), random.Random(number)  # another number: other damages
    files = [path.relative_to(larger) for path in sorted(larger.rglob("*")) if path.is_file()]
    files = [path for path in files if path.parent.name != "locks"]
    assert {path.name.split(".", 1)[-1] for path in files} >= {"db", "seal", "copy.db", "segment.safetensors"}
    work = [(flip, files[each % len(files)]) for each in range(number) if each % 4]
    others = [(damage, file) for file in files for damage in OTHER_DAMAGES]
    chance.shuffle(others)
    work += [others[each % len(others)] for each in range(number - len(work))]
    wrong = []
    for damage, file in work:
        damaged = linked_copy(larger, tmp_path / "damaged")
        beside = [each for each in files if each.parent == file.parent and each != file]
        other = chance.choice([each for each in beside if each.suffix == file.suffix] or beside)
        damage(damaged / file, damaged / other, chance)
        if problem := what_is_wrong(damaged, file, damage, before, tmp_path / "seen"):
            wrong.append(f"{damage.__name__} {file} ({other}): {problem}")
    assert not wrong, "\n".join(wrong)
    print(f"{len(work):,} damages of {len(files)} files")


def what_is_wrong(damaged, file, damage, before, seen):
    """Whether a damage is not noticed, or not mended; "" if all is right."""
    linked_copy(damaged, seen)
    is_harmless = file.name in NEEDED_BY_NOTHING or (file.parent.name == "sessions" and damage in (delete, swap))
    if not is_noticed(seen) and not is_harmless:
        return "not noticed"
    try:
        list(repair_library(damaged))
        after = content(damaged, with_texts=False)
        with Library.open(damaged) as library:
            left = [each for each in verify_library(library) if each.problem]
        run("ask", damaged)
        answered = content(damaged, with_texts=False)["tale"][5]
    except Exception as error:  # noqa: BLE001  every error counts, and the others are to be seen too
        return f"cannot be repaired: {error!r}"
    if file.parent.name == "states":
        before, after = without_state(before), without_state(after)
    if after != before:
        return f"is not as before: {after}"
    if len(answered) != 4:
        return "does not answer"
    return str(left) if left and file.parent.name not in ("states", "documents") else ""


@pytest.mark.parametrize("text", [b"The best of times.", b"tale.txt", b"assistant", b"tokenizer-a"])
def test_a_changed_letter_in_the_database_is_mended_from_the_record(whole, folder, text):
    damaged_file(folder, text, text[:-1] + b"#")
    with Library.open(folder) as library:
        assert any("made anew from its record" in note for note in library.take_notices())
    assert content(folder) == whole[1]
    assert problems(folder) == []


@pytest.mark.parametrize("letter", [b"\xff", b"\x00"])
def test_a_text_that_is_no_longer_utf8_is_mended_too(whole, folder, letter):
    damaged_file(folder, b"The best of times.", b"The best of times" + letter)
    assert content(folder) == whole[1]


def test_changed_tokens_are_noticed_on_read_and_mended_when_the_session_is_opened(whole, folder):
    ids = np.array([1, 2, 3], dtype="<i4").tobytes()
    with Library.open(folder) as library:
        with library.database.write() as conn:
            conn.execute("UPDATE token_runs SET ids = ? WHERE ids = ?", [ids[::-1], ids])
        row = library.session("tale")
        with pytest.raises(CorruptStateError, match="repair"):
            library.token_ids(row.id, 0, row.num_tokens)
        with library.lock_session("tale"):
            assert library.take_notices()
    assert content(folder) == whole[1]


def test_a_document_s_tokens_come_back_from_its_text(whole, folder):
    with Library.open(folder) as library, library.database.write() as conn:
        conn.execute("UPDATE token_runs SET ids = zeroblob(length(ids))")
    (folder / seal.SEAL).unlink()
    assert content(folder) == whole[1]


def test_a_damaged_row_of_a_state_is_dropped_and_its_session_goes_back(folder):
    (folder / seal.SEAL).unlink()
    with Library.open(folder) as library:
        head = library.session("tale").head
        with library.database.write() as conn:
            conn.execute("DROP TRIGGER checkpoints_checksum_update")
            conn.execute("UPDATE checkpoints SET segment_bytes = 1 << 60 WHERE name = ?", [head])
        store = StateStore(library, FINGERPRINT)
        for use in (store.load_segment, store.load_snapshot, store.chain):
            with pytest.raises(CorruptStateError, match="checksum"):
                use(head)
        assert not store.has(head), "what cannot be used is discarded"
        assert 0 < library.session("tale").position < library.session("tale").num_tokens


def test_a_damaged_message_without_another_copy_is_named_and_blocks_nothing(folder):
    for path in (folder / "sessions").iterdir():
        path.write_bytes(b"")
    damaged_file(folder, b"The best of times.", b"The best of thymes")
    with Library.open(folder) as library:
        assert any("no record" in note for note in library.take_notices())
        assert "damaged on disk" in library.messages("tale")[1].text
        assert library.messages("tale")[0].text == "What?"
    said = list(repair_library(folder))
    assert any("a message is lost" in line for line in said)
    assert problems(folder) == []


@pytest.mark.parametrize("kind", ["states", "documents", "sessions"])
@pytest.mark.parametrize("damage", ["folder", "pipe", "link", "empty", "missing"])
def test_an_object_in_the_place_of_a_file_is_noticed_and_replaced(whole, folder, kind, damage):
    path = sorted((folder / kind).iterdir())[0]
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage == "link":
        path.symlink_to(folder / "nowhere")
    elif damage == "empty":
        path.touch()
    seen = {"states": ("segment", "snapshot"), "documents": ("text",), "sessions": ("record",)}[kind]
    wrong = problems(folder)
    if kind == "sessions" and damage == "missing":
        assert wrong == [], "it is written again when the library is opened"
    else:
        assert wrong
        assert all(line.startswith(seen) for line in wrong)
    if kind == "documents":
        with Library.open(folder) as library:
            library.put_document(encoded(), "tokenizer-a")
        assert path.read_bytes() == data
    elif kind == "states":
        with Library.open(folder) as library:
            store, name = StateStore(library, FINGERPRINT), path.name.split(".")[0]
            row = store.checkpoint(name)
            ids = library.token_ids(library.session("tale").id, row.start, row.end)
            store.discard(name)
            tensors = {"k.0": __import__("torch").zeros(2, 2)}
            store.save(parent=row.parent, token_ids=ids, start=row.start, segment=tensors, snapshot=tensors, keep=True)
            assert store.load_segment(name)
    else:
        list(repair_library(folder))
        assert problems(folder) == []
        assert content(folder) == whole[1]


def test_a_library_of_the_first_schema_opens_with_everything_in_it(tmp_path):
    with tarfile.open(FIRST_SCHEMA) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    with sqlite3.connect(tmp_path / "old" / "library.db") as conn:
        assert conn.execute("SELECT name FROM _sqlite_migrations").fetchall() == [("m001_library",)]
    with Library.open(tmp_path / "old") as library:
        with library.database.read() as conn:
            names = {row["name"] for row in conn.execute("SELECT name FROM _sqlite_migrations")}
        assert names == MIGRATIONS
        assert [each for each in verify_library(library) if each.problem] == []
        row = library.session("tale")
        assert (row.position, row.num_tokens) == (66, 66)
        assert [message.text for message in library.messages("tale")] == ["What was it?", "The best of times."]
        assert StateStore(library, FINGERPRINT).load_snapshot(row.head)
        assert library.page_starts(library.documents(row.id)[0].id) == (0, 26)
        for path in library.states_folder.iterdir():
            os.utime(path, (1, 1))
        library.collect_garbage(min_age_s=0)
        assert len(list(library.states_folder.iterdir())) == 4
    before = content(tmp_path / "old")
    for path in (tmp_path / "old").glob("library.*"):
        path.unlink()
    list(repair_library(tmp_path / "old"))
    after = content(tmp_path / "old")
    assert after["tale"][4:] == before["tale"][4:], "states of that version have no checksum of their own: read again"


def test_sizes_in_a_header_are_checked_before_anything_is_allocated(tmp_path):
    for head in (b"\xff" * 8, (1 << 60).to_bytes(8, "little"), b"\0" * 8, b"", b"\x05\0\0\0\0\0\0\0[[[[["):
        with pytest.raises(ValueError, match=r"layout|Expecting"):
            decode_blocks(memoryview(head + b"{}"))
    deep = b"[" * 100_000
    with pytest.raises(ValueError, match="layout"):
        decode_blocks(memoryview(len(deep).to_bytes(8, "little") + deep))
    entry = b'{"a":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}}'
    with pytest.raises(ValueError, match="layout"):
        decode_blocks(memoryview(len(entry).to_bytes(8, "little") + entry))
    (tmp_path / "small").write_bytes(b"abc")
    with pytest.raises(EOFError):
        read_whole(tmp_path / "small", 1 << 60)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular"):
        os.close(open_regular(tmp_path / "pipe"))


def test_a_damaged_page_is_refused_even_without_a_seal(folder):
    (folder / seal.SEAL).unlink()
    data = bytearray((folder / "library.db").read_bytes())
    data[4096 * 3 : 4096 * 3 + 64] = bytes(64)
    (folder / "library.db").write_bytes(data)
    shutil.rmtree(folder / "sessions")
    with pytest.raises(LibraryDamagedError, match="repair"):
        Library.open(folder)
