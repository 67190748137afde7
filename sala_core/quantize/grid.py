"""The integer grid that a group of weights is rounded to: scale and zero point, at the precision of the file."""

from dataclasses import dataclass

import torch
from torch import Tensor

RANGE_FACTORS = tuple(1.08 - 0.02 * step for step in range(30))
"""Candidates of the scale search, as factors on a group's range: 1.08 clips nothing, 0.5 halves the range."""

_SMALLEST_SCALE = 2.0**-24  # smallest positive float16
_LARGEST_SCALE = 65504.0  # largest float16


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid of integers 0 <= q < 2^bits, where `weight = scale * (q - zero)`.

    sym: the zero point is the middle of the grid; if False, every group has its own zero point.
    min_zero: smallest zero point allowed. Format v1 stores `zero - 1`, so it needs 1: some readers add the 1 without a
    mask, and a stored -1 would carry into the next packed integer.
    """

    bits: int
    sym: bool
    min_zero: int = 0

    @property
    def max_q(self) -> int:
        """The largest integer of the grid."""
        return int(2**self.bits - 1)

    def fit(self, group: Tensor, cost: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return scale and zero point for each column of `group`.

        group: [n, out] fp32, the n inputs that share a scale. cost: [n] fp32, what a squared error in each input
        costs; if given, the scale with the least total cost is searched, otherwise the grid spans minimum to maximum.
        Returns scales [out] fp32, each representable in float16, and zeros [out] fp32, integers.
        """
        low, high = group.amin(0).clamp(max=0), group.amax(0).clamp(min=0)
        if self.sym:
            high = torch.maximum(high, -low)
            low = -high
        best_scale, best_zero = self._spanning(low, high)
        if cost is None:
            return best_scale, best_zero
        least = torch.full_like(best_scale, torch.inf)
        for factor in RANGE_FACTORS:
            scale, zero = self._spanning(low * factor, high * factor)
            error = (self.round(group, scale, zero).sub_(group).square_() * cost[:, None]).sum(0)
            better = error < least
            least = torch.where(better, error, least)
            best_scale = torch.where(better, scale, best_scale)
            best_zero = torch.where(better, zero, best_zero)
        return best_scale, best_zero

    def integers(self, values: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """Return the nearest integers of the grid, as floats. values: [..., out]; scale, zero: [out]."""
        return values.div(scale).round_().add_(zero).clamp_(0, self.max_q)

    def round(self, values: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """Return the nearest dequantized values. Shapes as in `integers`."""
        return self.integers(values, scale, zero).sub_(zero).mul_(scale)

    def _spanning(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point of the grid from `low` to `high`, both [out]."""
        scale = ((high - low) / self.max_q).clamp(max=_LARGEST_SCALE).half().float()
        is_zero = scale == 0
        scale = torch.where(is_zero & (high > low), _SMALLEST_SCALE, torch.where(is_zero, 1.0, scale))
        if self.sym:
            return scale, torch.full_like(scale, (self.max_q + 1) // 2)
        return scale, (-low / scale).round_().clamp_(self.min_zero, self.max_q)
