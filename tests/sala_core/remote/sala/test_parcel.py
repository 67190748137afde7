"""Documents and orders arrive as they were sent, or are refused."""

import json
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.ingest import Document
from sala_core.remote.sala.order import OrderedTurn, StreamOrder
from sala_core.remote.sala.parcel import compress, decompress, pack, parcel_hash, unpack

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)


@st.composite
def documents(draw):
    name, text = draw(TEXT.filter(bool)), draw(TEXT)
    return Document(
        name=name,
        media_type=draw(TEXT),
        num_bytes=draw(st.integers(0, 1 << 40)),
        text=text,
        page_starts=tuple(sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))),
        warnings=tuple(draw(st.lists(TEXT, max_size=2))),
        content_hash=Document.hash_of(name, text),
    )


@settings(deadline=None)
@given(documents())
def test_a_document_arrives_as_it_was_sent(document):
    parcel = pack(document)
    assert unpack(decompress(compress(parcel))) == document
    assert parcel_hash(pack(replace(document, path="/elsewhere"))) == parcel_hash(parcel), "its path is not sent"


@settings(deadline=None)
@given(documents(), st.data())
def test_damaged_bytes_are_refused(document, data):
    sent = bytearray(compress(pack(document)))
    at = data.draw(st.integers(0, len(sent) - 1))
    sent[at] ^= data.draw(st.integers(1, 255))
    try:
        arrived = decompress(bytes(sent))
    except ValueError:
        return
    assert parcel_hash(arrived) != parcel_hash(pack(document)) or arrived == pack(document)


def test_bytes_that_unpack_to_more_than_the_limit_are_refused():
    bomb = zlib.compress(bytes(10_000_000))
    with pytest.raises(ValueError, match="more than 1,000 bytes"):
        decompress(bomb, 1000)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "another form"),
        ({"name": ""}, "name"),
        ({"name": 7}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"num_bytes": -1}, "size"),
        ({"num_bytes": True}, "size"),
        ({"page_starts": [5, 2]}, "pages"),
        ({"page_starts": [99]}, "pages"),
        ({"page_starts": "0"}, "pages"),
        ({"warnings": [1]}, "warnings"),
    ],
)
def test_a_parcel_that_nobody_packs_is_refused(change, reason):
    about = {"version": 1, "name": "a", "media_type": "text/plain", "num_bytes": 5, "page_starts": [], "warnings": []}
    with pytest.raises(ValueError, match=reason):
        unpack(json.dumps(about | change).encode() + b"\nhello")


@pytest.mark.parametrize("parcel", [b"", b"\n", b"[]\n", b"{", b"\xff\n", b'{"version": 1}\n\xff', b"[" * 9000 + b"\n"])
def test_bytes_that_are_no_parcel_are_refused(parcel):
    with pytest.raises(ValueError, match=r".+"):
        unpack(parcel)


HASHES = st.integers(0, (1 << 256) - 1).map(lambda number: f"{number:064x}")


@given(
    st.builds(
        StreamOrder,
        documents=st.lists(HASHES, unique=True, max_size=3).map(tuple),
        turns=st.lists(st.builds(OrderedTurn, question=TEXT.filter(bool), answer=TEXT.filter(bool)), max_size=3).map(
            tuple
        ),
        system_prompt=TEXT,
    )
)
def test_an_order_arrives_as_it_was_sent(order):
    assert StreamOrder.from_json(json.loads(json.dumps(order.to_json()))) == order


@pytest.mark.parametrize(
    "change",
    [
        {"documents": ["../../etc/passwd"]},
        {"documents": ["0" * 64, "0" * 64]},
        {"documents": ["A" * 64]},
        {"documents": None},
        {"turns": [["question"]]},
        {"turns": [["", "answer"]]},
        {"turns": 3},
        {"system_prompt": None},
    ],
)
def test_what_is_no_order_is_refused(change):
    with pytest.raises(ValueError, match="order"):
        StreamOrder.from_json(StreamOrder().to_json() | change)
