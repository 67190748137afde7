"""Two processes: a Sala that reads and answers, and this one; the wire is cut at every stage. Nothing is read twice."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent))

from client_texts import QUESTION, Text, a_text, ask, read, story
from cutting_proxy import CuttingProxy
from sala_server import ROOT, SalaServer

from sala_core.engine.engine import Engine
from sala_core.errors import EngineChangedError, EngineRefusedError, EngineUnreachableError
from sala_core.events import Answer, ReadProgress
from sala_core.remote.access import Access
from sala_core.remote.engine import EngineAnswer, PastTurn
from sala_core.remote.sala.engine import SalaEngine
from sala_core.remote.sala.parcel import MAX_PARCEL_BYTES
from sala_core.session.hosting.client import Client
from sala_core.session.remote.turn import Writer
from sala_core.session.session import Session
from sala_core.stopping import never
from sala_core.store import Library


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = SalaServer(tmp_path_factory.mktemp("server") / "library", port)
    server.start()
    server.wait()
    yield server
    server.end()


@pytest.fixture(scope="module")
def proxy(server):
    with closing(CuttingProxy(server.port)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The library of the client, which holds its secret."""
    return tmp_path_factory.mktemp("client")


@pytest.fixture
def engine(server, proxy, home):
    with closing(SalaEngine(Access.of(f"127.0.0.1:{proxy.port}", server.key), home, patience_s=60)) as engine:
        yield engine
    proxy.cut_after()


def then(text, question, answer):
    """The session after one more turn."""
    turn = PastTurn(id=secrets.token_hex(4), question=question, answer=answer.strip())
    return replace(text, turns=[*text.turns, turn])


def jobs(server, home, text):
    """The rows of a session's jobs at the server, and its own row."""
    client = Client.of((home / "engines" / "client-secret").read_text())
    with Library.open_to_read(server.library) as library:
        row = library.session(client.session_name(text.session_id))
        return library.jobs(row.id), row


QUESTIONS = (QUESTION, "When does the ferry to Skarholm leave?", "Who painted the ceiling of the chapel?")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A library here, its model, and what this answers from the session "s"."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "account.txt").write_text(story(1, 60))
    (folder / "notes.md").write_text("# Notes\n\nThe ferry to Skarholm leaves at nine.\n\n" + story(2, 20))
    engine = Engine.load("embedded", "cpu")
    with Library.open(folder / "library") as library:
        with Session.open(library, engine, "s", create=True) as session:
            for _ in session.read([folder / "account.txt", folder / "notes.md"]):
                pass
        library.fork_session("s", "asked here")
        with Session.open(library, engine, "asked here") as session:
            answers = {question: list(session.ask(question))[-1] for question in QUESTIONS}
        yield library, engine, answers


class TestEqualAnswers:
    def test_answers_evidence_and_refusals_are_those_of_the_same_model_here(self, engine, local):
        library, own, here = local
        with Session.open(library, own, "s") as session:
            for question, expected in here.items():
                *_, answer = session.ask(question, writer=Writer(engine=engine))
                assert isinstance(answer, Answer)
                assert answer.text == expected.text
                assert answer.evidence == expected.evidence
                assert answer.quotations == expected.quotations
                assert answer.confidence == expected.confidence
                assert answer.written_by.basis == "state"
        assert "salt cellar" in here[QUESTION].text
        assert here[QUESTION].quotations
        assert here[QUESTIONS[-1]].text.startswith("I did not find a sentence that answers this.")

    def test_a_fork_reads_nothing_again(self, engine, local, server, home):
        library, own, _ = local
        library.fork_session("s", "fork")
        with Session.open(library, own, "fork") as session:
            *_, answer = session.ask("Who carried a silver bell?", writer=Writer(engine=engine))
            forked = Text(documents=[], session_id=session.row.id)
        assert answer.written_by.tokens_again < 60
        rows, row = jobs(server, home, forked)
        assert [job.result.tokens_read for job in rows if job.kind == "read"] == [0]
        assert answer.written_by.tokens_again + answer.written_by.tokens_reused <= row.num_tokens


READ_CUTS = [{"up": 0}, {"up": 500}, {"up": 1100}, {"up": 1900}, {"up": 2300}, {"up": 2700}] + [
    {"down": number} for number in (0, 300, 700, 1000, 1300, 1500)
]


@pytest.mark.parametrize("cut", READ_CUTS, ids=str)
def test_a_reading_whose_wire_is_cut_loses_nothing_and_reads_nothing_twice(engine, proxy, server, home, cut):
    text = a_text(100 + READ_CUTS.index(cut))
    engine.connect()
    cuts = proxy.num_cuts
    proxy.cut_after(**cut)
    receipt = read(engine, text)
    assert proxy.num_cuts == cuts + 1, "the cut came within the reading"
    rows, row = jobs(server, home, text)
    assert [job.status for job in rows] == ["done"]
    assert receipt.tokens_read == row.position == row.num_tokens > 500
    assert receipt.tokens_reused == 0
    before = proxy.num_up
    assert read(engine, text).tokens_read == 0
    assert proxy.num_up - before < 1500, "the document is not sent again"


ASK_CUTS = [{"up": 0}, {"up": 300}, {"up": 700}, {"up": 1000}] + [
    {"down": number} for number in (0, 150, 400, 900, 1500)
]


@pytest.fixture(scope="module")
def answered(server, home):
    """A session that is read, and the answer to QUESTION."""
    text = a_text(90)
    with closing(SalaEngine(Access.of(f"127.0.0.1:{server.port}", server.key), home)) as engine:
        read(engine, text)
        return text, ask(engine, replace(text, session_id=secrets.token_hex(16)))


@pytest.mark.parametrize("cut", ASK_CUTS, ids=str)
def test_an_answer_whose_wire_is_cut_is_given_once_and_whole(engine, proxy, server, home, answered, cut):
    text, (expected, end) = answered
    text = replace(text, session_id=secrets.token_hex(16))
    read(engine, text)
    cuts = proxy.num_cuts
    proxy.cut_after(**cut)
    given, found = ask(engine, text)
    assert proxy.num_cuts == cuts + 1, "the cut came within the answer"
    assert given == expected
    assert (found.evidence, found.quotations) == (end.evidence, end.quotations)
    rows, row = jobs(server, home, text)
    assert [(job.kind, job.status) for job in rows] == [("read", "done"), ("ask", "done")]
    assert row.num_messages == 2


def test_stop_reaches_the_server_and_what_was_read_is_kept(engine, server, home):
    text = a_text(5, sentences=600)
    seen = []

    def should_stop():
        return bool(seen)

    for event in engine.read(text, should_stop=should_stop):
        if isinstance(event, ReadProgress) and event.phase == "reading" and event.tokens_done > 4096:
            seen.append(event)
    rows, row = jobs(server, home, text)
    assert rows[0].status == "stopped"
    assert 4096 <= row.position < row.num_tokens
    stopped_at = row.position
    assert read(engine, text).tokens_reused == stopped_at
    rows, row = jobs(server, home, text)
    assert sum(job.result.tokens_read for job in rows) == row.num_tokens


def test_turns_that_come_back_are_those_that_were_answered(engine, server, home, answered):
    text = replace(answered[0], session_id=secrets.token_hex(16))
    first, _ = ask(engine, text)
    longer = then(text, QUESTION, first)
    second, _ = ask(engine, longer, "Who carried a blue lantern?")
    longest = then(longer, "Who carried a blue lantern?", second)
    read(engine, text)  # both turns are taken back
    _, row = jobs(server, home, text)
    assert row.num_messages == 0
    assert read(engine, longest).tokens_read == 0, "both are there again, with the tokens that they had"
    other = replace(longest, session_id=secrets.token_hex(16))
    assert read(engine, other).tokens_read == 0, "also in a fork"


def test_a_wrong_key_is_refused_with_the_way_to_the_right_one(server, home):
    engine = SalaEngine(Access.of(f"127.0.0.1:{server.port}", "sala-engine-wrong"), home)
    with closing(engine), pytest.raises(EngineRefusedError, match=r"401.*--show-key.*--engine-key-file"):
        engine.connect()


def test_what_is_too_large_is_refused_and_not_sent_again(server, engine):
    sent = engine.connection.bytes_sent
    with pytest.raises(EngineRefusedError, match="413"):
        engine.connection.call(
            "PUT", f"/documents/{'0' * 64}", content=b"x", query={"offset": 0, "total": MAX_PARCEL_BYTES + 1}
        )
    assert engine.connection.bytes_sent == sent + 1


def test_two_clients_are_served_at_once(server, home, tmp_path):
    texts, found = [a_text(20, sentences=120), a_text(21, sentences=120)], {}

    def follow(index, library):
        with closing(SalaEngine(Access.of(f"127.0.0.1:{server.port}", server.key), library)) as engine:
            found[index] = ask(engine, texts[index], f"What did the clerk {20 + index} write?")

    threads = [threading.Thread(target=follow, args=each) for each in enumerate((home, tmp_path))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for index, text in enumerate(texts):
        end = found[index][1]
        assert isinstance(end, EngineAnswer)
        assert {item.document_id for item in end.evidence} == {text.documents[0].id}


def test_a_server_whose_disk_is_full_says_so_and_goes_on_afterwards(engine, server, home):
    text = a_text(30, sentences=240)
    engine.connect()
    server.signal(signal.SIGUSR1)
    try:
        with pytest.raises(EngineRefusedError, match=r"disk of .* is full"):
            read(engine, text)
    finally:
        server.signal(signal.SIGUSR2)
    pieces = engine.read(text, should_stop=never)
    for event in pieces:  # the document is there, and a segment is read: then the disk is full
        if event.phase == "reading":
            break
    server.signal(signal.SIGUSR1)
    try:
        with pytest.raises(EngineRefusedError, match="full"):
            list(pieces)
    finally:
        server.signal(signal.SIGUSR2)
    receipt = read(engine, text)
    assert not receipt.stopped
    assert receipt.tokens_reused + receipt.tokens_read == jobs(server, home, text)[1].num_tokens


def test_another_model_at_the_server_is_told_before_anything_is_read(engine, answered, monkeypatch):
    text = answered[0]
    engine.connect()
    known = engine.kept.model(engine.connection.access.address, text.session_id)
    assert known is None, "the proxy is another address"
    read(engine, text)
    assert engine.note_before(text) == ""
    engine.kept.set_model(engine.connection.access.address, text.session_id, replace_model(engine, text))
    assert "read again there" in engine.note_before(text)
    engine.connect()
    monkeypatch.setattr(engine, "connect", lambda: None)
    monkeypatch.setattr(engine, "_fingerprint", "another")
    with pytest.raises(EngineChangedError, match="another model or number format"):
        read(engine, text)


def replace_model(engine, text):
    known = engine.kept.model(engine.connection.access.address, text.session_id)
    return replace(known, name="sala-9b", fingerprint="before")


class TestRestarts:
    """The last tests: they kill the server, and start it again."""

    def test_a_reading_goes_on_where_a_killed_server_has_saved(self, engine, server, home):
        text = a_text(40, sentences=330)
        restarted = None
        for event in engine.read(text, should_stop=never):
            is_reading = isinstance(event, ReadProgress) and event.phase == "reading"
            if restarted is None and is_reading and event.tokens_done > 5000:
                server.kill()
                restarted = threading.Thread(target=server.start)
                restarted.start()
        rows, row = jobs(server, home, text)
        assert [job.status for job in rows] == ["interrupted", "done"]
        assert event.tokens_reused >= 4096
        assert row.position == row.num_tokens == event.tokens_reused + event.tokens_read
        given, _ = ask(engine, text)
        assert "salt cellar" in given

    def test_a_server_that_lost_its_library_gets_the_documents_again(self, engine, server, home, tmp_path):
        text = a_text(41)
        first, _ = ask(engine, text)
        text = then(text, QUESTION, first)
        server.stop()
        key = shutil.copytree(server.library / "page", tmp_path / "page")
        shutil.rmtree(server.library)
        server.library.mkdir(mode=0o700)
        shutil.copytree(key, server.library / "page")
        server.start()
        second, end = ask(engine, text, "Who carried the old map?")
        assert "old map" in second
        assert {item.document_id for item in end.evidence} == {text.documents[0].id}
        _, row = jobs(server, home, text)
        assert row.num_messages == 4

    def test_a_server_that_is_gone_is_told_with_the_next_step(self, server, home):
        text, started = a_text(41), time.monotonic()
        server.stop()
        engine = SalaEngine(Access.of(f"127.0.0.1:{server.port}", "sala-engine-x"), home, patience_s=1)
        with closing(engine), pytest.raises(EngineUnreachableError, match="ask again once it runs"):
            read(engine, text)
        assert time.monotonic() - started < 60

    def test_the_command_serves_by_tls_and_ask_goes_there(self, server, local, home, tmp_path):
        """Both commands as a person types them; the library of the server is the one of the tests before."""
        certificate, private = _certificate(tmp_path)
        server.start("--certificate", str(certificate), "--key", str(private))
        server.wait(certificate)
        key = tmp_path / "key"
        key.touch(mode=0o600)
        key.write_text(server.key)
        url = f"https://127.0.0.1:{server.port}"
        stranger = SalaEngine(Access.of(url, server.key), home, patience_s=0)
        with closing(stranger), pytest.raises(EngineUnreachableError, match=r"certificate.*--engine-ca-file"):
            stranger.connect()
        answer = _launch(
            *("--library", str(local[0].folder), "ask", "s", QUESTION, "--json", "--engine", url),
            *("--engine-key-file", str(key), "--engine-ca-file", str(certificate)),
        )
        assert answer["answer"] == local[2][QUESTION].text
        assert [item["document"] for item in answer["quotations"]] == ["account.txt", "notes.md"]


def _launch(*arguments):
    """The JSON that a command prints."""
    environment = os.environ | {"SALA_DESKTOP_ENVIRONMENT": sys.prefix}
    line = [sys.executable, str(ROOT / "launch.py"), *arguments]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _certificate(folder):
    """A self-signed certificate for this machine, and its private key."""
    certificate, private = folder / "certificate.pem", folder / "private.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    line += ["-addext", names, "-keyout", str(private), "-out", str(certificate)]
    try:
        subprocess.run(line, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"openssl makes no certificate here: {error}")
    return certificate, private
