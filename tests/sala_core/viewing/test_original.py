"""Originals: only a file with the very bytes that were read counts; a link, a changed or another file does not."""

import os
import shutil

import pytest
from made_documents import encode

from sala_core.errors import IngestError
from sala_core.session.folders.file_state import hash_of
from sala_core.session.folders.kept_files import KeptFiles
from sala_core.store import Library, PartDraft, SourceRow
from sala_core.viewing.original import Originals
from sala_core.viewing.viewer import Viewer

PDF = "application/pdf"


@pytest.fixture
def library(tmp_path):
    with Library.open(tmp_path / "library") as opened:
        opened.create_session("book", model="A", fingerprint="f")
        yield opened


@pytest.fixture
def file(tmp_path):
    """A file of the user's own."""
    path = tmp_path / "home" / "a.pdf"
    path.parent.mkdir()
    path.write_bytes(b"the bytes that were read")
    return path


def read(library, path, *, key=None, root="/", media_type=PDF):
    """Note in the library that a file was read; returns the ids of session and document, and its content hash."""
    session = library.session("book").id
    encoded = encode(path.read_text(), path.name, media_type)
    document = library.put_document(encoded, "t")
    part = PartDraft(kind="document", token_ids=encoded.token_ids, document_id=document)
    library.append_parts(session, [part])
    row = SourceRow(
        path=key or str(path),
        root=root,
        name=path.name,
        content_hash=encoded.document.content_hash,
        num_bytes=path.stat().st_size,
        mtime_ns=path.stat().st_mtime_ns,
        file_hash=hash_of(str(path)),
    )
    library.put_sources(session, [row])
    return session, document, encoded.document.content_hash


def test_an_untouched_file_is_the_original_and_a_changed_one_is_not(library, file):
    session, _, content = read(library, file)
    originals = Originals(library)
    found = originals.find(session, content)
    assert (found.state, found.path, found.note) == ("unchanged", str(file), "")
    file.write_bytes(b"the bytes that were ReAd")
    changed = originals.find(session, content)
    assert (changed.state, changed.path) == ("changed", "")
    assert "has changed" in changed.note
    file.unlink()
    assert originals.find(session, content).state == "gone"


def test_a_link_in_the_files_place_is_not_followed(library, file, tmp_path):
    session, _, content = read(library, file)
    target = tmp_path / "elsewhere.pdf"
    shutil.move(file, target)
    os.symlink(target, file)
    found = Originals(library).find(session, content)
    assert (found.is_there, found.path) == (False, "")
    assert "a link" in found.note


@pytest.mark.parametrize("key", ["relative/a.pdf", "https://example.org/a.pdf"])
def test_what_is_no_file_of_this_computer_has_no_original(library, file, key):
    session, _, content = read(library, file, key=key)
    assert Originals(library).find(session, content).state == "unknown"


def test_a_member_of_an_archive_has_no_original(library, file):
    session, _, content = read(library, file, key=str(file / "inner.pdf"))
    found = Originals(library).find(session, content)
    assert found.state == "unknown"
    assert "archive" in found.note


def test_an_earlier_version_has_no_original(library, file):
    session, _, _ = read(library, file)
    assert Originals(library).find(session, "0" * 32).state == "unknown"


def upload(library, file):
    """Note that the file came through the browser; returns the session's id, the content hash and the copy's path."""
    folder = library.folder / "uploads" / "s" / "1"
    folder.mkdir(parents=True)
    copy = folder / file.name
    shutil.copy(file, copy)
    session, _, content = read(library, file, key=file.name, root="")
    return session, content, copy


def test_a_pdf_that_came_through_the_browser_is_kept_and_checked(library, file):
    session, content, copy = upload(library, file)
    assert Originals(library).find(session, content).state == "unknown"
    kept = KeptFiles(library.folder)
    kept.keep(library, session, [copy])
    assert not copy.exists()
    found = Originals(library).find(session, content)
    assert found.state == "kept"
    assert found.path == str(library.folder / "originals" / f"{found.file_hash}.pdf")
    os.chmod(found.path, 0o600)
    with open(found.path, "ab") as damaged:
        damaged.write(b"!")
    assert Originals(library).find(session, content).state == "unknown"


def test_a_file_of_the_users_own_is_never_moved(library, file):
    session, _, _ = upload(library, file)
    KeptFiles(library.folder).keep(library, session, [file])
    assert file.exists()
    assert not (library.folder / "originals").exists()


def test_copies_go_when_no_session_has_read_them(library, file):
    session, _, copy = upload(library, file)
    kept = KeptFiles(library.folder)
    kept.keep(library, session, [copy])
    kept.drop_unused(library.file_hashes())
    assert kept.path(hash_of(str(file))) is not None
    library.put_sources(session, [])
    kept.drop_unused(library.file_hashes())
    assert kept.path(hash_of(str(file))) is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "g" * 32, "a" * 31])
def test_a_kept_file_is_named_by_a_hash_only(library, name):
    assert KeptFiles(library.folder).path(name) is None


def test_pages_are_drawn_of_the_original_only(library, write_pdf):
    path = write_pdf("The bridge was closed.")
    session = library.session("book").id
    encoded = encode("The bridge was closed.\n", path.name, PDF, page_starts=(0,))
    document = library.put_document(encoded, "t")
    row = SourceRow(
        path=str(path),
        root="/",
        name=path.name,
        content_hash=encoded.document.content_hash,
        num_bytes=path.stat().st_size,
        mtime_ns=-1,
        file_hash=hash_of(str(path)),
    )
    library.put_sources(session, [row])
    viewer = Viewer(library)
    try:
        assert viewer.draw_page(session, document, 1, 600).startswith(b"\x89PNG")
        assert len(viewer.place_on_page(session, document, 1, 4, 10).boxes) == 1
        path.write_bytes(path.read_bytes() + b"\n%")
        with pytest.raises(IngestError, match="has changed since it was read"):
            viewer.draw_page(session, document, 1, 600)
    finally:
        viewer.close()
