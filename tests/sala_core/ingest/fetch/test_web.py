"""Web pages are fetched only from where they may be, within limits, and keep their address as their name."""

import socket
import time
from pathlib import Path

import pytest

from sala_core.errors import FetchError
from sala_core.ingest import EncodedDocument, prepare
from sala_core.ingest.fetch import guard
from sala_core.ingest.fetch.address import parse_address
from sala_core.ingest.fetch.web import Fetched, FetchLimits, fetch_page


@pytest.fixture
def fetch(tmp_path: Path):
    """Fetch an address into a new folder; the redirects are in `fetch.notes`."""

    def run(url: str, **limits: float) -> Fetched:
        folder = tmp_path / f"fetched{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return fetch_page(parse_address(url), folder, FetchLimits(**limits), run.notes.append)  # type: ignore[attr-defined,arg-type]

    run.notes = []  # type: ignore[attr-defined]
    return run


def texts(fetched: Fetched, tokenizer) -> dict[str, str]:
    found = [item for item in prepare([fetched.root], tokenizer) if isinstance(item, EncodedDocument)]
    return {item.document.name.split("/", 1)[1]: item.document.text for item in found}


def test_a_page_is_read_as_a_page_under_its_address(site, fetch, tokenizer):
    url = site.page("/guide/start", b"<title>T</title><p>Hello<script>x</script>")
    fetched = fetch(url + "#part")
    assert fetched.root.name == url.split("/")[2]
    assert (fetched.url, fetched.num_files, fetched.num_bytes) == (url, 1, 42)
    assert texts(fetched, tokenizer) == {"guide/start.html": "# T\n\nHello\n"}
    assert [path for path, _ in site.asked] == ["/guide/start"], "nothing but the page itself is asked for"
    assert site.asked[0][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("path", "content_type", "name"),
    [
        ("/", "text/html", "index.html"),
        ("/a.php?id=3&x=%2Fetc", "text/html; charset=utf-8", "a (id=3&x=%2Fetc).php.html"),
        ("/paper", "application/pdf", "paper.pdf"),
        ("/rows", "text/csv", "rows.csv"),
        ("/code.py", "text/plain", "code.py"),
        ("/notes", "text/plain", "notes.txt"),
        ("/notes.md", "application/octet-stream", "notes.md"),
        ("/book.epub", "application/zip", "book.epub"),
        ("/-rf%20x/..%2f..%2fup.txt", "text/plain", "_-rf x/up.txt"),
        ("/plain", "", "plain"),
    ],
)
def test_the_name_fits_the_content_type_and_stays_inside(site, fetch, path, content_type, name):
    fetched = fetch(site.page(path, b"words", content_type))
    (file,) = [entry for entry in fetched.root.rglob("*") if entry.is_file()]
    assert file.relative_to(fetched.root).as_posix() == name


def test_an_encoding_that_only_the_server_tells_is_kept(site, fetch, tokenizer):
    page = "<p>Привет, мир".encode("koi8-r")
    assert texts(fetch(site.page("/a", page, "text/html; charset=KOI8-R")), tokenizer) == {"a.html": "Привет, мир\n"}
    quotes = "<p>“well”".encode("cp1252")
    assert texts(fetch(site.page("/b", quotes, "text/html; charset=iso-8859-1")), tokenizer) == {"b.html": "“well”\n"}
    assert texts(fetch(site.page("/c", b"word", "text/plain; charset=nonsense")), tokenizer) == {"c.txt": "word"}


def test_what_is_no_document_is_refused(site, fetch):
    with pytest.raises(FetchError, match=r"is image/png, not a text or document"):
        fetch(site.page("/a.png", b"\x89PNG", "image/png"))
    with pytest.raises(FetchError, match="status 404"):
        fetch(site.url + "/nowhere")
    with pytest.raises(FetchError, match=r"packed .gzip."):
        fetch(site.page("/z", b"\x1f\x8b", Content_Encoding="gzip"))


def test_redirects_are_told_limited_and_never_leave_the_web(site, fetch, tokenizer):
    end = site.page("/end", b"<p>here")
    fetched = fetch(site.redirect("/start", "/middle") if site.redirect("/middle", end) else "")
    assert fetch.notes == [f"Redirected to {site.url}/middle", f"Redirected to {end}"]
    assert fetched.url == end
    assert texts(fetched, tokenizer) == {"end.html": "here\n"}
    with pytest.raises(FetchError, match="more than 5 redirects"):
        fetch(site.redirect("/loop", "/loop"))
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "javascript:alert(1)"):
        with pytest.raises(FetchError, match="which is not fetched"):
            fetch(site.redirect("/away", target))
    with pytest.raises(FetchError, match="password"):
        fetch(site.redirect("/named", f"http://user:secret@{site.url[7:]}/end"))


@pytest.fixture
def public_site(site, monkeypatch: pytest.MonkeyPatch):
    """The same server as `public.example`, which counts as public; `inside.example` is a name of a private address."""
    port = int(site.url.rpartition(":")[2])
    look_up, judge = socket.getaddrinfo, guard.is_public
    known = {"public.example": "127.0.0.1", "inside.example": "10.0.0.5", "both.example": "127.0.0.1"}

    def resolve(host, *args, **options):
        found = look_up(known.get(host, host), *args, **options)
        return [*found, *look_up("192.168.0.1", *args, **options)] if host == "both.example" else found

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(guard, "is_public", lambda address: address == "127.0.0.1" or judge(address))
    site.url = f"http://public.example:{port}"
    return site


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://0x0a000001/",
        "http://inside.example/",
        "http://both.example/",
    ],
)
def test_a_public_address_does_not_lead_to_a_private_one(public_site, fetch, target):
    with pytest.raises(FetchError, match="an address of this machine or its network"):
        fetch(public_site.redirect("/start", target))
    assert [path for path, _ in public_site.asked] == ["/start"]


def test_a_public_name_of_a_private_address_is_refused_at_once(public_site, fetch):
    with pytest.raises(FetchError, match=r"inside.example leads to 10.0.0.5"):
        fetch("http://inside.example/")


def test_a_public_page_is_fetched(public_site, fetch):
    assert fetch(public_site.page("/a", b"<p>x")).num_files == 1


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1:248:1893:25c8:1946", True), ("127.0.0.1", False), ("::1", False),
        ("10.1.2.3", False), ("100.64.0.1", False), ("169.254.169.254", False), ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:192.168.1.1", False), ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False), ("::ffff:93.184.216.34", True),
    ],
)  # fmt: skip
def test_public_addresses_are_told_from_others(address, expected):
    assert guard.is_public(address) is expected


def test_size_and_time_are_limited(site, fetch):
    with pytest.raises(FetchError, match="over the limit"):
        fetch(site.page("/stated", b"x" * 5000), max_bytes=4000)
    site.slow.add("/endless")
    with pytest.raises(FetchError, match="over the limit"):
        fetch(site.page("/endless", b"x" * 5000, Content_Length=""), max_bytes=5010)
    site.slow.add("/drip")
    site.page("/drip", b"", Content_Length="100000")
    started = time.monotonic()
    with pytest.raises(FetchError, match="took more than"):
        fetch(site.url + "/drip", max_s=0.3)
    with pytest.raises(FetchError, match="does not answer"):
        fetch(site.page("/short", b"abc", Content_Length="10", Connection="keep-alive"), max_wait_s=0.2)
    assert time.monotonic() - started < 60


def test_a_server_that_is_not_there_is_told(fetch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(FetchError, match="cannot be fetched"):
        fetch(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("text", "kind", "folders"),
    [
        ("https://example.com", "page", ["example.com", "index"]),
        ("https://Example.com:8443/a/b/", "page", ["example.com:8443", "a", "b", "index"]),
        ("https://github.com/owner/name", "git", ["github.com", "owner", "name"]),
        (
            "https://github.com/owner/name/blob/main/a.py",
            "page",
            ["github.com", "owner", "name", "blob", "main", "a.py"],
        ),
        ("https://github.com/topics/python", "page", ["github.com", "topics", "python"]),
        ("https://example.com/x/y.git", "git", ["example.com", "x", "y"]),
        ("git+https://example.com/x", "git", ["example.com", "x"]),
    ],
)
def test_addresses_are_told_apart(text, kind, folders):
    address = parse_address(text)
    assert (address.kind, address.folders) == (kind, folders)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://example.com/x", "only https"),
        ("file:///etc/passwd", "only https"),
        ("git+file:///srv/x.git", "only https"),
        ("git://example.com/x.git", "over https only"),
        ("ssh://git@example.com/x", "over https only"),
        ("git@github.com:owner/name.git", "over https only"),
        ("http://example.com/x.git", "over https only"),
        ("https://user:pass@example.com/", "name or password"),
        ("https:///x", "only https"),
        ("https://exa mple.com/", "no address"),
    ],
)
def test_other_addresses_are_refused(text, message):
    with pytest.raises(FetchError, match=message):
        parse_address(text)
