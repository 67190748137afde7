"""Evidence: the places that the sparse layers attended to during a turn, as document, page and lines."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sala_kernels import BlockLayout

from sala_core.events import Evidence
from sala_core.evidence.citations import evidence
from sala_core.ingest import Place, SourceMap
from sala_core.model.forward import AttentionTrace

_MAX_PLACES = 8
_CANDIDATE_BLOCKS = 24
_MIN_SHARE = 0.02  # of the best block's attention
_MAX_TEXT_CHARS = 1200


@dataclass(frozen=True, kw_only=True)
class DocumentSpan:
    """Where a document's own text is in the token stream: tokens start ... end - 1."""

    document_id: str
    name: str
    start: int
    end: int


def find_evidence(
    trace: AttentionTrace,
    spans: Sequence[DocumentSpan],
    turn_start: int,
    layout: BlockLayout,
    source_map: Callable[[str], SourceMap | None],
) -> tuple[Evidence, ...]:
    """Rank places of the documents by the attention that they received during a turn.

    Adjacent blocks that received attention form one place, which is then cut to the lines that hold it.

    Args:
        trace: attention of the turn, and what `attend_to_question` added.
        spans: where the documents are in the stream. Only their tokens count.
        turn_start: position of the turn's first token.
        layout: the model's blocks. Initial and local blocks are discounted (`attention_by_token`).
        source_map: returns a document's map by its id, None where its text is lost.

    Returns at most 8 places, the most attended first.
    """
    attention = attention_by_token(trace, spans, turn_start, layout)
    total = float(attention.sum())
    if total <= 0:
        return ()
    places = []
    for start, end in _runs(best_blocks(attention, layout.block)):
        for span, a, b in inside_documents(spans, start * layout.block, end * layout.block):
            places.append((span, *_tighten(attention, a, b)))
    scored = [(float(attention[a:b].sum()) / total, span, a, b) for span, a, b in places]
    scored.sort(key=lambda item: -item[0])
    found = []
    for score, span, a, b in scored[:_MAX_PLACES]:
        if score > 0 and (lines := source_map(span.document_id)) is not None:
            found.append(_evidence(span, a, b, score, lines))
    return tuple(found)


def inside_documents(spans: Sequence[DocumentSpan], start: int, end: int) -> Iterator[tuple[DocumentSpan, int, int]]:
    """The parts of the range start ... end - 1 that lie in documents, as (document, first token, end)."""
    for span in spans:
        first, after = max(span.start, start), min(span.end, end)
        if first < after:
            yield span, first, after


def attention_by_token(
    trace: AttentionTrace, spans: Sequence[DocumentSpan], turn_start: int, layout: BlockLayout
) -> NDArray[np.float32]:
    """Squared attention that each document token received, [turn_start] float32; 0 for all other tokens.

    Squaring favors a word that receives much attention at one place over attention spread over many places. Initial
    blocks, which every query attends to, count as 0, and local blocks only by what exceeds the median local block,
    unless the documents lie entirely within these blocks.

    Args:
        trace: attention by layer and token.
        spans: where the documents are.
        turn_start: position of the turn's first token.
        layout: the model's blocks.
    """
    total = np.zeros(turn_start, dtype=np.float32)
    for received in trace.mass.values():
        total += received[:turn_start].to("cpu", torch.float32).numpy()
    inside = np.zeros(turn_start, dtype=bool)
    for span in spans:
        inside[span.start : span.end] = True
    total[~inside] = 0
    first, local = layout.init * layout.block, max(0, turn_start // layout.block - layout.local + 1) * layout.block
    if not total[first:local].any():
        return np.square(total)
    total[:first] = 0
    total[local:] = _above_median_block(total[local:], layout.block)
    return np.square(total)


def _above_median_block(attention: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Attention above that of the median block, per block: local blocks receive some from every query."""
    padded = np.pad(attention, (0, -len(attention) % block)).reshape(-1, block)
    sums = padded.sum(1, keepdims=True)
    median = np.median(sums[sums > 0]) if sums.any() else 0.0
    share = 1 - median / np.maximum(sums, max(median, np.finfo(np.float32).tiny))
    return (padded * share).reshape(-1)[: len(attention)].astype(np.float32)


def best_blocks(attention: NDArray[np.float32], block: int) -> list[int]:
    """The blocks with most attention, in text order. attention: [tokens] float32."""
    padded = np.pad(attention, (0, -len(attention) % block)).reshape(-1, block).sum(1)
    best = np.argsort(-padded, kind="stable")[:_CANDIDATE_BLOCKS]
    is_strong = padded[best] >= _MIN_SHARE * padded[best[0]]
    return sorted(int(b) for b in best[is_strong])


def _runs(blocks: list[int]) -> list[tuple[int, int]]:
    """Adjacent blocks as half-open ranges of at most two blocks, so that a place stays short."""
    runs: list[tuple[int, int]] = []
    for b in blocks:
        if runs and runs[-1][1] == b and b - runs[-1][0] < 2:
            runs[-1] = (runs[-1][0], b + 1)
        else:
            runs.append((b, b + 1))
    return runs


def _tighten(attention: NDArray[np.float32], start: int, end: int) -> tuple[int, int]:
    """Cut [start, end) to the tokens between 5% and 95% of its cumulative attention."""
    share = np.cumsum(attention[start:end], dtype=np.float64)
    if share[-1] <= 0:
        return start, end
    first = int(np.searchsorted(share, 0.05 * share[-1]))
    last = int(np.searchsorted(share, 0.95 * share[-1]))
    return start + first, start + min(last, end - start - 1) + 1


def _evidence(span: DocumentSpan, start: int, end: int, score: float, lines: SourceMap) -> Evidence:
    place = lines.place(start - span.start, end - 1 - span.start)
    return evidence(span, place, _place_text(lines, place), score)


def _place_text(lines: SourceMap, place: Place) -> str:
    """The whole lines of a place; only the place itself where its lines are very long, as in minified code."""
    text = lines.whole_lines(place)
    return text if len(text) <= _MAX_TEXT_CHARS else lines.text(place)[:_MAX_TEXT_CHARS]
