"""The tokens that are counted before a reading are those of the reading, and contents are counted once."""

import sys

import pymupdf
import pytest
from reading_helpers import last

from sala_core.errors import IngestError
from sala_core.ingest import FileChoice
from sala_core.ingest.folders.choice import LEFT_OUT
from sala_core.session.planning import count
from sala_core.session.planning.count import count_files
from sala_core.session.planning.records import CountOrder
from sala_core.session.session import Session
from sala_core.session.stream import StreamWriter

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = "The prince came over the river and said nothing to the general.\n"


@pytest.fixture
def project(tmp_path):
    """A repository with a file of each fate, and an encrypted PDF."""
    folder = tmp_path / "project"
    files = {
        "README.md": "# Project\n" + TEXT,
        ".gitignore": "build/\n",
        "build/out.txt": TEXT,
        "src/main.py": "print('river')\n" * 40,
        "src/other.py": "print('snow')\n" * 20,
        "data.bin": "\0\1\2" * 50,
        ".env": "PASSWORD=x\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with pymupdf.open() as made:
        made.new_page().insert_text((72, 72), TEXT)
        made.save(folder / "secret.pdf", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="sesame", owner_pw="o")
    return folder


@pytest.fixture
def counted(library, engine, measured):
    """Count paths for a session; returns the files by name, and the names of those that are gone."""

    def do(paths, session_id="", **order):
        files = []
        order = CountOrder(paths=tuple(paths), report=files.append, session_id=session_id, **order)
        gone = count_files(library, StreamWriter(engine.tokenizer, engine.chat), order, measured)
        return {file.name: file for file in files}, gone

    return do


def wanted(files):
    return sum(file.num_tokens for file in files.values() if file.state in ("new", "changed"))


def test_the_counted_tokens_are_those_that_a_reading_adds(counted, library, engine, project):
    files, _ = counted([project], password_of={"project/secret.pdf": "sesame"}.get)
    assert files["project/secret.pdf"].num_pages == 1
    with Session.open(library, engine, "s", create=True) as session:
        before = session.row.num_tokens
        last(session.read([project], password_of={"project/secret.pdf": "sesame"}.get))
        assert session.row.num_tokens - before == wanted(files)


def test_what_is_skipped_is_named_with_its_reason(counted, project):
    files, _ = counted([project])
    states = {name: file.state for name, file in files.items()}
    assert states["project/secret.pdf"] == "locked"
    assert states["project/data.bin"] == states["project/.env"] == states["project/build/"] == "skipped"
    assert "binary" in files["project/data.bin"].reason
    assert files["project (files)"].is_made


def test_contents_that_were_counted_are_not_opened_again_unless_they_are_locked(counted, project, monkeypatch):
    passwords = {"project/secret.pdf": "sesame"}
    (project / "data.bin").unlink()
    first, _ = counted([project], password_of=passwords.get)
    module = sys.modules["sala_core.ingest.prepare"]
    opened, load = [], module.load_document
    monkeypatch.setattr(module, "load_document", lambda file, *rest: opened.append(file.name) or load(file, *rest))
    again, _ = counted([project], password_of=passwords.get)
    assert opened == ["project/secret.pdf"]
    assert again == first


def test_known_changed_gone_and_removed_files_are_told_apart(counted, library, engine, project):
    with Session.open(library, engine, "s", create=True) as session:
        last(session.read([project]))
        session_id = session.row.id
        (other,) = [row.id for row in library.documents(session_id) if row.name.endswith("other.py")]
        last(session.remove([other]))
    (project / "src/main.py").write_text("print('changed')\n" * 30)
    (project / "README.md").unlink()
    files, gone = counted([project], session_id)
    assert files["project/src/main.py"].state == "changed"
    assert files["project/src/other.py"].state == "removed"
    assert files["project/.gitignore"].state == "known"
    assert gone == ("project/README.md",)
    assert files["project/src/other.py"].num_tokens > 0


def test_left_out_files_are_not_read_and_not_found_again(counted, library, engine, project):
    left_out = FileChoice(left_out=frozenset(["project/src/other.py"]))
    with Session.open(library, engine, "s", create=True) as session:
        receipt = last(session.read([project], choice=left_out, is_chosen=True))
        assert {item.name: item.reason for item in receipt.skipped}["project/src/other.py"] == LEFT_OUT
        names = {row.name for row in library.documents(session.row.id)}
        assert "project/src/main.py" in names
        assert "project/src/other.py" not in names
        last(session.read([project]))
        assert "project/src/other.py" not in {row.name for row in library.documents(session.row.id)}
        files, _ = counted([project], session.row.id)
        assert files["project/src/other.py"].state == "removed"
        last(session.read([project], is_chosen=True))
        assert "project/src/other.py" in {row.name for row in library.documents(session.row.id)}


def test_a_password_opens_a_pdf_and_a_wrong_one_is_said_so(counted, project):
    path = project / "secret.pdf"
    assert counted([path])[0]["secret.pdf"].state == "locked"
    wrong = counted([path], password_of=lambda name: "open")[0]["secret.pdf"]
    assert (wrong.state, "does not open" in wrong.reason) == ("locked", True)
    assert counted([path], password_of=lambda name: "sesame")[0]["secret.pdf"].state == "new"


def test_counting_tells_how_far_it_is_and_can_be_stopped(counted, project):
    seen = []
    counted([project], progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0
    files, _ = counted([project], should_stop=lambda: True)
    assert files == {}
    with pytest.raises(IngestError, match="cannot be found"):
        counted([project / "no"])


def test_the_library_is_as_it_was_after_counting(counted, library, project):
    before = library.usage()
    counted([project])
    assert library.usage() == before
    assert library.sessions() == []
    assert count._VERSION == 1
