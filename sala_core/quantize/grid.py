"""The integers a group of weights may become: scales and zero points, kept as the file stores them."""

from dataclasses import dataclass

import torch
from torch import Tensor

SHRINKS = tuple(1.08 - 0.02 * step for step in range(30))  # 1.08: nothing is clipped; 0.5: the largest is halved
_LEAST_SCALE = 2.0**-24  # the smallest float16
_LARGEST_SCALE = 65504.0


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How numbers become integers: 0 <= q < 2^bits.

    sym: the zero point is in the middle, otherwise each group has its own. least_zero: 1 where the file stores
    `zero - 1` (format v1): readers that add the 1 without a mask let a stored -1 spill into the next number.
    """

    bits: int
    sym: bool
    least_zero: int = 0

    @property
    def top(self) -> int:
        """The largest integer."""
        return int(2**self.bits - 1)

    def fit(self, group: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and zero point for each column of `group`.

        group: [n, out] fp32, the n inputs that share a scale. weight: [n] fp32, what an error in each input costs;
        if given, the scale is searched that costs least, else it spans the extremes. Returns scales [out] fp32, each
        a float16 number, and zeros [out] fp32, whole numbers.
        """
        low, high = group.amin(0).clamp(max=0), group.amax(0).clamp(min=0)
        if self.sym:
            high = torch.maximum(high, -low)
            low = -high
        best_scale, best_zero = self._spanning(low, high)
        if weight is None:
            return best_scale, best_zero
        least = torch.full_like(best_scale, torch.inf)
        for shrink in SHRINKS:
            scale, zero = self._spanning(low * shrink, high * shrink)
            error = (self.round(group, scale, zero).sub_(group).square_() * weight[:, None]).sum(0)
            better = error < least
            least = torch.where(better, error, least)
            best_scale = torch.where(better, scale, best_scale)
            best_zero = torch.where(better, zero, best_zero)
        return best_scale, best_zero

    def integers(self, numbers: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """The nearest integers of the grid, as floats. numbers: [..., out]; scale, zero: [out]."""
        return numbers.div(scale).round_().add_(zero).clamp_(0, self.top)

    def round(self, numbers: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """The nearest numbers of the grid. Shapes as in `integers`."""
        return self.integers(numbers, scale, zero).sub_(zero).mul_(scale)

    def _spanning(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        scale = ((high - low) / self.top).clamp(max=_LARGEST_SCALE).half().float()
        empty = scale == 0
        scale = torch.where(empty & (high > low), _LEAST_SCALE, torch.where(empty, 1.0, scale))
        if self.sym:
            return scale, torch.full_like(scale, (self.top + 1) // 2)
        return scale, (-low / scale).round_().clamp_(self.least_zero, self.top)
