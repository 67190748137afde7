"""The places an answer rests on: where the sparse layers looked while it was written, as document, page and lines."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sala_kernels import BlockLayout

from sala_core.events import Evidence
from sala_core.ingest import Place, SourceMap
from sala_core.model.forward import AttentionTrace

_MAX_PLACES = 8
_CANDIDATE_BLOCKS = 24
_MIN_SHARE = 0.02
_MAX_TEXT_CHARS = 1200


@dataclass(frozen=True, kw_only=True)
class DocumentSpan:
    """Where a document's own text stands in the token stream: tokens start ... end - 1."""

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
    """Rank places by the attention they drew during a turn that began at token `turn_start`.

    trace: attention probability of every key, summed over the turn's queries, heads and layers, and what a question
    that looked for itself added (`attend_to_question`). Only tokens of the documents count. First blocks, which every query
    keeps without choosing, are left out, and of the local ones what the median of them drew, unless the documents lie
    wholly within them. Attention is squared, key by key, and summed over blocks; neighbouring blocks that drew it are
    one place, cut to the lines that hold it. source_map: gives a document's map by its id, None where its text is lost.
    """
    mass = attention_by_token(trace, spans, turn_start, layout)
    total = float(mass.sum())
    if total <= 0:
        return ()
    places = []
    for start, end in _runs(best_blocks(mass, layout.block)):
        for span, a, b in inside_documents(spans, start * layout.block, end * layout.block):
            places.append((span, *_tighten(mass, a, b)))
    scored = [(float(mass[a:b].sum()) / total, span, a, b) for span, a, b in places]
    scored.sort(key=lambda item: -item[0])
    found = []
    for score, span, a, b in scored[:_MAX_PLACES]:
        if score > 0 and (lines := source_map(span.document_id)) is not None:
            found.append(_evidence(span, a, b, score, lines))
    return tuple(found)


def inside_documents(spans: Sequence[DocumentSpan], start: int, end: int) -> Iterator[tuple[DocumentSpan, int, int]]:
    """Of the tokens start ... end - 1 those of documents: each document with its first, and the one after its last."""
    for span in spans:
        first, after = max(span.start, start), min(span.end, end)
        if first < after:
            yield span, first, after


def attention_by_token(
    trace: AttentionTrace, spans: Sequence[DocumentSpan], turn_start: int, layout: BlockLayout
) -> NDArray[np.float32]:
    """What each token drew, [turn_start] float32: attention squared, of documents alone.

    A word that is meant draws much at one place; what any text of the kind draws is spread over many.
    """
    total = np.zeros(turn_start, dtype=np.float32)
    for held in trace.mass.values():
        total += held[:turn_start].to("cpu", torch.float32).numpy()
    inside = np.zeros(turn_start, dtype=bool)
    for span in spans:
        inside[span.start : span.end] = True
    total[~inside] = 0
    first, local = layout.init * layout.block, max(0, turn_start // layout.block - layout.local + 1) * layout.block
    if not total[first:local].any():
        return np.square(total)
    total[:first] = 0
    total[local:] = _beyond_the_usual(total[local:], layout.block)
    return np.square(total)


def _beyond_the_usual(mass: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """What each block drew beyond the median block: the local ones draw some from every query, whatever it asks."""
    padded = np.pad(mass, (0, -len(mass) % block)).reshape(-1, block)
    sums = padded.sum(1, keepdims=True)
    usual = np.median(sums[sums > 0]) if sums.any() else 0.0
    share = 1 - usual / np.maximum(sums, max(usual, np.finfo(np.float32).tiny))
    return (padded * share).reshape(-1)[: len(mass)].astype(np.float32)


def best_blocks(mass: NDArray[np.float32], block: int) -> list[int]:
    """Blocks that drew most, in the order of the text. mass: [tokens] float32, of every token."""
    padded = np.pad(mass, (0, -len(mass) % block)).reshape(-1, block).sum(1)
    best = np.argsort(-padded, kind="stable")[:_CANDIDATE_BLOCKS]
    enough = padded[best] >= _MIN_SHARE * padded[best[0]]
    return sorted(int(b) for b in best[enough])


def _runs(blocks: list[int]) -> list[tuple[int, int]]:
    """Neighbouring blocks as half-open ranges, at most two blocks each, so that a place stays readable."""
    runs: list[tuple[int, int]] = []
    for b in blocks:
        if runs and runs[-1][1] == b and b - runs[-1][0] < 2:
            runs[-1] = (runs[-1][0], b + 1)
        else:
            runs.append((b, b + 1))
    return runs


def _tighten(mass: NDArray[np.float32], start: int, end: int) -> tuple[int, int]:
    """The part of [start, end) between the tokens at 5% and 95% of its attention."""
    share = np.cumsum(mass[start:end], dtype=np.float64)
    if share[-1] <= 0:
        return start, end
    first = int(np.searchsorted(share, 0.05 * share[-1]))
    last = int(np.searchsorted(share, 0.95 * share[-1]))
    return start + first, start + min(last, end - start - 1) + 1


def _evidence(span: DocumentSpan, start: int, end: int, score: float, lines: SourceMap) -> Evidence:
    place = lines.place(start - span.start, end - 1 - span.start)
    return Evidence(
        document=span.name,
        document_id=span.document_id,
        page=place.page,
        line_start=place.line_start,
        line_end=place.line_end,
        text=_shown(lines, place),
        score=round(score, 4),
    )


def _shown(lines: SourceMap, place: Place) -> str:
    """The whole lines of a place; only the place itself where its lines are endless, as in minified code."""
    text = lines.whole_lines(place)
    return text if len(text) <= _MAX_TEXT_CHARS else lines.text(place)[:_MAX_TEXT_CHARS]
