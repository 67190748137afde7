"""A session becomes what is ordered; equal orders are equal streams, and what was read once is not read again."""

import numpy as np
import pytest

from sala_core import Engine
from sala_core.errors import EngineChangedError, UploadGoneError
from sala_core.events import ReadReceipt
from sala_core.ingest import Document
from sala_core.remote.sala.order import OrderedTurn, StreamOrder
from sala_core.remote.sala.parcel import pack, parcel_hash
from sala_core.session.hosting.follow import Given
from sala_core.session.hosting.turn_tokens import TurnTokens
from sala_core.session.session import Session

TEXTS = {"a.txt": "Clara hid the key in the cellar. " * 12, "b.txt": "The ferry leaves at nine. " * 12}
DOCUMENTS = {
    parcel_hash(pack(document)): document
    for document in (
        Document(name=name, media_type="text/plain", num_bytes=1, text=text, content_hash=Document.hash_of(name, text))
        for name, text in TEXTS.items()
    )
}
A, B = DOCUMENTS
ONE, TWO = (OrderedTurn(question=f"Question {n}?", answer=f"An answer, number {n}.") for n in (1, 2))


@pytest.fixture(scope="module")
def engine():
    return Engine.load("embedded", "cpu")


def given(engine, tmp_path, *documents, turns=(), system_prompt=""):
    def load(name):
        if name not in DOCUMENTS:
            raise UploadGoneError("it is not here")
        return DOCUMENTS[name]

    order = StreamOrder(documents=documents, turns=tuple(turns), system_prompt=system_prompt)
    return Given(order=order, fingerprint=engine.fingerprint, names={}, load=load, turns=TurnTokens(tmp_path / "turns"))


def follow(session, order):
    """The tokens of the stream, and how many of them had to be read."""
    session.follow(order)
    receipt = list(session.read([]))[-1]
    assert isinstance(receipt, ReadReceipt)
    context = session.context
    return context.library.token_ids(session.row.id, 0, session.row.num_tokens).tolist(), receipt.tokens_read


def test_any_order_after_any_other_gives_the_stream_of_a_fresh_session(engine, library, tmp_path):
    orders = [
        given(engine, tmp_path, A),
        given(engine, tmp_path, A, B),
        given(engine, tmp_path, A, B, turns=[ONE]),
        given(engine, tmp_path, A, B, turns=[ONE, TWO]),
        given(engine, tmp_path, A, B, turns=[TWO, ONE]),
        given(engine, tmp_path, A, B, turns=[TWO]),
        given(engine, tmp_path, B, A, turns=[TWO]),
        given(engine, tmp_path, B),
        given(engine, tmp_path),
        given(engine, tmp_path, A, system_prompt="Answer in rhymes."),
        given(engine, tmp_path, A, B, turns=[ONE, TWO]),
    ]
    with Session.open(library, engine, "changing", create=True) as session:
        for number, order in enumerate(orders):
            ids, _ = follow(session, order)
            messages = [row.text for row in library.messages(session.row.id)]
            assert messages == [text for turn in order.order.turns for text in (turn.question, turn.answer)]
            with Session.open(library, engine, f"fresh {number}", create=True) as fresh:
                expected, num_read = follow(fresh, order)
            assert ids == expected, number
            assert num_read == 0, "the same tokens were read before, in another session"


def test_a_turn_that_comes_back_has_the_tokens_that_were_decoded(engine, library, tmp_path):
    tokens = TurnTokens(tmp_path / "turns")
    question, answer = np.arange(3, 9, dtype=np.int32), np.arange(20, 29, dtype=np.int32)
    tokens.put(ONE, engine.tokenizer.fingerprint, question, answer)
    with Session.open(library, engine, "s", create=True) as session:
        ids, _ = follow(session, given(engine, tmp_path, A, turns=[ONE]))
        assert ids[-15:] == [*range(3, 9), *range(20, 29)]
    assert tokens.get(ONE, "another tokenizer") is None
    assert tokens.get(
        OrderedTurn(question="Question 1?", answer="An answer,\n number 1. "), engine.tokenizer.fingerprint
    )


def test_what_cannot_be_followed_changes_nothing(engine, library, tmp_path):
    with Session.open(library, engine, "s", create=True) as session:
        before, _ = follow(session, given(engine, tmp_path, A, turns=[ONE]))
        with pytest.raises(UploadGoneError):
            session.follow(given(engine, tmp_path, A, "0" * 64))
        wrong = given(engine, tmp_path, B)
        object.__setattr__(wrong, "fingerprint", "another model")
        with pytest.raises(EngineChangedError, match="another model or number format"):
            session.follow(wrong)
        assert library.token_ids(session.row.id, 0, session.row.num_tokens).tolist() == before
        assert session.row.position == len(before)
