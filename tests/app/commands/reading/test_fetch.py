"""Addresses given to `read`: nothing is fetched before the user has agreed, and nothing of it stays."""

import io
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.commands.reading.fetch import fetched
from app.grammar.parser import parse
from sala_core.errors import FetchError


class Terminal(io.StringIO):
    """What a user types on a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """(address of a server with two pages, the paths that were asked for)."""
    asked: list[str] = []
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "a.html").write_text("<p>first")
    (folder / "b.txt").write_text("second")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_with_yes_addresses_become_paths_beside_the_others(served, tmp_path, capsys):
    url, asked = served
    arguments = parse(["read", "s", "book.txt", f"{url}/a.html", f"{url}/b.txt", f"{url}/a.html", "--yes"])
    with fetched(arguments, tmp_path / "library") as local:
        assert local is not None
        book, site = local.paths
        assert book == Path("book.txt")
        assert site.name == url.removeprefix("http://")
        assert {path.name: path.read_text() for path in site.iterdir()} == {"a.html": "<p>first", "b.txt": "second"}
        assert site.is_relative_to(tmp_path / "library" / "uploads" / "incoming")
    assert list((tmp_path / "library" / "uploads" / "incoming").iterdir()) == []
    assert asked == ["/a.html", "/b.txt"]
    out = capsys.readouterr().out
    assert out.startswith(f"To be fetched from the network:\n  {url}/a.html (a page or file, at most 268 MB)\n")
    assert f"Fetched {url}/b.txt: 1 file, 6 B\n" in out


def test_without_a_terminal_and_without_yes_nothing_is_fetched(served, tmp_path, monkeypatch):
    url, asked = served
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(FetchError, match="add --yes"), fetched(parse(["read", "s", f"{url}/a.html"]), tmp_path):
        pytest.fail("nothing must be read")
    assert asked == []


@pytest.mark.parametrize(
    ("answer", "is_fetched"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_on_a_terminal_the_user_decides(served, tmp_path, monkeypatch, capsys, answer, is_fetched):
    url, asked = served
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    with fetched(parse(["read", "s", f"{url}/a.html"]), tmp_path) as local:
        assert (local is not None) is is_fetched
    assert bool(asked) is is_fetched
    assert ("Nothing was fetched." in capsys.readouterr().out) is not is_fetched


def test_one_address_that_cannot_be_fetched_stops_before_anything_is_read(served, tmp_path):
    url, _ = served
    with (
        pytest.raises(FetchError, match="status 404"),
        fetched(parse(["read", "s", f"{url}/a.html", f"{url}/c.html", "--yes"]), tmp_path),
    ):
        pytest.fail("nothing must be read")
    assert list((tmp_path / "uploads" / "incoming").iterdir()) == []


def test_a_bad_address_is_refused_before_the_user_is_asked(tmp_path, capsys):
    with pytest.raises(FetchError, match="only https"), fetched(parse(["read", "s", "ftp://x/y"]), tmp_path):
        pytest.fail("nothing must be read")
    assert capsys.readouterr().out == ""
