"""The attention map: cells add up to the whole attention, name their peak, and survive being stored."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sala_kernels import BlockLayout

from sala_core.attention_map import MAX_CELLS, AttentionMap
from sala_core.evidence.attention_cells import NUM_CELLS, attention_cells
from sala_core.evidence.places import DocumentSpan, attention_by_token
from sala_core.model.forward import AttentionTrace

LAYOUT = BlockLayout(stride=16, block=64, init=1, local=4, slots=16)


def spans_of(*sizes, gap=3):
    """Documents of these sizes, with other tokens before each."""
    found, at = [], 0
    for number, size in enumerate(sizes):
        at += gap
        found.append(DocumentSpan(document_id=f"d{number}", name=f"{number}.txt", start=at, end=at + size))
        at += size
    return found


def trace_of(values):
    trace = AttentionTrace()
    trace.buffer(0, len(values), torch.device("cpu")).copy_(torch.tensor(values))
    return trace


def test_the_peaks_are_the_most_attended_tokens():
    spans = spans_of(5000, 40, 9000)
    end = spans[-1].end
    values = np.full(end, 1e-4, np.float32)
    values[spans[0].start + 1234] = 0.5
    values[spans[2].start + 7000] = 0.9
    found = attention_cells(trace_of(values), spans, end, LAYOUT)
    shares, places = found.shares(), found.places()
    assert len(shares) == len(places) == NUM_CELLS
    assert places[int(shares.argmax())] == ("d2", 7000)
    assert places[int(np.argsort(shares)[-2])] == ("d0", 1234)
    assert found.cell_of("d2", 7000) == int(shares.argmax())
    assert found.cell_of("d0", 1234) == int(np.argsort(shares)[-2])
    assert found.num_tokens == 14_040
    assert found.cell_of("elsewhere", 0) is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=6), st.integers(0, 10**6))
def test_cells_add_up_to_the_attention_of_the_documents(sizes, seed):
    spans = spans_of(*sizes)
    end = spans[-1].end + 5
    trace = trace_of(np.random.default_rng(seed).random(end).astype(np.float32) ** 6)
    found = attention_cells(trace, spans, end, LAYOUT)
    attention = attention_by_token(trace, spans, end, LAYOUT)
    received = np.concatenate([attention[span.start : span.end] for span in spans])
    if found is None:
        assert not received.any()
        return
    num_cells = min(NUM_CELLS, len(received))
    assert len(found.shares()) == num_cells
    assert found.shares().sum() == pytest.approx(1, abs=0.03)
    by_id = {span.document_id: span for span in spans}
    for cell, (document, token) in enumerate(found.places()):
        assert 0 <= token < by_id[document].end - by_id[document].start
        assert found.cell_of(document, token) == cell


def test_nothing_attended_gives_no_map():
    spans = spans_of(100)
    assert attention_cells(trace_of(np.zeros(200, np.float32)), spans, 103, LAYOUT) is None
    assert attention_cells(trace_of(np.ones(200, np.float32)), [], 103, LAYOUT) is None


def test_a_stored_map_is_the_same_and_small():
    spans = spans_of(*[3000] * 400)
    values = np.random.default_rng(1).random(spans[-1].end).astype(np.float32)
    found = attention_cells(trace_of(values), spans, len(values), LAYOUT)
    stored = json.dumps(found.to_json())
    assert AttentionMap.from_json(json.loads(stored)) == found
    assert len(stored) < 6000


SOUND = {"num_tokens": 3, "documents": [["d", 0]], "max_share": 1.0, "levels": "/w==", "peaks": "AAAAAA=="}


@pytest.mark.parametrize(
    "change",
    [
        {"levels": "%"},
        {"levels": ""},
        {"peaks": "AAA="},
        {"documents": []},
        {"documents": [["d"]]},
        {"documents": 7},
        {"max_share": "x"},
        {"num_tokens": 0},
        {"levels": "A" * 4 * MAX_CELLS},
    ],
    ids=str,
)
def test_a_damaged_map_counts_as_none(change):
    assert AttentionMap.from_json(SOUND) is not None
    assert AttentionMap.from_json(SOUND | change) is None
    assert AttentionMap.from_json(None) is None
