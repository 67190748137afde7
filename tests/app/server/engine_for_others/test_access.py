"""The routes for other Salas: what they want, what they refuse, and that a client reaches its own alone."""

import json
import os
import stat
import time
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from app.grammar.parser import parse
from app.server.engine_for_others.access import engine_key
from app.server.engine_for_others.mount import engine_mount
from app.server.program import answer_at_once, tls_options
from sala_core.errors import LibraryError, SalaError
from sala_core.ingest import Document
from sala_core.remote.sala.order import StreamOrder
from sala_core.remote.sala.parcel import MAX_PARCEL_BYTES, compress, pack, parcel_hash
from sala_core.remote.sala.wire import Alive, End, from_line
from sala_core.session.workspace import Workspace

TEXT = "\n".join(f"On day {day} Clara carried the brass key to house number {day}." for day in range(40))
DOCUMENT = Document(
    name="a.txt", media_type="text/plain", num_bytes=9, text=TEXT, content_hash=Document.hash_of("a.txt", TEXT)
)
NAME, DATA = parcel_hash(pack(DOCUMENT)), compress(pack(DOCUMENT))
ROUTES = [
    ("GET", "/"),
    ("POST", "/documents/missing"),
    ("PUT", f"/documents/{NAME}"),
    ("GET", "/sessions"),
    ("DELETE", "/sessions/x"),
    ("PUT", f"/jobs/{'0' * 32}"),
    ("GET", f"/jobs/{'0' * 32}/events"),
    ("POST", f"/jobs/{'0' * 32}/stop"),
]


class Caller:
    """A client of the routes, by its secret."""

    def __init__(self, http, key, secret):
        self._http = http
        self.headers = {"authorization": f"Bearer {key}", "x-sala-client": secret}

    def __call__(self, method, path, body=None, **options):
        if body is not None:
            options["content"] = json.dumps(body)
        headers = self.headers | options.pop("headers", {})
        return self._http.request(method, f"/engine/v1{path}", headers=headers, **options)

    def send(self):
        return self("PUT", f"/documents/{NAME}?offset=0&total={len(DATA)}", content=DATA)

    def order(self, job, fingerprint, **changes):
        stream = StreamOrder(documents=(NAME,)).to_json()
        body = {"session": "s", "fingerprint": fingerprint, "stream": stream} | changes
        return self("PUT", f"/jobs/{job}", body)

    def follow(self, job):
        """All events of a job, and its end."""
        lines = [from_line(line) for line in self("GET", f"/jobs/{job}/events").content.splitlines()]
        assert isinstance(lines[-1], End)
        return [line for line in lines[:-1] if not isinstance(line, Alive)], lines[-1]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return tmp_path_factory.mktemp("access") / "library"


@pytest.fixture(scope="module")
def workspace(library):
    workspace = Workspace(library, "embedded", "cpu")
    while workspace.model_info().status == "loading":
        time.sleep(0.1)
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def callers(workspace, library):
    """Two clients. The first has had a document read, and asked about it."""
    http, key = TestClient(engine_mount(workspace, library)), engine_key(library)
    return Caller(http, key, "a" * 40), Caller(http, key, "b" * 40)


@pytest.fixture(scope="module")
def asked(callers, workspace):
    """The job that asked."""
    own, fingerprint = callers[0], workspace.engine.fingerprint
    assert own.send().json() == {"received": len(DATA)}
    assert own.order("1" * 32, fingerprint).status_code == 200
    assert own.follow("1" * 32)[1].status == "done"
    assert own.order("2" * 32, fingerprint, question="Where did Clara carry the key on day 7?").status_code == 200
    own.follow("2" * 32)
    return "2" * 32


def test_every_route_wants_the_key_and_a_secret(callers):
    for method, path in ROUTES:
        for headers in (
            {"authorization": ""},
            {"authorization": "Bearer sala-engine-wrong"},
            {"authorization": callers[0].headers["authorization"].replace("Bearer", "Basic")},
            {"x-sala-client": ""},
            {"x-sala-client": "short"},
        ):
            assert callers[0](method, path, headers=headers).status_code == 401, (path, headers)


def test_no_web_page_comes_in(callers):
    for headers in ({"origin": "http://127.0.0.1:7863"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert callers[0]("GET", "/", headers=headers).status_code == 403
    answer = callers[0]("GET", "/")
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_client_reaches_nothing_of_another_one(callers, workspace, asked):
    own, stranger = callers
    assert stranger("GET", "/sessions").json() == {"sessions": []}
    assert stranger("POST", "/documents/missing", {"documents": [NAME]}).json() == {"missing": {NAME: 0}}
    for method, path in (
        ("GET", f"/jobs/{asked}/events"),
        ("POST", f"/jobs/{asked}/stop"),
        ("DELETE", "/sessions/s"),
    ):
        assert stranger(method, path).status_code == 404, path
    fingerprint = workspace.engine.fingerprint
    assert stranger.order(asked, fingerprint).status_code == 404, "the job of somebody else"
    refused = stranger.order("3" * 32, fingerprint, question="What is in it?")
    assert (refused.status_code, refused.json()["error"]["names"]) == (409, [NAME]), "a hash gives no text"
    assert stranger.send().status_code == 200
    assert stranger.order("4" * 32, fingerprint).status_code == 200
    (*_, receipt), _ = stranger.follow("4" * 32)
    assert receipt.tokens_read == 0, "equal texts are read once for all"
    assert receipt.shared_with == ""
    assert len(own("GET", "/sessions").json()["sessions"]) == 1
    assert stranger("DELETE", "/sessions/s").status_code == 200
    assert stranger("POST", "/documents/missing", {"documents": [NAME]}).json() == {"missing": {NAME: 0}}
    assert own("POST", "/documents/missing", {"documents": [NAME]}).json() == {"missing": {}}


def test_the_same_id_is_the_same_job(callers, workspace, asked):
    events, end = callers[0].follow(asked)
    assert callers[0].order(asked, workspace.engine.fingerprint, question="Another one?").json()["status"] == "done"
    assert callers[0].follow(asked) == (events, end)
    assert (
        callers[0]("GET", f"/jobs/{asked}/events?after={len(events) - 1}").content.splitlines()[0]
        == (callers[0]("GET", f"/jobs/{asked}/events").content.splitlines()[len(events) - 1])
    )


def test_documents_are_named_by_their_contents(asked, callers, workspace):
    answer = callers[0].follow(asked)[0][-1]
    named = {item.document_id for item in (*answer.evidence, *answer.quotations)}
    named |= {name for name, _ in answer.attention_map.documents}
    assert named == {DOCUMENT.content_hash}


def test_answer_settings_reach_the_model(callers, workspace, asked):
    changes = {"verbatim": False, "max_tokens": 3, "seed": 5}
    assert callers[0].order("7" * 32, workspace.engine.fingerprint, question="Who?", changes=changes).status_code == 200
    events, end = callers[0].follow("7" * 32)
    assert end.status == "done"
    assert (events[-1].tokens_generated, events[-1].finish_reason) == (3, "length")


def test_another_model_is_told(callers, asked):
    assert callers[0].order("5" * 32, "another fingerprint", question="Who?").status_code == 200
    end = callers[0].follow("5" * 32)[1]
    assert (end.status, end.kind) == ("failed", "EngineChangedError")


def test_what_is_too_large_or_no_request_is_refused(callers):
    call, zeros = callers[0], "0" * 64
    assert call("PUT", f"/documents/{zeros}?offset=0&total={MAX_PARCEL_BYTES + 1}", content=b"x").status_code == 413
    assert call("PUT", f"/documents/{zeros}?offset=0&total=9", content=b"x" * 10).status_code == 413
    assert call("PUT", f"/documents/{zeros}?offset=0&total=90000000", content=b"x" * (9 << 20)).status_code == 413
    assert call("POST", "/documents/missing", content=b"[" * (17 << 20)).status_code == 413
    assert call("POST", "/documents/missing", content=b"[" * 100_000).status_code == 400
    assert call("PUT", "/documents/..%2Fx?offset=0&total=1", content=b"x").status_code in (400, 404)
    assert call("PUT", f"/documents/{zeros}?offset=-1&total=1", content=b"x").status_code == 400
    for change in (
        {"session": "../x"},
        {"question": " "},
        {"changes": {"only_quotes": True}},
        {"changes": {"temperature": "hot"}},
        {"changes": {"temperature": -1}},
        {"changes": {"verbatim": 1}},
        {"stream": {"documents": ["../../etc"], "turns": [], "system_prompt": ""}},
        {"stream": 7},
    ):
        assert call.order("6" * 32, "f", **change).status_code == 400, change
    assert call.order("x", "f").status_code == 400


def test_the_key_is_private_and_a_damaged_one_is_refused(tmp_path):
    key = engine_key(tmp_path)
    file = next(tmp_path.rglob("engine-key"))
    assert engine_key(tmp_path) == key
    if os.name != "nt":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(0o644)
        with pytest.raises(LibraryError, match="other users can read it"):
            engine_key(tmp_path)
        file.chmod(0o600)
    file.write_text("sala-engine-short")
    with pytest.raises(LibraryError, match="damaged"):
        engine_key(tmp_path)


def test_show_key_prints_the_key_of_these_routes(tmp_path, capsys):
    arguments = parse(["serve", "--engine-for-others", "--show-key"])
    assert answer_at_once(arguments, tmp_path) == 0
    assert capsys.readouterr().out.strip() == engine_key(tmp_path)
    assert answer_at_once(parse(["serve", "--show-key"]), tmp_path) == 0
    assert capsys.readouterr().out.strip() != engine_key(tmp_path), "the key of the API is another one"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--engine-for-others", "--host", "0.0.0.0"], "only with --certificate and --key"),
        (["--certificate", "c.pem"], "belong together"),
        (["--key", "k.pem"], "belong together"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, reason, capsys):
    with pytest.raises(SystemExit):
        parse(["serve", *options])
    assert reason in capsys.readouterr().err


def test_files_that_are_no_certificate_are_refused(tmp_path):
    (tmp_path / "c.pem").write_text("nothing")
    line = ["serve", "--certificate", str(tmp_path / "c.pem"), "--key", str(tmp_path / "c.pem")]
    with pytest.raises(SalaError, match="give a certificate and its private key"):
        tls_options(parse(line))
    assert tls_options(parse(["serve"])) == {}
    missing = replace(parse(line).serve, certificate=tmp_path / "none.pem")
    with pytest.raises(SalaError, match=r"none\.pem"):
        tls_options(replace(parse(line), serve=missing))
