"""Formats are identified, and secrets found, by content and name."""

import io
import zipfile

import pytest

from sala_core.errors import IngestError
from sala_core.ingest.folders.safety import file_refusal, folder_refusal, secret_in
from sala_core.ingest.sniff import Kind, identify

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5461599\n"
KEY_BODY = "MIIEpAIBAAKCAQEAwJ9Zz0YkZk1m0v1s2q3r4t5u6v7w8x9y0zABCDEFGHIJKLMNOPQR"


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.txt", b"hello", Kind.TEXT),
        ("Makefile", b"all:\n\tcc x.c\n", Kind.TEXT),
        ("a.md", b"# hello", Kind.MARKDOWN),
        ("a.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", Kind.PDF),
        ("a.pdf", b"junk before\n%PDF-1.4", Kind.PDF),
        ("no-name", b"%PDF-1.4", Kind.PDF),
        ("about.txt", b"A file begins with %PDF-1.4", Kind.TEXT),
        ("a.html", b"<p>x", Kind.HTML),
        ("saved", b"\n<!DOCTYPE html><html>", Kind.HTML),
        ("page.py", b"<!DOCTYPE html>", Kind.TEXT),
        ("a.txt", b"GIF89a is a format", Kind.TEXT),
        ("a.txt", b"RIFF and ID3", Kind.TEXT),
        ("u.txt", "\ufeffhello".encode("utf-16-le"), Kind.TEXT),
        ("u.txt", "hello there".encode("utf-16-be"), Kind.TEXT),
        ("color.log", b"\x1b[31mred\x1b[0m\n" * 3, Kind.TEXT),
        ("l.txt", "déjà vu".encode("latin-1"), Kind.TEXT),
        ("m.txt", "GIF89a – eine Kennung".encode(), Kind.TEXT),
        ("m.txt", "RIFF – eine Kennung".encode("cp1252"), Kind.TEXT),
        ("m.md", "ID3 标签".encode(), Kind.MARKDOWN),
        ("m.txt", "BZhönig".encode(), Kind.TEXT),
        ("m.md", b"The ftyp box", Kind.MARKDOWN),
        ("m.txt", "%PDF-1.4 – so beginnt ein PDF".encode(), Kind.TEXT),
        ("m.txt", b"<!DOCTYPE html> is the first line of a page", Kind.TEXT),
        ("zh.txt", "仓库管理员住在椴树街七号".encode("utf-16-le"), Kind.TEXT),
        ("app.log", b"09:00 left\n" * 9 + b"\0" * 4000, Kind.TEXT),
        ("app.log", b"\0" * 8192, Kind.TEXT),
        ("n.ipynb", b"{}", Kind.NOTEBOOK),
        ("m.eml", b"From: a@b\n\nx", Kind.MAIL),
        ("Inbox", b"From a@b Mon Jan  6 09:00:00 2025\nFrom: a@b\n\nx", Kind.MBOX),
        ("p.mhtml", b"MIME-Version: 1.0\n\nx", Kind.MHTML),
        ("s.srt", b"1\n", Kind.SUBTITLES),
    ],
)
def test_formats_are_identified(name: str, head: bytes, kind: Kind) -> None:
    assert identify(name, head) is kind


@pytest.mark.parametrize(
    ("name", "head", "reason"),
    [
        ("a.txt", b"\x89PNG\r\n\x1a\n\0\0", "picture"),
        ("a", b"\x7fELF\x02\x01\x01\0", "program"),
        ("a.zip", b"PK\x03\x04\x14\0\0\0", "archive"),
        ("a.txt", b"text\0with\1nul", "binary"),
        ("a.tensors", b"\x98\x5c\0\0\0\0\0\0" + b'{"a": {"shape": [2]}} ' * 9, "binary"),
        ("b.tensors", b"A\0\0\0\0\0\0\0" + b'{"a": {"shape": [2]}}    ' * 9, "binary"),
        ("a.gif", b"GIF89a\x10\0\x10\0", "picture"),
        ("a.mp3", b"ID3\x04\0\0\0\0\x1f", "sound"),
        ("small", bytes(range(200, 256)) + b"\1\2", "binary"),
        ("book.epub", LFS, r"Git LFS pointer: the content \(5,461,599 bytes\)"),
        ("table.csv", LFS, "Git LFS"),
        ("a.bin", b"/annex/objects/SHA256E-s100--0a1b.bin\n", "git-annex"),
        ("a.bin", bytes(range(1, 32)) * 4, "binary"),
        ("v.mp4", b"\0\0\0\x18ftypmp42", "video"),
        ("fake.pdf", b"hello", "not a PDF"),
        ("fake.epub", b"hello", "not an EPUB"),
        ("n.npy", b"\x93NUMPY\x01\0v\0", "numeric"),
        ("pairs", bytes([1, 0, 2, 0, 3, 0, 5, 0] * 40), "binary"),
    ],
)
def test_binary_files_are_refused_by_their_content(name: str, head: bytes, reason: str) -> None:
    with pytest.raises(IngestError, match=reason):
        identify(name, head)


def test_many_comments_take_no_time() -> None:
    # 24 comments took 11 s with a pattern that backtracks
    assert identify("a.txt", b"<!-- x -->\n" * 700 + b"<p>") is Kind.TEXT
    assert identify("a.xml", b"<!-- x -->\n" * 700 + b"<p>") is Kind.TEXT


def test_an_epub_is_identified_by_its_first_member() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
    assert identify("book", buffer.getvalue()) is Kind.EPUB
    assert identify("book.epub", b"HTTP/1.1 200 OK\r\n\r\n" + buffer.getvalue()) is Kind.EPUB


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n",
        f"cert\n-----BEGIN RSA PRIVATE KEY-----\n{KEY_BODY}\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOY\n",
        '{"private_key": "-----BEGIN PRIVATE KEY-----\\n' + KEY_BODY + '\\n"}',
        "PuTTY-User-Key-File-2: ssh-rsa\n",
        "token = ghp_" + "a1B2" * 9,
        "aws_secret_access_key = " + "aB3/" * 10,
    ],
)
def test_credentials_are_found_by_content(text: str) -> None:
    assert secret_in("before\n" + text)


@pytest.mark.parametrize(
    "text",
    [
        'if line.startswith("-----BEGIN PRIVATE KEY-----"):\n    refuse()',
        "a file with `-----BEGIN RSA PRIVATE KEY-----` in it",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n",
        "-----BEGIN CERTIFICATE-----\nMIIB\n",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "the ghost ghp_short",
    ],
)
def test_text_about_credentials_is_allowed(text: str) -> None:
    assert secret_in(text) is None


@pytest.mark.parametrize(
    ("name", "is_refused"),
    [
        (".env", True), (".ENV.local", True), (".env-prod", True), ("my.env.md", False), ("id_rsa", True),
        ("id_rsa.bak", True), ("id_rsa_work", True), ("id_rsa.pub", False), ("id_rsa_work.pub", False),
        ("id_rsatz.txt", False), ("id_ed25519_sk", True), ("environment.yml", False), ("x.jks", True),
        ("thesis.PAGES", True), ("docx", False), (".gitignore", False),
    ],
)  # fmt: skip
def test_file_names_that_are_refused(name: str, is_refused: bool) -> None:
    assert bool(file_refusal(name)) is is_refused


def test_folders_that_are_refused() -> None:
    assert folder_refusal("node_modules", [])
    assert folder_refusal("pkg.egg-info", [])
    assert folder_refusal("anything", ["pyvenv.cfg", "bin"])
    assert folder_refusal("build", ["main.py"]) is None
    assert folder_refusal("docs", ["index.md"]) is None
