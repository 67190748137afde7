"""Archives are opened like folders, within limits, and nothing of them stays on disk."""

import bz2
import io
import os
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sala_core.errors import IngestError
from sala_core.ingest import EncodedDocument, FoundFile, Limits, prepare, walk
from sala_core.ingest.parser_process import ParserProcess
from sala_core.ingest.scratch import private_folder, remove_abandoned

Split = Callable[..., tuple[dict[str, EncodedDocument], dict[str, str]]]


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files; it must be as empty after each test as before it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def zipped(members: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: dict[str, str | bytes | tarfile.TarInfo], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            content = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


TEXTS = {"book/ch10.txt": "ten", "book/ch2.txt": "two", "notes.md": "# notes"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", zipped(TEXTS)),
        ("a.zip", zipped(TEXTS, zipfile.ZIP_LZMA)),
        ("a.tar", tarred(TEXTS)),
        ("a.tar.gz", tarred(TEXTS, "w:gz")),
        ("a.tgz", tarred(TEXTS, "w:gz")),
        ("a.tar.bz2", tarred(TEXTS, "w:bz2")),
        ("a.tar.xz", tarred(TEXTS, "w:xz")),
    ],
)
def test_an_archive_is_read_like_a_folder(write: Callable[..., Path], tokenizer, name: str, data: bytes) -> None:
    root = write({name: data, "b.txt": "after"})
    texts = {entry.document.name: entry.document.text for entry in prepare([root], tokenizer)}
    assert texts == {
        f"root/{name}/notes.md": "# notes",
        f"root/{name}/book/ch2.txt": "two",
        f"root/{name}/book/ch10.txt": "ten",
        "root/b.txt": "after",
    }
    assert list(texts)[:3] == [f"root/{name}/notes.md", f"root/{name}/book/ch2.txt", f"root/{name}/book/ch10.txt"]
    alone = [entry.document.name for entry in prepare([root / name], tokenizer)]
    assert alone == [f"{name}/notes.md", f"{name}/book/ch2.txt", f"{name}/book/ch10.txt"]


def test_a_packed_repository_has_its_rules_order_and_tree(
    write: Callable[..., Path], split: Split, make_pdf: Callable[..., bytes], tokenizer
) -> None:
    members: dict[str, str | bytes] = {
        "p-main/b.py": "x = 1", "p-main/README.md": "read me", "p-main/.gitignore": "out/\n", "p-main/out/x.py": "x",
        "p-main/web/lib.min.js": "x", "p-main/.env": "SECRET=1", "p-main/node_modules/m/index.js": "x",
        "p-main/docs/guide.pdf": make_pdf(["page one"]),
    }  # fmt: skip
    read, skipped = split(prepare([write({"p.zip": zipped(members)}) / "p.zip"], tokenizer))
    assert list(read) == [
        "p.zip/p-main (files)",
        "p.zip/p-main/README.md",
        "p.zip/p-main/docs/guide.pdf",
        "p.zip/p-main/b.py",
        "p.zip/p-main/.gitignore",
    ]
    assert "page one" in read["p.zip/p-main/docs/guide.pdf"].document.text
    assert set(skipped) == {
        "p.zip/p-main/out/",
        "p.zip/p-main/web/lib.min.js",
        "p.zip/p-main/.env",
        "p.zip/p-main/node_modules/",
    }


def test_paths_are_those_that_the_user_knows(write: Callable[..., Path], tokenizer) -> None:
    root = write({"a.zip": zipped({"x/b.txt": "text", "empty.txt": "", "c.zip": zipped({"d.txt": "deep"})})})
    paths = {}
    for entry in prepare([root], tokenizer):
        if isinstance(entry, EncodedDocument):
            paths[entry.document.name] = entry.document.path
        else:
            paths[entry.name] = entry.path
    assert paths == {
        "root/a.zip/x/b.txt": f"{root}/a.zip/x/b.txt",
        "root/a.zip/empty.txt": f"{root}/a.zip/empty.txt",
        "root/a.zip/c.zip/d.txt": f"{root}/a.zip/c.zip/d.txt",
    }


def test_an_archive_given_twice_is_read_once(write: Callable[..., Path], split: Split, tokenizer) -> None:
    root = write({"a.zip": zipped({"b.txt": "text"}), "c.txt": "text"})
    read, skipped = split(prepare([root, root / "a.zip"], tokenizer))
    assert set(read) == {"root/a.zip/b.txt", "root/c.txt"}
    assert skipped == {"a.zip/b.txt": "given twice"}


def test_members_that_lead_out_or_are_no_files_are_named_and_nothing_is_written_outside(
    write: Callable[..., Path], split: Split, tmp_path: Path, tokenizer
) -> None:
    outside = tmp_path / "outside.txt"
    link = zipfile.ZipInfo("link.txt")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../outside.txt", "x")
        archive.writestr(str(outside), "x")
        archive.writestr("ok/../../../outside.txt", "x")
        archive.writestr(link, str(outside))
        archive.writestr("fine.txt", "fine")
        archive.writestr("./also.txt", "fine")
    bad_tar = {
        "../outside.txt": "x",
        str(outside): "x",
        "link": special("link", tarfile.SYMTYPE, str(tmp_path)),
        "link/outside.txt": "x",
        "hard": special("hard", tarfile.LNKTYPE, "/etc/passwd"),
        "device": special("device", tarfile.CHRTYPE),
        "pipe": special("pipe", tarfile.FIFOTYPE),
        "fine.txt": "fine",
    }
    root = write({"a.zip": buffer.getvalue(), "b.tar": tarred(bad_tar)})
    read, skipped = split(prepare([root], tokenizer))
    assert set(read) == {
        "root/a.zip/fine.txt", "root/a.zip/also.txt", "root/b.tar/fine.txt", "root/b.tar/link/outside.txt",
    }  # fmt: skip
    assert not outside.exists()
    reasons = {name.split("/", 2)[1] + ":" + name.split("/", 2)[2]: reason for name, reason in skipped.items()}
    assert "leads out" in reasons["a.zip:../../outside.txt"]
    assert "leads out" in reasons[f"a.zip:{outside}"]
    assert "leads out" in reasons["a.zip:ok/../../../outside.txt"]
    assert reasons["a.zip:link.txt"] == "a link"
    assert "leads out" in reasons["b.tar:../outside.txt"]
    assert reasons["b.tar:link"] == f"a link to {tmp_path}"
    assert reasons["b.tar:hard"] == "a link to /etc/passwd"
    assert reasons["b.tar:device"] == reasons["b.tar:pipe"] == "a device or a pipe, not a file"


def test_encrypted_damaged_and_double_members_cost_only_themselves(
    write: Callable[..., Path], split: Split, tokenizer
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("secret.txt", "locked")
        archive.writestr("broken.txt", "DAMAGEME")
        archive.writestr("twice.txt", "first")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("twice.txt", "second")
        archive.writestr("fine.txt", "fine")
    data = bytearray(buffer.getvalue().replace(b"DAMAGEME", b"damageME", 1))
    data[data.index(b"secret.txt") - 24] |= 1  # the encryption flag of the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1
    read, skipped = split(prepare([write({"a.zip": bytes(data)})], tokenizer))
    assert {name: entry.document.text for name, entry in read.items()} == {
        "root/a.zip/fine.txt": "fine",
        "root/a.zip/twice.txt": "second",
    }
    assert "encrypted" in skipped["root/a.zip/secret.txt"]
    assert "damaged" in skipped["root/a.zip/broken.txt"]
    assert "more than once" in skipped["root/a.zip/twice.txt"]


def test_a_cut_off_archive_is_read_up_to_the_cut(write: Callable[..., Path], split: Split, tokenizer) -> None:
    noise = os.urandom(300_000).hex()
    data = tarred({"a.txt": "first", "b.txt": noise, "c.txt": "last"}, "w:gz")
    root = write({"a.tgz": data[: len(data) // 2], "no.zip": b"PK\x03\x04 garbage", "text.zip": "just words"})
    read, skipped = split(prepare([root], tokenizer))
    assert set(read) == {"root/a.tgz/a.txt"}
    assert "damaged" in skipped["root/a.tgz/"]
    assert "cannot be opened" in skipped["root/no.zip"]
    assert "cannot be opened" in skipped["root/text.zip"]
    with pytest.raises(IngestError, match=r"no.zip is not read: a damaged archive"):
        list(prepare([root / "no.zip"], tokenizer))


def test_archives_are_bounded_in_bytes_members_and_ratio(write: Callable[..., Path], split: Split, tokenizer) -> None:
    words = {f"{number}.txt": os.urandom(2000).hex() for number in range(9)}
    root = write({"a.zip": zipped(words), "b.tar.gz": tarred(words, "w:gz")})
    read, skipped = split(prepare([root], tokenizer, Limits(max_archive_bytes=10_000)))
    assert set(read) == {f"root/{name}/{number}.txt" for name in ("a.zip", "b.tar.gz") for number in (0, 1)}
    assert "unpacks to more than" in skipped["root/a.zip/"]
    assert "unpacks to more than" in skipped["root/b.tar.gz/2.txt"]
    read, skipped = split(prepare([root / "a.zip"], tokenizer, Limits(max_files=4)))
    assert len(read) == 4
    assert "at most 4 files" in skipped["a.zip/"]
    with private_folder() as folder, ParserProcess(Limits(max_files=4)) as parser:
        assert parser.unpack(str(root / "a.zip"), str(folder)) == (
            ("", "the rest of it: more than 4 files in one archive"),
        )
        assert len(list(folder.iterdir())) == 4
    bomb = write({"bomb.zip": zipped({"zeros.txt": b" " * (20 << 20), "fine.txt": "fine"})}, root="bombs")
    read, skipped = split(prepare([bomb], tokenizer))
    assert set(read) == {"bombs/bomb.zip/fine.txt"}
    assert "packed more than 250 to 1" in skipped["bombs/bomb.zip/zeros.txt"]
    large = write({"a.zip": zipped({"large.txt": os.urandom(3000).hex(), "fine.txt": "fine"})}, root="large")
    read, skipped = split(prepare([large], tokenizer, Limits(max_container_bytes=5000)))
    assert set(read) == {"large/a.zip/fine.txt"}
    assert "over the limit" in skipped["large/a.zip/large.txt"]


def test_a_stated_size_is_not_believed(write: Callable[..., Path], split: Split, tokenizer) -> None:
    data = bytearray(zipped({"a.txt": os.urandom(50_000).hex()}))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 10)  # the size in the list of members
    read, skipped = split(prepare([write({"a.zip": bytes(data)})], tokenizer, Limits(max_archive_bytes=20_000)))
    assert not read
    assert skipped


def test_an_archive_is_opened_one_level_deep(write: Callable[..., Path], split: Split, tokenizer) -> None:
    third = zipped({"c.txt": "too deep"})
    second = tarred({"b.txt": "two", "third.zip": third}, "w:gz")
    read, skipped = split(prepare([write({"first.zip": zipped({"a.txt": "one", "second.tgz": second})})], tokenizer))
    assert set(read) == {"root/first.zip/a.txt", "root/first.zip/second.tgz/b.txt"}
    assert "inside 2 others" in skipped["root/first.zip/second.tgz/third.zip"]


def test_documents_that_are_zip_files_stay_documents(
    write: Callable[..., Path], split: Split, make_epub: Callable[..., bytes], tokenizer
) -> None:
    book = make_epub({"c.xhtml": "<p>in a book</p>"})
    root = write({"book.epub": book, "renamed.zip": book, "more.zip": zipped({"book.epub": book})})
    read, _ = split(prepare([root], tokenizer))
    assert set(read) == {"root/book.epub", "root/renamed.zip", "root/more.zip/book.epub"}


def test_names_without_a_declared_encoding_are_guessed_together(
    write: Callable[..., Path], split: Split, tokenizer
) -> None:
    words = "Глава первая", "Глава вторая", "Содержание"
    data = zipped({f"{'x' * len(word)}{number}.txt": "x" for number, word in enumerate(words)})
    for number, word in enumerate(words):
        data = data.replace(f"{'x' * len(word)}{number}.txt".encode(), f"{word}{number}.txt".encode("cp866"))
    read, _ = split(prepare([write({"a.zip": data})], tokenizer))
    assert set(read) == {f"root/a.zip/{word}{number}.txt" for number, word in enumerate(words)}


def test_walk_leaves_archives_closed_where_asked(write: Callable[..., Path]) -> None:
    root = write({"a.zip": zipped({"b.txt": "x"}), "placeholder.zip": "x"})
    entries = list(walk([root], Limits(), open_archives=False))
    assert [(type(entry), entry.name) for entry in entries] == [
        (FoundFile, "root/a.zip"),
        (FoundFile, "root/placeholder.zip"),
    ]


def test_a_walk_that_is_given_up_removes_what_it_unpacked(write: Callable[..., Path], temporary_files: Path) -> None:
    root = write({"a.zip": zipped(TEXTS)})
    entries = walk([root], Limits())
    assert isinstance(next(entries), FoundFile)
    assert [path.is_dir() for path in sorted(temporary_files.iterdir())] == [True, False]
    entries.close()  # type: ignore[attr-defined]


def test_what_a_killed_process_has_unpacked_is_removed_by_the_next(temporary_files: Path) -> None:
    code = (
        "import os, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from sala_core.ingest.scratch import private_folder\n"
        "with private_folder() as folder:\n"
        "    (folder / 'secret.txt').write_text('x'); print(folder, flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(temporary_files)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        remove_abandoned(temporary_files)
        assert (folder / "secret.txt").exists(), "it is in use"
        process.kill()
        process.wait()
    assert folder.exists()
    with private_folder() as other:
        assert not folder.exists()
        assert other.exists()


def test_the_parser_that_dies_on_an_archive_costs_the_archive_alone(
    write: Callable[..., Path], split: Split, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack = ParserProcess.unpack

    def kill_first(self: ParserProcess, path: str, target: str) -> tuple[tuple[str, str], ...]:
        if path.endswith("bad.zip"):
            (Path(target) / "half.txt").write_text("half")
            assert self._child is not None
            self._child.process.kill()
            self._child.process.wait()
        return unpack(self, path, target)

    monkeypatch.setattr(ParserProcess, "unpack", kill_first)
    root = write({"a.html": "<p>x", "bad.zip": zipped(TEXTS), "good.zip": zipped({"a.txt": "fine"})})
    read, skipped = split(prepare([root], tokenizer))
    assert set(read) == {"root/a.html", "root/good.zip/a.txt"}
    assert "parser fail" in skipped["root/bad.zip"]


def test_a_member_without_a_name_costs_itself_alone(write: Callable[..., Path], split: Split, tokenizer) -> None:
    data = zipped({"x": "nameless", "a.txt": "fine"})
    data = data.replace(b"\x01\x00\x00\x00x", b"\x00\x00\x00\x00x", 1)  # in the local header
    start = data.index(b"PK\x01\x02")
    listed = bytearray(data[start:])
    listed[28:30] = b"\x00\x00"
    del listed[46]
    end = listed.index(b"PK\x05\x06")
    struct.pack_into("<I", listed, end + 12, end)
    read, skipped = split(prepare([write({"a.zip": data[:start] + bytes(listed)})], tokenizer))
    assert set(read) == {"root/a.zip/a.txt"}
    assert "leads out" in skipped["root/a.zip/"]


def test_very_many_refused_members_are_summed_up(write: Callable[..., Path], split: Split, tokenizer) -> None:
    members = {f"../{number}.txt": "x" for number in range(1200)}
    read, skipped = split(prepare([write({"a.zip": zipped(members | {"ok.txt": "fine"})})], tokenizer))
    assert set(read) == {"root/a.zip/ok.txt"}
    assert skipped["root/a.zip/"] == "200 more members are not read"
    assert len(skipped) == 1001


def test_bzip2_of_one_file_is_no_archive(write: Callable[..., Path], split: Split, tokenizer) -> None:
    _, skipped = split(prepare([write({"a.txt.bz2": bz2.compress(b"x" * 100)})], tokenizer))
    assert skipped == {"root/a.txt.bz2": "binary: an archive"}
