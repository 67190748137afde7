"""Where in the documents the sparse layers attended during a turn, as a map of equal stretches."""

from collections.abc import Sequence

import numpy as np
from sala_kernels import BlockLayout

from sala_core.attention_map import AttentionMap
from sala_core.evidence.places import DocumentSpan, attention_by_token
from sala_core.model.forward import AttentionTrace

NUM_CELLS = 200


def attention_cells(
    trace: AttentionTrace, spans: Sequence[DocumentSpan], turn_start: int, layout: BlockLayout
) -> AttentionMap | None:
    """Add up the attention of a turn over equal stretches of the documents, which are taken one behind the other.

    Args:
        trace: attention of the turn.
        spans: where the documents are in the stream.
        turn_start: position of the turn's first token.
        layout: the model's blocks.

    Returns None where no document received any attention. The attention is squared, as for evidence.
    """
    attention = attention_by_token(trace, spans, turn_start, layout)
    in_order = sorted((span for span in spans if span.start < span.end <= turn_start), key=lambda span: span.start)
    if not in_order:
        return None
    received = np.concatenate([attention[span.start : span.end] for span in in_order]).astype(np.float64)
    total = float(received.sum())
    if total <= 0:
        return None
    num_cells = min(NUM_CELLS, len(received))
    starts = np.arange(num_cells, dtype=np.int64) * len(received) // num_cells
    ends = [*starts[1:].tolist(), len(received)]
    pairs = zip(starts.tolist(), ends, strict=True)
    peaks = np.array([start + int(received[start:end].argmax()) for start, end in pairs], np.int64)
    sizes = [span.end - span.start for span in in_order]
    firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()
    documents = [(span.document_id, int(first)) for span, first in zip(in_order, firsts, strict=True)]
    return AttentionMap.of(np.add.reduceat(received, starts) / total, peaks, documents, len(received))
