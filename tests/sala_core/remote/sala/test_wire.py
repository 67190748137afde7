"""Every event comes back from the wire as the record that was sent; what is no event is refused."""

import base64
import json
import string
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sala_core.attention_map import AttentionMap
from sala_core.events import Answer, Evidence, PromptProgress, Quotation, ReadPlan, ReadProgress, ReadReceipt
from sala_core.ingest import SkippedFile
from sala_core.remote.sala.wire import Alive, End, WireToken, event_from_json, event_to_json, from_line, to_line
from sala_core.written_by import WrittenBy

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COUNT = st.integers(0, 1 << 40)
REAL = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)


def optional(strategy):
    return st.none() | strategy


def records(record, /, **fields):
    return st.builds(record, **fields)


PLACES = {"document": TEXT, "document_id": TEXT, "page": optional(COUNT), "line_start": COUNT, "line_end": COUNT}
QUOTATIONS = st.lists(records(Quotation, text=TEXT, **PLACES), max_size=2).map(tuple)
EVIDENCE = st.lists(
    records(Evidence, text=TEXT, score=REAL, rows=optional(st.tuples(COUNT, COUNT)), header=TEXT, **PLACES), max_size=2
).map(tuple)
SKIPPED = records(SkippedFile, name=TEXT, path=TEXT, reason=TEXT, is_failed=st.booleans(), is_locked=st.booleans())
PLANS = records(
    ReadPlan,
    **{name: COUNT for name in ("unchanged", "tokens", "tokens_read", "tokens_new")},
    **{name: TEXTS for name in ("new", "changed", "moved", "gone", "removed")},
)


@st.composite
def attention_maps(draw):
    cells = draw(st.integers(1, 5))
    return AttentionMap(
        num_tokens=draw(st.integers(1, 1 << 30)),
        documents=draw(st.lists(st.tuples(TEXT, COUNT), min_size=1, max_size=3).map(tuple)),
        max_share=draw(st.floats(0, 1)),
        levels=base64.b64encode(draw(st.binary(min_size=cells, max_size=cells))).decode(),
        peaks=base64.b64encode(np.arange(cells, dtype="<i4").tobytes()).decode(),
    )


WRITTEN_BY = records(
    WrittenBy,
    engine=TEXT,
    address=TEXT,
    basis=st.sampled_from(["passages", "text", "state"]),
    passages=COUNT,
    tokens_again=optional(COUNT),
    tokens_reused=optional(COUNT),
    turns_left_out=COUNT,
    quotations_checked=COUNT,
    quotations_found=COUNT,
)
ANSWERS = records(
    Answer,
    **{name: TEXT for name in ("text", "thinking", "finish_reason", "model", "thinking_end")},
    **{name: COUNT for name in ("tokens_reused", "tokens_read", "tokens_generated", "tokens_thinking")},
    **{name: REAL for name in ("seconds_load", "seconds_prefill", "seconds_decode")},
    evidence=EVIDENCE,
    quotations=QUOTATIONS,
    warnings=TEXTS,
    think=optional(st.booleans()),
    thinking_budget=optional(COUNT),
    seconds_thinking=optional(REAL),
    attention_map=optional(attention_maps()),
    document_tokens_read=optional(COUNT),
    read_so_far=optional(st.tuples(COUNT, COUNT)),
    confidence=optional(st.floats(0, 1)),
    written_by=optional(WRITTEN_BY),
)
EVENTS = {
    ReadProgress: records(
        ReadProgress,
        phase=st.sampled_from(["preparing", "restoring", "reading"]),
        file=TEXT,
        files_done=COUNT,
        files_total=COUNT,
        tokens_done=COUNT,
        tokens_total=COUNT,
        tokens_per_s=REAL,
        seconds_left=optional(REAL),
    ),
    PromptProgress: records(PromptProgress, tokens_done=COUNT, tokens_total=COUNT, reader=TEXT, note=TEXT),
    WireToken: records(WireToken, id=optional(COUNT), text=TEXT, thinking=st.booleans()),
    ReadReceipt: records(
        ReadReceipt,
        **{name: COUNT for name in ("files", "pages", "tokens", "tokens_read", "tokens_reused", "tokens_shared")},
        seconds=REAL,
        skipped=st.lists(SKIPPED, max_size=2).map(tuple),
        warnings=TEXTS,
        stopped=st.booleans(),
        shared_with=TEXT,
        plan=PLANS,
        is_declined=st.booleans(),
    ),
    Answer: ANSWERS,
}


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_event_comes_back_as_it_was_sent_in_both_directions(kind):
    @settings(max_examples=25, deadline=None)
    @given(EVENTS[kind])
    def check(event):
        line = to_line(event)
        assert line.count(b"\n") == 1
        assert line.isascii()
        assert from_line(line) == event
        raw = json.dumps(event_to_json(event))
        assert json.dumps(event_to_json(event_from_json(json.loads(raw)))) == raw

    check()


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_field_of_an_event_is_sent_and_tested(kind):
    """A field that is added to a record and forgotten in its JSON, or here, is lost on the way."""
    seen: set[str] = set()

    @settings(max_examples=25, deadline=None, database=None, phases=[Phase.generate])
    @given(EVENTS[kind])
    def look(event):
        changed.update(each.name for each in fields(kind) if getattr(event, each.name) != each.default)
        seen.update(event_to_json(event)["event"])

    changed: set[str] = set()
    look()
    names = {each.name for each in fields(kind)}
    assert names <= seen, "never sent"
    assert names <= changed, "never anything but its default in these tests"


@given(records(End, status=TEXT, error=TEXT, kind=TEXT) | records(Alive, waiting=TEXT))
def test_what_is_told_beside_events_comes_back_too(line):
    assert from_line(to_line(line)) == line


@given(st.binary(max_size=60) | st.text(string.printable, max_size=60).map(str.encode))
def test_what_is_no_line_is_refused(data):
    with pytest.raises(ValueError, match=r".+"):
        from_line(data)


@pytest.mark.parametrize(
    "raw",
    [{"type": "answer"}, {"type": "answer", "event": 3}, {"type": "token", "event": {"id": []}}, {"type": "x"}, []],
)
def test_a_broken_event_is_refused(raw):
    with pytest.raises(ValueError, match=r"no event|broken|no JSON object"):
        from_line(json.dumps(raw).encode())


def test_a_number_that_json_does_not_have_is_not_sent():
    progress = ReadProgress(
        phase="reading",
        file="",
        files_done=0,
        files_total=0,
        tokens_done=0,
        tokens_total=0,
        tokens_per_s=float("nan"),
        seconds_left=None,
    )
    with pytest.raises(ValueError, match="JSON"):
        to_line(progress)
