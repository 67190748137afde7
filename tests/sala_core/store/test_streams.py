"""The tokens of a session are read back unchanged, and a turn is committed whole or not at all."""

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sala_core.errors import LibraryError, SessionNotFoundError, StateError
from sala_core.events import AnswerStats, Evidence
from sala_core.store import MessageDraft, PartDraft

runs = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=9), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=runs, data=st.data())
def test_any_slice_of_the_stream_equals_the_slice_of_the_array(library, runs, data):
    session = library.create_session(str(time.perf_counter_ns()), model="A", fingerprint="f").id
    library.append_parts(session, [PartDraft(kind="user", token_ids=np.array(run)) for run in runs])
    whole = np.concatenate([np.array(run, dtype=np.int32) for run in runs])
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    ids = library.token_ids(session, start, end)
    assert ids.dtype == np.int32
    assert np.array_equal(ids, whole[start:end])
    assert library.session(session).num_tokens == len(whole)


def test_parts_are_consecutive_and_keep_their_fields(library, new_session, encoded):
    session = new_session(num_tokens=3)
    document = library.put_document(encoded(), "t")
    library.append_parts(
        session,
        [
            PartDraft(kind="document", token_ids=[5, 6, 7], document_id=document, body_start=1),
            PartDraft(kind="user", token_ids=np.array([8], dtype=np.uint16), message_id="m"),
        ],
    )
    assert [(part.ordinal, part.kind, part.start, part.end) for part in library.parts(session)] == [
        (0, "system", 0, 3),
        (1, "document", 3, 6),
        (2, "user", 6, 7),
    ]
    assert [(part.document_id, part.body_start, part.message_id) for part in library.parts(session)][1:] == [
        (document, 1, None),
        (None, 0, "m"),
    ]


def test_equal_runs_are_stored_once(library, new_session):
    first, second = new_session("one", num_tokens=1000), new_session("two", num_tokens=1000)
    with library.database.read() as conn:
        assert conn.execute("SELECT count(*), max(length(ids)) FROM token_runs").fetchone()[:] == (1, 4000)
    library.delete_session(first)
    assert library.token_ids(second, 998, 1000).tolist() == [998, 999]


def test_a_slice_reads_only_a_small_part_of_a_long_run(library, new_session):
    session = new_session(num_tokens=4_000_000)
    started = time.perf_counter()
    library.token_ids(session, 0, 4_000_000)
    whole = time.perf_counter() - started
    best = min(_seconds(library, session, start) for start in (0, 1_000_000, 3_999_000))
    assert best < whole / 2


def _seconds(library, session, start) -> float:
    started = time.perf_counter()
    assert library.token_ids(session, start, start + 1000)[0] == start
    return time.perf_counter() - started


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 65), (65, 65)])
def test_a_range_outside_the_stream_is_refused(library, new_session, start, end):
    with pytest.raises(LibraryError, match="it has 64"):
        library.token_ids(new_session(), start, end)


@pytest.mark.parametrize("ids", [[1.5], [-1], [2**31], [[1]], ["a"]])
def test_invalid_token_ids_are_refused_and_nothing_is_appended(library, new_session, ids):
    session = new_session()
    with pytest.raises(LibraryError, match="token ids must"):
        library.append_parts(
            session, [PartDraft(kind="user", token_ids=[1]), PartDraft(kind="user", token_ids=np.array(ids))]
        )
    assert library.session(session).num_tokens == 64


def test_a_part_needs_a_stored_document_and_a_body_inside_its_tokens(library, new_session):
    session = new_session()
    for draft in (
        PartDraft(kind="document", token_ids=[1], document_id="missing"),
        PartDraft(kind="document", token_ids=[1], body_start=2),
    ):
        with pytest.raises(LibraryError):
            library.append_parts(session, [draft])


def test_messages_come_back_in_order_with_all_fields(library, new_session):
    session = new_session()
    question = MessageDraft(role="user", text="Who killed\0 him? 🙂")
    answer = MessageDraft(
        role="assistant",
        text="Nobody.",
        thinking="Hm.",
        status="stopped",
        evidence=(Evidence.from_json({"page": 3, "score": 0.5}),),
        stats=AnswerStats(tokens_generated=7),
    )
    library.commit_turn(session, [], [question], None, 0)
    library.commit_turn(session, [], [answer], None, 0)
    first, second = library.messages(session)
    assert (first.id, first.role, first.text, first.status) == (question.id, "user", question.text, "done")
    assert (second.thinking, second.status, second.evidence, second.stats) == (
        "Hm.",
        "stopped",
        (Evidence.from_json({"page": 3, "score": 0.5}),),
        AnswerStats(tokens_generated=7),
    )
    assert abs(second.created_at - time.time()) < 60
    assert library.session(session).num_messages == 2


def test_an_invalid_turn_is_not_committed_at_all(library, save, new_session):
    session = new_session()
    state = save()
    turn = [PartDraft(kind="user", token_ids=[1])], [MessageDraft(role="user", text="x")]
    for head, position in (("unknown", 4), (state, 3), (None, 4), (save(snapshot=False, salt=1), 4)):
        with pytest.raises(StateError):
            library.commit_turn(session, *turn, head, position)
    row = library.session(session)
    assert (row.head, row.num_tokens, row.num_messages) == (None, 64, 0)
    library.commit_turn(session, *turn, state, 4)
    row = library.session(session)
    assert (row.head, row.position, row.num_tokens, row.num_messages) == (state, 4, 65, 1)


def test_a_head_beyond_the_stream_or_of_another_model_is_refused(library, save, new_session):
    state = save(num_tokens=4)
    with pytest.raises(StateError, match="3 tokens"):
        library.set_head(new_session("short", num_tokens=3), state, 4)
    with pytest.raises(StateError, match="another model"):
        library.set_head(new_session("other", fingerprint="model-b"), state, 4)


def test_a_session_reset_to_another_model_keeps_its_messages_and_loses_its_state(library, save, new_session):
    session = new_session()
    library.commit_turn(session, [], [MessageDraft(role="user", text="x")], save(), 4)
    library.reset_session(session, model="B", fingerprint="model-b")
    row = library.session(session)
    assert (row.model, row.fingerprint, row.head, row.position, row.num_tokens) == (
        "B",
        "model-b",
        None,
        0,
        64,
    )
    library.reset_session(session, model="C", fingerprint="model-c", parts=[PartDraft(kind="system", token_ids=[3, 4])])
    assert library.token_ids(session, 0, 2).tolist() == [3, 4]
    assert library.session(session).num_tokens == 2
    assert len(library.messages(session)) == 1


def test_every_call_accepts_session_names_and_refuses_unknown_ones(library, new_session):
    new_session("book")
    library.append_parts("book", [PartDraft(kind="user", token_ids=[1])])
    assert len(library.parts("book")) == 2
    for call in (library.parts, library.messages, library.delete_session, library.session_state_bytes):
        with pytest.raises(SessionNotFoundError):
            call("unknown")
