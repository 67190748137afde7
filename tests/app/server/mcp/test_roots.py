"""Paths that a client names are checked before anything is opened."""

from pathlib import Path

import pytest

from app.server.mcp.roots import allowed_paths, resolved_roots, roots_of_uris
from sala_core.errors import IngestError


@pytest.fixture
def tree(tmp_path):
    for name in ("in/a.txt", "in/deep/b.txt", "inside/c.txt", "library/page/key"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "in" / "out").symlink_to(tmp_path / "inside")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in" / "loop")
    (tmp_path / "door").symlink_to(tmp_path / "in")
    return tmp_path


def test_paths_inside_are_resolved(tree):
    roots = resolved_roots([tree / "door", tree / "in"])
    assert roots == (tree / "in",), "a link to an allowed folder is that folder, once"
    texts = ["a.txt", str(tree / "door" / "deep"), "deep/../a.txt"]
    found = allowed_paths(texts, roots, library=tree / "library")
    assert found == [tree / "in" / "a.txt", tree / "in" / "deep", tree / "in" / "a.txt"]


@pytest.mark.parametrize("text", ["out/c.txt", "../inside/c.txt", "/", "..", "out", "deep/../../inside/c.txt"])
def test_paths_outside_are_refused(tree, text):
    with pytest.raises(IngestError, match="outside of the folders"):
        allowed_paths([text], [tree / "in"], library=tree / "library")


def test_a_name_that_only_begins_like_a_root_is_outside(tree):
    with pytest.raises(IngestError, match="outside"):
        allowed_paths([str(tree / "inside" / "c.txt")], [tree / "in"], library=tree / "library")


def test_what_is_no_file_is_told(tree):
    for text, told in (("absent.txt", "there is no file"), ("loop", "is no path|there is no file"), ("a\0", "no path")):
        with pytest.raises(IngestError, match=told):
            allowed_paths([text], [tree / "in"], library=tree / "library")
    with pytest.raises(IngestError, match="--allow FOLDER"):
        allowed_paths(["a.txt"], [], library=tree / "library")


def test_the_programs_own_library_is_never_read(tree):
    for text in ("library/page/key", "library", "."):
        with pytest.raises(IngestError, match="own library"):
            allowed_paths([text], [tree], library=tree / "library")


def test_folders_that_are_allowed_must_be_there(tree):
    with pytest.raises(IngestError, match="check the spelling"):
        resolved_roots([tree / "absent"])
    with pytest.raises(IngestError, match="is a file"):
        resolved_roots([tree / "in" / "a.txt"])


def test_of_a_clients_roots_only_folders_of_this_machine_count(tree):
    odd = ["https://example.org/", "file://server/share", "file:///absent", (tree / "in" / "a.txt").as_uri(), "\0", ""]
    assert roots_of_uris([*odd, (tree / "door").as_uri(), (tree / "in").as_uri()]) == (tree / "in",)
    spaced = tree / "two words"
    spaced.mkdir()
    assert roots_of_uris([spaced.as_uri()]) == (Path(spaced),)
