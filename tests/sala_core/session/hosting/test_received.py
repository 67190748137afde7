"""Documents arrive in pieces, from any byte on, whole or not at all, and for the client alone that has sent them."""

import errno
import os
import stat

import pytest

from sala_core.errors import DiskFullError, UploadError, UploadGoneError, UploadOffsetError
from sala_core.ingest import Document
from sala_core.remote.sala.parcel import compress, pack, parcel_hash
from sala_core.session.hosting.client import Client
from sala_core.session.hosting.received import Received
from sala_core.store.sessions import is_own

TEXT = "The ferry leaves at nine.\n" * 40
DOCUMENT = Document(
    name="a.txt", media_type="text/plain", num_bytes=9, text=TEXT, content_hash=Document.hash_of("a.txt", TEXT)
)
NAME, DATA = parcel_hash(pack(DOCUMENT)), compress(pack(DOCUMENT))


@pytest.fixture
def received(tmp_path):
    return Received(tmp_path / "client")


def send(received, name, data, at=0):
    ticket = received.begin(name, at)
    return received.add(name, ticket, data)


def test_a_document_arrives_in_pieces_and_is_kept(received, tmp_path):
    assert send(received, NAME, DATA[:10]) == 10
    assert not received.has(NAME)
    assert Received(tmp_path / "client").num_received(NAME) == 10, "a server that was started again knows it"
    assert send(received, NAME, DATA[10:], at=10) == len(DATA)
    received.finish(NAME)
    assert received.has(NAME)
    assert received.num_received(NAME) == 0
    assert received.load(NAME) == DOCUMENT
    mode = stat.S_IMODE((tmp_path / "client").stat().st_mode), stat.S_IMODE((tmp_path / "client" / NAME).stat().st_mode)
    assert mode == (0o700, 0o600)


def test_bytes_for_another_place_are_refused_with_the_right_one(received):
    send(received, NAME, DATA[:10])
    for offset in (0, 9, 11):
        with pytest.raises(UploadOffsetError) as refused:
            received.begin(NAME, offset)
        assert refused.value.received == 10


def test_more_bytes_than_there_are_in_all_are_dropped(received):
    send(received, NAME, DATA + b"of another compression")
    with pytest.raises(UploadOffsetError) as refused:
        received.begin(NAME, len(DATA) + 22, len(DATA))
    assert refused.value.received == 0
    send(received, NAME, DATA)
    received.finish(NAME)


def test_the_bytes_of_a_cut_request_that_come_late_are_refused(received):
    late = received.begin(NAME, 0)
    received.add(NAME, late, DATA[:5])
    again = received.begin(NAME, 5)
    with pytest.raises(UploadOffsetError):
        received.add(NAME, late, DATA[5:9])
    received.add(NAME, again, DATA[5:])
    received.finish(NAME)
    assert received.load(NAME) == DOCUMENT


def test_a_document_that_is_not_what_its_hash_names_is_dropped(received):
    for data in (DATA[:-1], DATA + b"x", bytes(len(DATA)), compress(pack(DOCUMENT) + b"more")):
        send(received, NAME, data)
        with pytest.raises(UploadError, match="send it again"):
            received.finish(NAME)
        assert (received.has(NAME), received.num_received(NAME)) == (False, 0)


def test_a_document_whose_file_was_damaged_is_asked_for_again(received, tmp_path):
    send(received, NAME, DATA)
    received.finish(NAME)
    (tmp_path / "client" / NAME).write_bytes(DATA[:-3])
    with pytest.raises(UploadGoneError):
        received.load(NAME)
    assert not received.has(NAME)


def test_a_full_disk_is_told_and_what_arrived_stays(received, monkeypatch):
    send(received, NAME, DATA[:10])

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DiskFullError):
            send(received, NAME, DATA[10:], at=10)
    send(received, NAME, DATA[10:], at=10)
    received.finish(NAME)
    assert received.load(NAME) == DOCUMENT


def test_what_no_session_needs_is_removed(received):
    send(received, NAME, DATA)
    received.finish(NAME)
    send(received, "0" * 64, b"part")
    received.keep_only({NAME})
    assert received.has(NAME)
    assert received.num_received("0" * 64) == 0


def test_a_client_is_known_by_the_hash_of_its_secret_and_reaches_its_own_names_only():
    secret, other = "s" * 40, "t" * 40
    client, stranger = Client.of(secret), Client.of(other)
    assert secret not in client.id
    name = client.session_name("abc")
    assert not is_own(name)
    assert is_own("novel")
    assert client.key_of(name) == "abc"
    assert stranger.key_of(name) is None
    for wrong in ("short", "x" * 200, "a/b" * 20, "", "ü" * 40):
        assert Client.of(wrong) is None
    for key in ("", "../x", "a b", "x" * 65):
        with pytest.raises(ValueError, match="session's key"):
            client.session_name(key)
