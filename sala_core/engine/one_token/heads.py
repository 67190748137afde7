"""Norm, scale and rotary embedding of the heads of q and k of one token, in place and without allocation."""

import numpy as np
import torch
from torch import Tensor

from sala_core.engine.one_token.weights import LayerWeights


class Angles:
    """Cosines and sines of the rotary angles of one position, for heads of d numbers. Computed in float64."""

    def __init__(self, dim: int, theta: float) -> None:
        """dim: numbers of a head. theta: base of the rotary frequencies."""
        self._inverse = theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
        self.cos, self.sin = torch.empty(dim), torch.empty(dim // 2)
        self._cos, self._sin = self.cos.numpy(), self.sin.numpy()

    def set(self, position: int) -> None:
        """Compute `cos` [d], both halves alike, and `sin` [d / 2], in place."""
        angle = position * self._inverse
        half = len(angle)
        np.cos(angle, out=self._cos[:half], casting="same_kind")
        self._cos[half:] = self._cos[:half]
        np.sin(angle, out=self._sin, casting="same_kind")


class Heads:
    """q and k of one layer: rows [query heads + kv heads, d] -> normed, scaled and rotated rows."""

    def __init__(self, rows: Tensor, weights: LayerWeights, angles: Angles | None) -> None:
        """Prepare the computation.

        Args:
            rows: [R, d], where q and k are written before each step.
            weights: of the layer.
            angles: of the position, if the heads are rotated.
        """
        half = rows.shape[1] // 2
        self.rows, self._factors, self._angles = rows, weights.heads, angles
        self.out = torch.empty_like(rows)
        self._eps = None if weights.eps is None else torch.full((rows.shape[0], 1), weights.eps)
        self._norm = torch.empty(rows.shape[0], 1)
        self._share = 1 / rows.shape[1]
        self._halves = rows[:, :half], rows[:, half:]
        self._out_halves = self.out[:, :half], self.out[:, half:]

    def compute(self) -> Tensor:
        """Write the result to `out`, and return it. `rows` are changed."""
        if self._eps is not None:
            norm = torch.linalg.vector_norm(self.rows, dim=-1, keepdim=True, out=self._norm)
            torch.addcmul(self._eps, norm, norm, value=self._share, out=norm).rsqrt_()
            self.rows.mul_(norm)
        if self._angles is None:
            return torch.mul(self.rows, self._factors, out=self.out)
        self.rows.mul_(self._factors)
        torch.mul(self.rows, self._angles.cos, out=self.out)
        (a, b), (out_a, out_b), sin = self._halves, self._out_halves, self._angles.sin
        out_a.addcmul_(b, sin, value=-1)
        out_b.addcmul_(a, sin)
        return self.out
