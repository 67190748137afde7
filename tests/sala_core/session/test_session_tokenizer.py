"""What a session does with a tokenizer that begins every stream with a token, or that lacks characters."""

import time
from contextlib import closing

import numpy as np
import pytest
from reading_helpers import last

from sala_core import Engine, SamplingParams
from sala_core.errors import StateMismatchError
from sala_core.evals.local import LocalModel
from sala_core.evals.records import Message, Question
from sala_core.evals.records import Reading as EvalReading
from sala_core.evals.suites.perplexity import _head
from sala_core.ingest import SourceMap
from sala_core.session.session import Session
from sala_core.session.workspace import Workspace

BOS = 0  # <|endoftext|>


@pytest.fixture(scope="module")
def engines(random_model):
    """One model, without and with the token at the start of its streams."""
    return [Engine.load(random_model, dtype="float32", bos=bos) for bos in ("auto", True)]


def first_ids(library, name, count=3):
    return library.token_ids(library.session(name).id, 0, count).tolist()


def test_a_session_begins_with_the_token_and_belongs_to_that_choice(engines, library, write_book):
    plain, with_token = engines
    assert plain.fingerprint != with_token.fingerprint
    book = write_book(num_lines=4)
    for engine, name in ((plain, "plain"), (with_token, "marked")):
        with Session.open(library, engine, name, create=True) as session:
            receipt = last(session.read([book]))
            assert receipt.tokens_reused == 0  # neither uses the other's states
    im_start = int(plain.chat.message_prefix("system")[0])
    assert first_ids(library, "plain")[0] == im_start
    assert first_ids(library, "marked")[:2] == [BOS, im_start]
    with Session.open(library, with_token, "plain") as session:
        with pytest.raises(StateMismatchError, match="--kv or --bos than the current"):
            last(session.read([]))
        session.reset()
        last(session.read([]))
    rows = [library.session(name) for name in ("plain", "marked")]
    ids = [library.token_ids(row.id, 0, row.num_tokens) for row in rows]
    assert np.array_equal(*ids)
    assert (ids[0] == BOS).sum() == 1


def test_evaluations_begin_with_the_token(engines):
    plain, with_token = engines
    assert _head(with_token).tolist() == [BOS, *_head(plain).tolist()]
    reading = EvalReading(
        system="Be brief.",
        messages=(Message(role="user", text="The ship.", document="a.txt"),),
        questions=(Question(text="Who?", gold=(), max_tokens=4),),
    )
    prompts = [LocalModel(engine)._prompt(reading) for engine in engines]
    assert prompts[1][0].tolist() == [BOS, *prompts[0][0].tolist()]
    assert prompts[1][1] == prompts[0][1] + 1
    assert LocalModel(with_token).count(reading) == LocalModel(plain).count(reading) + 1


def test_the_page_passes_the_choice_on(library, random_model, tmp_path):
    with closing(Workspace(tmp_path / "page", str(random_model), "cpu", bos=True)) as workspace:
        row = workspace.new_session("novel")
        job = workspace.submit_ask(row.id, "Who?", SamplingParams(temperature=0.0, max_tokens=1))
        deadline = time.monotonic() + 60
        while workspace.job(job).status not in ("done", "failed"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert first_ids(workspace.library, "novel", 1) == [BOS]


@pytest.fixture(scope="module")
def lossy_engine(lossy_model):
    return Engine.load(lossy_model, dtype="float32")


def test_replaced_characters_are_reported_for_each_document(lossy_engine, session_engine, library, tmp_path):
    text = "Ring the bell\x07, ring\x07\x01 it.\n" + "Another line, which is long enough for a text file.\n" * 8
    (tmp_path / "bell.txt").write_text(text)
    (tmp_path / "plain.txt").write_text("Nothing to tell.\n")
    expected = (
        "bell.txt: 3 characters that the model's tokenizer cannot write are read as '\ufffd': U+0007 (2), U+0001 (1)"
    )
    with Session.open(library, lossy_engine, "s", create=True) as session:
        receipt = last(session.read([tmp_path / "bell.txt", tmp_path / "plain.txt"]))
    assert (receipt.files, list(receipt.warnings)) == (2, [expected])
    document = library.load_document(library.documents(library.session("s").id)[0].id)
    assert document.document.text == text
    assert lossy_engine.tokenizer.decode(document.token_ids) == text.translate(dict.fromkeys(range(8), "\ufffd"))
    places = SourceMap(text, (), document.token_starts)
    for token, start in enumerate(document.token_starts):
        assert places.place(token, token).line_start == 1 + text[:start].count("\n")
    with Session.open(library, session_engine, "s") as session:
        session.reset()
        assert list(last(session.read([])).warnings) == []
    with Session.open(library, lossy_engine, "s") as session:
        session.reset()
        assert list(last(session.read([])).warnings) == [expected]
