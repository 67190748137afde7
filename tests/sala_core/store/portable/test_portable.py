"""Sessions as files: everything comes back, another model's state does not, and no file can do harm."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from reading_helpers import GREEDY, SEGMENT_TOKENS, assert_equal_states, last, restored, text_of

from sala_core.disk.files import checksum
from sala_core.disk.safetensors import decode_tensors, encode_tensors
from sala_core.errors import ArchiveError, LibraryError, SalaError, SessionExistsError
from sala_core.session import stream
from sala_core.session.session import Session
from sala_core.store import Library
from sala_core.store.portable.container import FORMAT, Archive, Member, archive_pieces
from sala_core.store.portable.export import export_session
from sala_core.store.portable.import_session import import_session
from sala_core.store.portable.records import PortableSession

KILLED = """
import os, signal, sys
from pathlib import Path
from sala_core.store import Library
from sala_core.store.portable.export import export_session
from sala_core.store.portable.import_session import import_session
what, folder, file, fingerprint, at = sys.argv[1:]
calls = iter(range(1_000_000))
def die(done, total):
    if next(calls) == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
with Library.open(Path(folder)) as library:
    if what == "export":
        export_session(library, "demo", Path(file), report=die)
    else:
        import_session(library, Path(file), fingerprint=fingerprint, report=die)
"""


@pytest.fixture(scope="module")
def exported(session_engine, tmp_path_factory):
    """(folder of a library with the session "demo", its file). The session has three checkpoints and one turn."""
    folder = tmp_path_factory.mktemp("portable")
    with pytest.MonkeyPatch.context() as patch, Library.open(folder / "library") as library:
        patch.setattr(stream, "SEGMENT_TOKENS", SEGMENT_TOKENS)
        patch.setattr(stream, "SNAPSHOT_TOKENS", 2 * SEGMENT_TOKENS)
        (folder / "a.txt").write_text(text_of(100, 1))
        (folder / "b.txt").write_text(text_of(20, 2))
        library.set_system_prompt(library.create_session("demo", model="m", fingerprint="").id, "Answer in “French”.")
        with Session.open(library, session_engine, "demo") as session:
            last(session.read([folder / "a.txt", folder / "b.txt"]))
            last(session.ask("Who came?", GREEDY))
        export_session(library, "demo", folder / "demo.sala")
    return folder / "library", folder / "demo.sala"


def contents(library, name):
    """What a user sees of a session, and the places of its tokens."""
    row = library.session(name)
    documents = [library.load_document(each.id) for each in library.documents(row.id)]
    tokens = library.token_ids(row.id, 0, row.num_tokens).tolist()
    own = row.model, row.fingerprint, row.system_prompt
    return own, documents, tokens, library.parts(row.id), library.messages(row.id)


def members_of(file):
    """Name -> bytes of the members of an archive, in order."""
    with tarfile.open(file) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}


def write_archive(file, members, **about):
    """An archive of these members, whose manifest tells the truth about them."""
    described = [
        (Member(name=name, num_bytes=len(data), checksum=checksum(data)), lambda data=data: [data])
        for name, data in members.items()
    ]
    file.write_bytes(b"".join(archive_pieces(about, described, lambda done, total: None)))
    return file


def test_everything_comes_back_and_nothing_is_read_again(exported, session_engine, open_library):
    folder, file = exported
    ours, theirs = Library.open(folder), open_library("other")
    done = import_session(theirs, file, fingerprint=session_engine.fingerprint)
    with ours:
        assert contents(theirs, "demo") == contents(ours, "demo")
        assert (done.state_tokens, done.notes, done.is_other_model) == (done.num_tokens, (), False)
        assert theirs.session("demo").head == ours.session("demo").head
        assert_equal_states(restored(theirs, session_engine, "demo"), restored(ours, session_engine, "demo"))
    with Session.open(theirs, session_engine, "demo") as session:
        answer = last(session.ask("And then?", GREEDY))
    assert answer.tokens_reused == done.num_tokens
    assert [message.role for message in theirs.messages("demo")] == ["user", "assistant"] * 2


def test_an_export_of_an_import_is_the_same_file(exported, session_engine, open_library, tmp_path):
    _, file = exported
    library = open_library("other")
    import_session(library, file, fingerprint=session_engine.fingerprint)
    export_session(library, "demo", tmp_path / "again.sala")
    assert (tmp_path / "again.sala").read_bytes() == file.read_bytes()


def test_no_path_of_the_first_machine_is_in_the_file(exported):
    folder, file = exported
    with Library.open(folder) as library:
        assert any(str(folder.parent) in source.path for source in library.sources("demo"))
    assert str(folder.parent).encode() not in file.read_bytes()


def test_another_models_state_is_refused_and_the_rest_is_kept(exported, session_engine, talking_engine, open_library):
    _, file = exported
    library = open_library("other")
    done = import_session(library, file, fingerprint=talking_engine.fingerprint)
    assert done.is_other_model
    assert done.state_tokens == 0
    assert library.usage().states_bytes == 0
    assert len(library.messages("demo")) == 2
    with Session.open(library, talking_engine, "demo") as session:
        session.reset()
        last(session.read([]))
        assert session.row.position == session.row.num_tokens > 1000


def test_without_the_state_the_session_is_read_again(exported, session_engine, open_library, tmp_path):
    folder, _ = exported
    library = open_library("other")
    with Library.open(folder) as ours:
        small = export_session(ours, "demo", tmp_path / "small.sala", with_state=False)
    assert small.state_tokens == 0
    assert not any(name.startswith("states") for name in members_of(tmp_path / "small.sala"))
    done = import_session(library, tmp_path / "small.sala", fingerprint=session_engine.fingerprint)
    assert done.state_tokens == 0
    with Session.open(library, session_engine, "demo") as session:
        last(session.read([]))
        assert session.state.tokens_read == done.num_tokens


def test_a_name_that_is_taken_is_refused_and_another_can_be_given(exported, open_library, tmp_path):
    _, file = exported
    library = open_library("other")
    import_session(library, file)
    with pytest.raises(SessionExistsError, match="--name"):
        import_session(library, file)
    import_session(library, file, name="copy")
    assert contents(library, "copy")[2:] == contents(library, "demo")[2:]
    hostile = members_of(file)
    del hostile["manifest.json"]
    hostile["session.json"] = hostile["session.json"].replace(b'"demo"', b'"de\\u001bmo"')
    with pytest.raises(LibraryError, match="cannot be a session's name"):
        import_session(library, write_archive(tmp_path / "named.sala", hostile))


def test_an_export_overwrites_nothing_and_needs_a_session_with_text(exported, library, tmp_path):
    folder, file = exported
    before = file.read_bytes()
    with Library.open(folder) as ours:
        with pytest.raises(ArchiveError, match="exists already"):
            export_session(ours, "demo", file)
        with pytest.raises(ArchiveError, match="there is no folder"):
            export_session(ours, "demo", tmp_path / "none" / "x.sala")
    assert file.read_bytes() == before
    library.create_session("empty", model="m", fingerprint="f")
    with pytest.raises(ArchiveError, match="is empty"):
        export_session(library, "empty", tmp_path / "x.sala")
    assert not (tmp_path / "x.sala").exists()


def test_a_damaged_library_gives_no_file(exported, tmp_path):
    folder, _ = exported
    shutil.copytree(folder, tmp_path / "damaged")
    segment = next((tmp_path / "damaged" / "states").glob("*.segment.*"))
    data = bytearray(segment.read_bytes())
    data[-5] ^= 1
    segment.write_bytes(data)
    with Library.open(tmp_path / "damaged") as library:
        with pytest.raises(ArchiveError, match="is damaged or was changed"):
            export_session(library, "demo", tmp_path / "x.sala")
        export_session(library, "demo", tmp_path / "y.sala", with_state=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "y.sala"]


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_killed_import_leaves_no_session_and_goes_on(exported, session_engine, open_library, tmp_path, at):
    _, file = exported
    arguments = ["import", str(tmp_path / "other"), str(file), session_engine.fingerprint, str(at)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    library = open_library("other")
    assert library.sessions() == []
    before = {path.name for path in library.states_folder.iterdir()}
    done = import_session(library, file, fingerprint=session_engine.fingerprint)
    assert done.state_tokens == done.num_tokens
    assert before <= {path.name for path in library.states_folder.iterdir()}
    assert at < 3 or before, "what was stored before the kill is used"


def test_a_killed_export_leaves_no_file_of_that_name(exported, tmp_path):
    folder, file = exported
    target = tmp_path / "killed.sala"
    arguments = ["export", str(folder), str(target), "", "4"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    with Library.open(folder) as library:
        export_session(library, "demo", target)
    assert target.read_bytes() == file.read_bytes()


def manifest_bytes(name, data, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), kind
    return info.tobuf() + data + bytes(-len(data) % 512)


HOSTILE_MANIFESTS = {
    "path that leads out": [{"name": "documents/../../evil.safetensors", "bytes": 0, "checksum": ""}],
    "absolute path": [{"name": "/tmp/evil", "bytes": 0, "checksum": ""}],
    "twice": 2 * [{"name": "session.json", "bytes": 0, "checksum": ""}],
    "negative size": [{"name": "session.json", "bytes": -1, "checksum": ""}],
    "size of a petabyte": [{"name": "session.json", "bytes": 1 << 50, "checksum": ""}],
    "size that is a text": [{"name": "session.json", "bytes": "many", "checksum": ""}],
    "no list": 7,
}


@pytest.mark.parametrize("case", HOSTILE_MANIFESTS)
def test_a_hostile_list_of_members_is_refused(case, tmp_path):
    about = {"format": FORMAT, "session": "x", "members": HOSTILE_MANIFESTS[case]}
    (tmp_path / "x.sala").write_bytes(manifest_bytes("manifest.json", json.dumps(about).encode()) + bytes(1024))
    with pytest.raises(ArchiveError):
        Archive(tmp_path / "x.sala")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        bytes(4096),
        b"PK\x03\x04" + bytes(1000),
        manifest_bytes("manifest.json", b"[" * 100_000),
        manifest_bytes("manifest.json", b'{"format": 2, "members": []}') + bytes(1024),
        manifest_bytes("manifest.json", b"{}", tarfile.SYMTYPE) + bytes(1024),
        manifest_bytes("other.json", b"{}") + bytes(1024),
    ],
    ids=["empty", "short", "zeros", "zip", "deep", "later format", "link", "another file"],
)
def test_what_is_no_such_file_is_refused(data, tmp_path):
    (tmp_path / "x.sala").write_bytes(data)
    with pytest.raises(ArchiveError):
        Archive(tmp_path / "x.sala")


def test_a_folder_and_a_pipe_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing"):
        with pytest.raises(ArchiveError):
            Archive(path)


def test_a_file_that_is_cut_off_or_longer_is_refused(exported, tmp_path):
    data = exported[1].read_bytes()
    for size in (len(data) - 1, len(data) // 2, 600, len(data) + 512):
        (tmp_path / "x.sala").write_bytes((data + bytes(512))[:size])
        with pytest.raises(ArchiveError):
            Archive(tmp_path / "x.sala")


def test_every_flipped_bit_is_noticed_or_harmless(exported, session_engine, open_library, tmp_path):
    """In what is checked. Padding, dates and owners in the headers of tar mean nothing."""
    folder, file = exported
    choice, library = random.Random(3), open_library("flips")
    with Library.open(folder) as ours:
        sound = contents(ours, "demo")
    data = file.read_bytes()
    with tarfile.open(file) as archive:
        places = [info.offset_data + choice.randrange(info.size) for info in archive for _ in range(3)]
        places += [info.offset + choice.randrange(512) for info in archive]
    refused = partly = 0
    for number, place in enumerate(places):
        flipped = bytearray(data)
        flipped[place] ^= 1 << choice.randrange(8)
        (tmp_path / "x.sala").write_bytes(flipped)
        name = f"copy {number}"
        try:
            done = import_session(library, tmp_path / "x.sala", name=name, fingerprint=session_engine.fingerprint)
        except SalaError:
            refused += 1
            continue
        assert contents(library, name) == sound
        partly += bool(done.notes) or done.is_other_model
        library.delete_session(name)
    assert refused >= len(places) // 3
    assert partly >= 3


def test_a_state_of_other_tokens_is_refused(exported, session_engine, open_library, tmp_path):
    """The manifest's checksums are right: whoever writes such a file writes them too."""
    hostile = members_of(exported[1])
    del hostile["manifest.json"]
    segments = [name for name in hostile if ".segment." in name]
    for first, second in pairwise(segments):
        hostile[first], hostile[second] = hostile[second], hostile[first]
    library = open_library("other")
    file = write_archive(tmp_path / "x.sala", hostile)
    done = import_session(library, file, fingerprint=session_engine.fingerprint)
    assert done.state_tokens == 0
    assert "holds another state" in done.notes[0]
    assert done.num_messages == 2


@pytest.mark.usefixtures("short_segments")
def test_a_state_with_the_wrong_tensors_is_read_again(exported, session_engine, open_library, tmp_path):
    """Even if all of its checksums and descriptions are right."""
    hostile = members_of(exported[1])
    del hostile["manifest.json"]
    name = [name for name in hostile if ".segment." in name][1]
    tensors, metadata = decode_tensors(memoryview(bytearray(hostile[name])))
    smaller = {key: tensor[:, :-1] for key, tensor in tensors.items()}
    hostile[name] = b"".join(encode_tensors(smaller, metadata))
    library = open_library("other")
    file = write_archive(tmp_path / "x.sala", hostile)
    done = import_session(library, file, fingerprint=session_engine.fingerprint)
    assert done.state_tokens == done.num_tokens
    with Session.open(library, session_engine, "demo") as session:
        answer = last(session.ask("And then?", GREEDY))
        assert answer.warnings
        assert session.row.position == session.row.num_tokens > done.num_tokens


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["parts"][1].update(start=5),
        lambda raw: raw["parts"][1].update(body_start=-1),
        lambda raw: raw["parts"][1].update(kind="assistant"),
        lambda raw: raw["parts"][1].update(document_id="0" * 32),
        lambda raw: raw["parts"].pop(1),
        lambda raw: raw["messages"][0].update(role="system"),
        lambda raw: raw["messages"][0].update(id=raw["messages"][1]["id"]),
        lambda raw: raw["messages"][0].update(created_at=float("inf")),
        lambda raw: raw["messages"][0].update(text="\ud800"),
        lambda raw: raw["messages"][1].update(evidence=[3]),
        lambda raw: raw["checkpoints"][0].update(end=1 << 40),
        lambda raw: raw["documents"].append(["1" * 32, "t"]),
        lambda raw: raw.update(messages="none"),
        lambda raw: raw.update(system_prompt="x" * 8_001),
        lambda raw: raw.update(system_prompt="\ud800"),
        lambda raw: raw.pop("name"),
    ],
)
def test_a_session_that_cannot_be_is_refused(exported, session_engine, open_library, tmp_path, change):
    hostile = members_of(exported[1])
    del hostile["manifest.json"]
    raw = json.loads(hostile["session.json"])
    change(raw)
    hostile["session.json"] = json.dumps(raw).encode()
    library = open_library("other")
    with pytest.raises(ArchiveError):
        import_session(library, write_archive(tmp_path / "x.sala", hostile), fingerprint=session_engine.fingerprint)
    assert library.sessions() == []


def test_a_text_that_is_not_the_one_of_the_stream_is_refused(exported, open_library, tmp_path):
    hostile = members_of(exported[1])
    del hostile["manifest.json"]
    hostile["tokens.bin"] = bytes(reversed(hostile["tokens.bin"][:-4])) + hostile["tokens.bin"][-4:]
    library = open_library("other")
    with pytest.raises(ArchiveError):
        import_session(library, write_archive(tmp_path / "x.sala", hostile))
    assert library.sessions() == []


def test_a_record_survives_its_json(exported):
    with Archive(exported[1]) as archive:
        session = PortableSession.from_json(archive.load_json("session.json"))
    assert PortableSession.from_json(json.loads(json.dumps(session.to_json()))) == session
    assert replace(session, messages=()).num_tokens == session.num_tokens
    assert BytesIO(Path(exported[1]).read_bytes()).read(13) == b"manifest.json"
