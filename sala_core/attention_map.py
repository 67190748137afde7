"""The attention map of an answer: how much of its attention each stretch of the documents received."""

import base64
import binascii
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MAX_CELLS = 256
_MAX_LEVEL = 255


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """Equal stretches ("cells") of all document tokens of a session, one behind the other, and their attention.

    Positions count document tokens only, from 0. documents: (id, position of its first token) of the documents that
    hold a peak, in order; a document that begins before another one ends before it. levels: base64 of uint8 [cells],
    the square root of a cell's share of the attention relative to the greatest share, times 255. peaks: base64 of
    little-endian int32 [cells], the position of the most attended token in each cell.
    """

    num_tokens: int
    documents: tuple[tuple[str, int], ...]
    max_share: float
    levels: str
    peaks: str

    @classmethod
    def of(
        cls,
        shares: NDArray[np.float64],
        peaks: NDArray[np.int64],
        documents: Sequence[tuple[str, int]],
        num_tokens: int,
    ) -> Self:
        """Pack a map.

        Args:
            shares: float64 [cells], each 0 to 1.
            peaks: int64 [cells], ascending.
            documents: (id, first position) of every document, in order.
            num_tokens: of all documents.

        Raises ValueError for no cell, more than 256, or arrays of different lengths.
        """
        if not 0 < len(shares) <= MAX_CELLS or len(shares) != len(peaks):
            raise ValueError(f"{len(shares)} shares and {len(peaks)} peaks; a map has 1 to {MAX_CELLS} of each")
        greatest = float(shares.max())
        levels = np.round(np.sqrt(shares / greatest) * _MAX_LEVEL) if greatest > 0 else np.zeros(len(shares))
        starts = [start for _, start in documents]
        used = sorted({bisect_right(starts, peak) - 1 for peak in peaks.tolist()})
        return cls(
            num_tokens=num_tokens,
            documents=tuple(documents[index] for index in used),
            max_share=round(greatest, 6),
            levels=base64.b64encode(levels.astype(np.uint8).tobytes()).decode(),
            peaks=base64.b64encode(peaks.astype("<i4").tobytes()).decode(),
        )

    def cell_of(self, document_id: str, token: int) -> int | None:
        """The cell with a token of a document; None for a document that holds no peak."""
        start = dict(self.documents).get(document_id)
        if start is None or not self.num_tokens:
            return None
        num_cells = len(self.shares())  # cell i begins at i * num_tokens // num_cells
        return min(((start + token + 1) * num_cells - 1) // self.num_tokens, num_cells - 1)

    def shares(self) -> NDArray[np.float64]:
        """Share of the attention that each cell received, float64 [cells], to within a 255th of the root."""
        levels = np.frombuffer(base64.b64decode(self.levels), np.uint8)
        return np.square(levels / _MAX_LEVEL) * self.max_share

    def places(self) -> list[tuple[str, int]]:
        """(document id, token of that document) of the peak of each cell."""
        starts = [start for _, start in self.documents]
        found = []
        for peak in np.frombuffer(base64.b64decode(self.peaks), "<i4").tolist():
            document_id, start = self.documents[max(0, bisect_right(starts, peak) - 1)]
            found.append((document_id, peak - start))
        return found

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: object) -> Self | None:
        """The record that `to_json` wrote; None for anything else, such as the map of a damaged message."""
        if not isinstance(raw, Mapping):
            return None
        try:
            found = cls(
                num_tokens=int(raw["num_tokens"]),
                documents=tuple((str(name), int(start)) for name, start in raw["documents"]),
                max_share=min(1.0, max(0.0, float(raw["max_share"]))),
                levels=str(raw["levels"]),
                peaks=str(raw["peaks"]),
            )
            num_cells = len(base64.b64decode(found.levels, validate=True))
            num_peak_bytes = len(base64.b64decode(found.peaks, validate=True))
        except (KeyError, TypeError, ValueError, binascii.Error):
            return None
        is_whole = 0 < num_cells <= MAX_CELLS and num_peak_bytes == 4 * num_cells and found.documents
        return found if is_whole and found.num_tokens > 0 else None
