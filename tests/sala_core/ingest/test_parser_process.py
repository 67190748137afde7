"""A parser that hangs, uses too much memory or crashes costs one document and nothing else."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sala_core.errors import IngestError
from sala_core.ingest import Limits, parser_process
from sala_core.ingest.parser_process import ParserProcess, ReadingStoppedError
from sala_core.ingest.sniff import Kind

MIB = 1 << 20

# replaces the parsers; the content of a file says what it does
MISBEHAVING = """
import os, time
from . import child as original
from .result import Parsed

def misbehave(request, replies):
    word = open(request["path"]).read()
    if word == "hang":
        while True:
            pass
    if word == "sleep":
        time.sleep(1000)
    if word == "crash":
        os.abort()
    if word == "eat":
        kept = []
        while True:
            kept.append(bytearray(os.urandom(1 << 20)))
    if word == "raise":
        raise KeyError("unforeseen")
    if word == "lie":
        os.write(3, b"not json")
        os._exit(0)
    return Parsed(text="fine " + str(os.getpid()))

def main(max_memory_bytes):
    original._parse = misbehave
    original.main(max_memory_bytes)
"""


@pytest.fixture
def misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Make the child do what the content of a file says; return a function that writes such a file."""
    folder = tmp_path / "parsers"
    folder.mkdir()
    for source in parser_process._PARSERS.glob("*.py"):
        (folder / source.name).write_bytes(source.read_bytes())
    (folder / "misbehaving.py").write_text(MISBEHAVING)
    monkeypatch.setattr(parser_process, "_PARSERS", folder)
    bootstrap = parser_process._BOOTSTRAP.replace("parsers.child", "parsers.misbehaving")
    monkeypatch.setattr(parser_process, "_BOOTSTRAP", bootstrap)

    def write_order(word: str) -> str:
        path = tmp_path / f"{word}.html"
        path.write_text(word)
        return str(path)

    return write_order


@pytest.fixture
def no_child_left() -> Iterator[None]:
    before = {process.pid for process in psutil.Process().children()}
    yield
    left = [process for process in psutil.Process().children() if process.pid not in before]
    assert not left


@pytest.mark.usefixtures("no_child_left")
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("hang", r"took more than 1 s"),
        ("sleep", r"took more than 1 s"),
        ("crash", "parser fail"),
        ("eat", "more memory than the limit of 200 MiB"),
        ("raise", "the reader failed on it"),
        ("lie", "parser fail"),
    ],
)
def test_a_failure_is_reported_and_the_next_file_is_read(
    misbehaving: Callable[[str], str], word: str, reason: str
) -> None:
    limits = Limits(max_parse_s=1.0 if word in ("hang", "sleep") else 30.0, max_parse_memory_bytes=200 * MIB)
    with ParserProcess(limits) as parser:
        assert parser.parse(misbehaving("good"), Kind.HTML).text.startswith("fine")
        begin = time.monotonic()
        with pytest.raises(IngestError, match=reason):
            parser.parse(misbehaving(word), Kind.HTML)
        assert time.monotonic() - begin < 15
        assert parser.parse(misbehaving("good"), Kind.HTML).text.startswith("fine")


@pytest.mark.usefixtures("no_child_left")
def test_one_child_parses_many_files(misbehaving: Callable[[str], str]) -> None:
    with ParserProcess(Limits()) as parser:
        texts = {parser.parse(misbehaving("good"), Kind.HTML).text for _ in range(5)}
    assert len(texts) == 1
    assert f"{os.getpid()}" not in texts.pop()


@pytest.mark.usefixtures("no_child_left")
def test_stopping_kills_the_child_at_once(misbehaving: Callable[[str], str]) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.8, stop.set)
    timer.start()
    begin = time.monotonic()
    with ParserProcess(Limits(), stop.is_set) as parser, pytest.raises(ReadingStoppedError):
        parser.parse(misbehaving("sleep"), Kind.HTML)
    timer.join()
    assert time.monotonic() - begin < 10


def test_the_child_does_not_load_the_program(tmp_path: Path, make_pdf: Callable[..., bytes]) -> None:
    path = tmp_path / "x.pdf"
    path.write_bytes(make_pdf(["text"]))
    with ParserProcess(Limits()) as parser:
        assert parser.parse(str(path), Kind.PDF).text == "text\n"
        child = parser._child
        assert child is not None
        if sys.platform == "linux":
            maps = Path(f"/proc/{child.process.pid}/maps").read_text()
            assert "mupdf" in maps
            assert "libtorch" not in maps
            assert "numpy" not in maps


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\n"
        "from sala_core.ingest import Limits\n"
        "from sala_core.ingest.parser_process import ParserProcess\n"
        "from sala_core.ingest.sniff import Kind\n"
        "parser = ParserProcess(Limits())\n"
        "parser.parse(sys.argv[1], Kind.HTML)\n"
        "print(parser._child.process.pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    page = tmp_path / "x.html"
    page.write_text("<p>x</p>")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(script), str(page)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the parser outlived its parent"
        time.sleep(0.05)


def test_corrupted_bytes_never_crash_the_parser(
    tmp_path: Path, make_pdf: Callable[..., bytes], make_epub: Callable[..., bytes]
) -> None:
    chance = random.Random(0)
    reasons: list[str] = []
    originals = {
        Kind.PDF: make_pdf([f"page {number} of words" for number in range(4)], deflate=True),
        Kind.EPUB: make_epub({"a.xhtml": "<p>words of a book</p>" * 20}),
    }
    path = tmp_path / "file"
    with ParserProcess(Limits(max_parse_s=30)) as parser:
        for _ in range(30):
            for kind, original in originals.items():
                data = bytearray(original)
                for _ in range(chance.choice([1, 5, 50])):
                    data[chance.randrange(8, len(data))] = chance.randrange(256)
                path.write_bytes(data[: chance.choice([len(data), chance.randrange(50, len(data))])])
                try:
                    parser.parse(str(path), kind)
                except IngestError as error:
                    reasons.append(str(error))
    assert reasons
    assert not [reason for reason in reasons if "parser fail" in reason]
