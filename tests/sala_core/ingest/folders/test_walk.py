"""Which files `walk` yields, in which order, and why it skips others."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sala_core.errors import IngestError
from sala_core.ingest import FoundFile, Limits, SkippedFile, walk
from sala_core.ingest.folders.found import printable
from sala_core.ingest.folders.order import natural_key


def names(paths: list[Path], limits: Limits | None = None) -> list[str]:
    return [entry.name for entry in walk(paths, limits or Limits()) if isinstance(entry, FoundFile)]


def reasons(paths: list[Path], limits: Limits | None = None) -> dict[str, str]:
    entries = walk(paths, limits or Limits())
    return {entry.name: entry.reason for entry in entries if isinstance(entry, SkippedFile)}


def test_the_order_is_natural_with_files_before_folders(write: Callable[..., Path]) -> None:
    root = write({"ch10.txt": "x", "ch2.txt": "x", "b/x.txt": "x", "a/x.txt": "x", "Ch1.txt": "x"})
    expected = ["root/Ch1.txt", "root/ch2.txt", "root/ch10.txt", "root/a/x.txt", "root/b/x.txt"]
    assert names([root]) == expected


def test_paths_keep_their_order_and_equal_names_get_numbers(
    write: Callable[..., Path],
) -> None:
    root = write({"b/notes.txt": "x", "a/notes.txt": "x", "c/notes.txt": "x"})
    paths = [root / "b" / "notes.txt", root / "a" / "notes.txt", root / "c" / "notes.txt"]
    assert names(paths) == ["notes.txt", "notes (2).txt", "notes (3).txt"]


def test_a_file_given_twice_is_read_once(write: Callable[..., Path]) -> None:
    root = write({"a.txt": "x", "b.txt": "x"})
    assert names([root, root / "a.txt"]) == ["root/a.txt", "root/b.txt"]
    assert reasons([root, root / "a.txt"]) == {"a.txt": "given twice"}


def test_a_missing_path_is_refused_before_anything_is_walked(write: Callable[..., Path]) -> None:
    root = write({"a.txt": "x"})
    with pytest.raises(IngestError, match=r"nowhere\.txt cannot be found"):
        walk([root, root / "nowhere.txt"], Limits())


def test_a_generated_folder_is_one_entry_and_is_not_entered(write: Callable[..., Path]) -> None:
    root = write(
        {
            "node_modules/x/index.js": "x",
            "__pycache__/m.pyc": "x",
            "env/pyvenv.cfg": "x",
            "env/lib/x.py": "x",
            "target/CACHEDIR.TAG": "Signature: 8a477f597d28d172789f06886806bc55",
            "target/x.rs": "x",
            ".git/config": "x",
            ".ssh/config": "x",
            "src/main.py": "x",
        }
    )
    assert names([root]) == ["root/src/main.py"]
    found = reasons([root])
    assert set(found) == {
        "root/node_modules/",
        "root/__pycache__/",
        "root/env/",
        "root/target/",
        "root/.git/",
        "root/.ssh/",
    }
    assert found["root/.ssh/"] == "may hold credentials"
    assert "packages" in found["root/env/"]


def test_a_generated_folder_that_is_named_directly_is_read(write: Callable[..., Path]) -> None:
    root = write({"node_modules/pkg/readme.md": "x"})
    assert names([root / "node_modules"]) == ["node_modules/pkg/readme.md"]


def test_secrets_by_name_are_refused_even_if_named_directly(write: Callable[..., Path]) -> None:
    secret = [".env", ".env.production", ".envrc", "id_rsa", "id_ed25519", "key.p12", ".npmrc", "s.kdbx"]
    root = write({name: "x" for name in [*secret, "id_rsa.pub", "environment.md"]})
    assert names([root]) == ["root/environment.md", "root/id_rsa.pub"]
    for name in secret:
        assert names([root / name]) == []
        assert "secrets" in reasons([root / name])[name]


def test_a_link_to_a_secret_is_refused(write: Callable[..., Path]) -> None:
    root = write({".env": "TOKEN=1"})
    (root / "notes.txt").symlink_to(".env")
    assert "secrets" in reasons([root / "notes.txt"])["notes.txt"]


def test_links_are_never_followed_out_of_the_folder_or_in_a_circle(write: Callable[..., Path]) -> None:
    root = write({"a/x.txt": "x"})
    outside = write({"secret.txt": "x"}, root="outside")
    (root / "out.txt").symlink_to(outside / "secret.txt")
    (root / "outdir").symlink_to(outside)
    (root / "a" / "up").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "broken").symlink_to("nothing")
    (root / "again.txt").symlink_to("a/x.txt")
    # a sibling folder whose name begins with the root's name is outside too
    sibling = write({"x.txt": "x"}, root="root2")
    (root / "sibling.txt").symlink_to(sibling / "x.txt")
    assert names([root]) == ["root/a/x.txt"]
    found = reasons([root])
    assert "leads out" in found["root/out.txt"]
    assert "leads out" in found["root/outdir"]
    assert "leads out" in found["root/sibling.txt"]
    assert "circle" in found["root/self"]
    assert "nowhere" in found["root/broken"]
    assert "a link to a/x.txt" in found["root/again.txt"]
    assert "own entry" in found["root/a/up"]


def test_a_root_that_is_a_link_is_followed_because_it_was_chosen(write: Callable[..., Path]) -> None:
    root = write({"a.txt": "x"})
    (root.parent / "link").symlink_to(root)
    assert names([root.parent / "link"]) == ["link/a.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
@pytest.mark.timeout(20)
def test_fifos_sockets_and_devices_are_never_opened(write: Callable[..., Path], tmp_path: Path) -> None:
    root = write({"a.txt": "x"})
    os.mkfifo(root / "pipe.txt")
    os.mkfifo(root / ".gitignore")
    here = os.getcwd()
    os.chdir(root)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("sock")
        os.chdir(here)
        found = reasons([root])
        assert names([root]) == ["root/a.txt"]
    assert found["root/pipe.txt"] == "a pipe (FIFO), not a file"
    assert found["root/sock"] == "a socket, not a file"
    assert found["root/.gitignore"] == "a pipe (FIFO), not a file"
    assert reasons([root / "pipe.txt"]) == {"pipe.txt": "a pipe (FIFO), not a file"}
    assert reasons([Path("/dev/zero")]) == {"zero": "a device, not a file"}


def test_empty_large_and_unread_formats_have_their_reasons(write: Callable[..., Path]) -> None:
    root = write({"empty.txt": "", "large.txt": "x" * 3000, "letter.pages": "PK", "fine.txt": "x"})
    limits = Limits(max_container_bytes=2048)
    assert names([root], limits) == ["root/fine.txt"]
    found = reasons([root], limits)
    assert found["root/empty.txt"] == "empty"
    assert "over the limit" in found["root/large.txt"]
    assert "save it as PDF" in found["root/letter.pages"]


def test_a_file_without_permission_is_skipped(write: Callable[..., Path]) -> None:
    root = write({"a.txt": "x", "locked/b.txt": "x"})
    (root / "a.txt").chmod(0)
    (root / "locked").chmod(0)
    found = reasons([root])
    (root / "locked").chmod(0o755)
    assert "permission denied" in found["root/a.txt"]
    if os.geteuid():
        assert "permission denied" in found["root/locked/"]


def test_the_number_of_files_is_bounded(write: Callable[..., Path]) -> None:
    root = write({f"{number}.txt": "x" for number in range(5)})
    assert names([root], Limits(max_files=3)) == ["root/0.txt", "root/1.txt", "root/2.txt"]
    assert "at most 3 files" in reasons([root], Limits(max_files=3))["root/3.txt"]


def test_deep_folders_need_no_stack(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(300):
            os.mkdir("d")
            os.chdir("d")
        Path("x.txt").write_text("x")
    finally:
        os.chdir(here)
    assert [name.count("/d") for name in names([tmp_path / "d"])] == [299]


def test_names_are_fit_for_a_header(write: Callable[..., Path]) -> None:
    root = write({"evil\nDocument: x.txt": "x"})
    assert names([root]) == ["root/evil\ufffdDocument: x.txt"]
    assert printable("a\udcff\x1b[0m") == "a\ufffd\ufffd[0m"


def test_natural_key_is_a_total_order_of_odd_names() -> None:
    odd = ["", "1", "01", "a1", "a01", "A1", "9" * 5000, "²", "a²", "٣", "x10y2", "x10y10", "x9"]
    assert sorted(odd, key=natural_key) == sorted(reversed(odd), key=natural_key)
    assert sorted(["x10y10", "x9", "x10y2"], key=natural_key) == ["x9", "x10y2", "x10y10"]
