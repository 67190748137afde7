"""Where a reading is cut into checkpoints, and which of them can be gone on from for good."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.evidence.places import DocumentSpan
from sala_core.model.fingerprint import CHUNK_TOKENS
from sala_core.session.stream import SEGMENT_TOKENS, SNAPSHOT_TOKENS, FileFinder, is_fixed, segment_ends
from sala_core.store import PartRow

LENGTHS = st.one_of(
    st.integers(1, 300),
    st.integers(1, 4 * SNAPSHOT_TOKENS),
    st.sampled_from([SEGMENT_TOKENS, SNAPSHOT_TOKENS, SNAPSHOT_TOKENS - 1, SNAPSHOT_TOKENS + 1]),
)


def stream_of(parts):
    """Rows of parts given as (kind, length)."""
    rows, at = [], 0
    for ordinal, (kind, length) in enumerate(parts):
        document = f"d{ordinal}" if kind == "document" else None
        rows.append(
            PartRow(
                ordinal=ordinal,
                kind=kind,
                start=at,
                end=at + length,
                document_id=document,
                body_start=0,
                message_id=None,
            )
        )
        at += length
    return rows


def test_segments_end_at_multiples_of_the_chunk():
    """Else a segment would cut a chunk in two and another split would give other bits."""
    assert SEGMENT_TOKENS % CHUNK_TOKENS == 0
    assert SNAPSHOT_TOKENS % SEGMENT_TOKENS == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["document", "user", "assistant"]), LENGTHS), max_size=6), st.data())
def test_checkpoints_cover_the_reading_and_end_at_the_right_tokens(parts, data):
    rows = stream_of(parts)
    total = rows[-1].end if rows else 0
    places = sorted({0, total, *(row.end for row in rows), *range(0, total, SEGMENT_TOKENS)})
    place = st.one_of(st.sampled_from(places), st.integers(0, total))
    start, end = sorted((data.draw(place), data.draw(place)))
    found = segment_ends(rows, start, end)
    ends = [at for at, _ in found]
    edges = [start, *ends]
    assert edges == sorted(set(edges))
    assert edges[-1] == end
    assert all(b - a <= SEGMENT_TOKENS for a, b in zip(edges, ends, strict=False))
    books = {row.end for row in rows if row.kind == "document" and row.end - row.start >= SNAPSHOT_TOKENS}
    grid = {at for at in range(0, end + 1, SEGMENT_TOKENS) if at > start}
    turns = {row.start for row in rows if row.kind == "user"} | {row.end for row in rows if row.kind == "assistant"}
    fixed = grid | {at for at in books | turns if start < at <= end}
    assert set(ends) - {end} == fixed - {end}
    assert all(is_fixed(rows, at) for at in fixed)
    assert is_fixed(rows, end) == (end % SEGMENT_TOKENS == 0 or end in books | turns)
    for at, kept in found:
        assert kept == (at in (end, max(fixed, default=end)) or at in books | turns or at % SNAPSHOT_TOKENS == 0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3 * SNAPSHOT_TOKENS), st.integers(1, 3 * SNAPSHOT_TOKENS), st.data())
def test_a_reading_stopped_at_a_checkpoint_continues_with_the_same_ones(start, length, data):
    rows = stream_of([("document", start + length)])
    whole = segment_ends(rows, start, start + length)
    at = data.draw(st.sampled_from([at for at, _ in whole]))
    assert segment_ends(rows, at, start + length) == [pair for pair in whole if pair[0] > at]


def test_a_stop_between_checkpoints_costs_at_most_one_more():
    rows = stream_of([("document", 3 * SEGMENT_TOKENS)])
    stopped = segment_ends(rows, 0, SEGMENT_TOKENS + 100)
    assert stopped == [(SEGMENT_TOKENS, True), (SEGMENT_TOKENS + 100, True)]
    assert segment_ends(rows, SEGMENT_TOKENS + 100, 3 * SEGMENT_TOKENS)[0] == (2 * SEGMENT_TOKENS, False)


def test_the_file_at_a_position_is_found():
    spans = [
        DocumentSpan(document_id="a", name="a.txt", start=10, end=20),
        DocumentSpan(document_id="b", name="b.txt", start=25, end=30),
    ]
    finder = FileFinder(spans)
    assert finder.count == 2
    assert [finder.at(position) for position in (10, 11, 19, 20, 26, 90)] == [
        (0, ""), (0, "a.txt"), (0, "a.txt"), (1, "a.txt"), (1, "b.txt"), (2, "b.txt"),
    ]  # fmt: skip
    assert FileFinder([]).at(5) == (0, "")
