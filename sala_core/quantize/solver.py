"""GPTQ (arXiv:2210.17323): quantize a matrix column by column and let the later columns compensate each error."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sala_core.errors import QuantizeError
from sala_core.quantize.settings import QuantizeSettings
from sala_core.stopping import never

BLOCK_COLUMNS = 128
_MAX_DAMPING = 1.0


class QuantizeStopped(Exception):
    """The caller asked to stop. Not an error: the finished layers on disk stay valid."""


class Hessian:
    """The sum of x x^T over the inputs of a matrix, fp32 [in, in]: GPTQ's Hessian without its constant factor."""

    def __init__(self, num_in: int, device: torch.device) -> None:
        self.sum = torch.zeros(num_in, num_in, dtype=torch.float32, device=device)

    def add(self, x: Tensor) -> None:
        """Add inputs [..., in] of any float dtype."""
        rows = x.reshape(-1, x.shape[-1]).float()
        self.sum.addmm_(rows.T, rows)

    def cost(self, error: Tensor) -> float:
        """Return the squared norm of error @ x over all inputs. error: [out, in] fp32."""
        return float(((error @ self.sum) * error).sum(dtype=torch.float64))


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A quantized matrix before it is packed. weight: the dequantized matrix, as readers will compute it."""

    q: Tensor  # uint8 [out, in]
    scales: Tensor  # fp32 [groups, out], each representable in float16
    zeros: Tensor  # fp32 [groups, out], integers
    g_idx: Tensor  # int32 [in], the group of each input
    weight: Tensor  # fp32 [out, in]


def round_to_nearest(weight: Tensor, settings: QuantizeSettings) -> Solution:
    """Return the RTN baseline: each weight [out, in] rounded to the grid between its group's minimum and maximum."""
    grid, size = settings.grid, settings.group_length(weight.shape[1])
    rows = weight.float().T.contiguous()
    q = torch.empty_like(rows, dtype=torch.uint8)
    scales, zeros = [], []
    for start in range(0, rows.shape[0], size):
        group = rows[start : start + size]
        scale, zero = grid.fit(group)
        q[start : start + size] = grid.integers(group, scale, zero).to(torch.uint8)
        rows[start : start + size] = grid.round(group, scale, zero)
        scales.append(scale)
        zeros.append(zero)
    return Solution(
        q=q.T,
        scales=torch.stack(scales),
        zeros=torch.stack(zeros),
        g_idx=torch.arange(rows.shape[0], dtype=torch.int32, device=rows.device) // size,
        weight=rows.T,
    )


def solve(
    weight: Tensor, hessian: Hessian, settings: QuantizeSettings, should_stop: Callable[[], bool] = never
) -> tuple[Solution, float]:
    """Quantize one matrix by GPTQ; return the solution and the damping that was used.

    Matrices with the same input may be stacked along `out`: the rows are independent of each other. Raises
    QuantizeError if weights or inputs are not finite, QuantizeStopped.

    Args:
        weight: [out, in], any float dtype; left unchanged.
        hessian: of the inputs of the matrix.
        settings: grid, groups, column order and damping.
        should_stop: called before each block of columns.
    """
    if not bool(torch.isfinite(weight).all()) or not bool(torch.isfinite(hessian.sum).all()):
        raise QuantizeError("its weights or its inputs are not finite numbers; the model is damaged or overflows")
    num_in = weight.shape[1]
    order = _column_order(hessian, settings)
    inverse = torch.argsort(order)
    factor, damping = inverse_factor(hessian.sum, order, settings.damping)
    sweep = _Sweep(weight.float()[:, order].T.contiguous(), factor, settings, order)
    sweep.run(should_stop)
    g_idx = (torch.arange(num_in, device=weight.device) if settings.desc_act else order) // sweep.size
    solution = Solution(
        q=sweep.q[inverse].T,
        scales=sweep.scales,
        zeros=sweep.zeros,
        g_idx=g_idx[inverse].to(torch.int32),
        weight=sweep.rows[inverse].T,
    )
    return solution, damping


def _column_order(hessian: Hessian, settings: QuantizeSettings) -> Tensor:
    """The order in which columns are quantized: as stored, or by falling activity of their input. int64 [in]."""
    activity = hessian.sum.diagonal()
    if settings.act_order or settings.desc_act:
        return torch.argsort(activity, descending=True, stable=True)
    return torch.arange(activity.shape[0], device=activity.device)


def inverse_factor(hessian: Tensor, order: Tensor, damping: float) -> tuple[Tensor, float]:
    """Return the upper triangular R with R^T R = (H + damping * mean(diag H) I)^-1, fp32, and the damping used.

    hessian: [n, n] fp32, left unchanged. order: int64 [n], the order of H's rows and columns in R.
    The inverse of H is never formed: if H, reversed in both directions, is L L^T, then R is the inverse of L,
    reversed in both directions. If H is not positive definite in float32, the damping is multiplied by 10 until it
    is. Raises QuantizeError if a damping of 1 is not enough.
    """
    backwards = order.flip(0)
    reverse = hessian[backwards][:, backwards]
    mean = reverse.diagonal().mean()
    if not float(mean):
        reverse, mean = torch.eye(hessian.shape[0], device=hessian.device), mean + 1
    while damping <= _MAX_DAMPING:
        reverse.diagonal().add_(damping * mean)
        lower, failed = torch.linalg.cholesky_ex(reverse)
        if not int(failed):
            del reverse
            eye = torch.eye(lower.shape[0], device=lower.device)
            return torch.linalg.solve_triangular(lower, eye, upper=False).flip(0, 1), damping
        reverse.diagonal().sub_(damping * mean)
        damping *= 10
    raise QuantizeError("its inputs cannot be factored even with strong damping; use other or more calibration text")


class _Sweep:
    """One pass over the columns in a given order. All tensors are transposed, so that a column is a contiguous row."""

    def __init__(self, rows: Tensor, factor: Tensor, settings: QuantizeSettings, order: Tensor) -> None:
        """Prepare the pass.

        Args:
            rows: [in, out] fp32, the columns in the order of the pass; overwritten with the dequantized result.
            factor: [in, in] fp32, from `inverse_factor`.
            settings: grid, groups and scale search.
            order: int64 [in], where each column of the pass stands in the matrix.
        """
        num_in, num_out = rows.shape
        self.rows, self.factor, self.order = rows, factor, order
        self.grid, self.search = settings.grid, settings.scale_search
        self.size = settings.group_length(num_in)
        self.static_groups = settings.act_order and not settings.desc_act
        self.q = torch.empty(num_in, num_out, dtype=torch.uint8, device=rows.device)
        self.scales = rows.new_empty(-(-num_in // self.size), num_out)
        self.zeros = torch.empty_like(self.scales)
        # [in]: output error per squared error of a column, if the later columns compensate it
        self.costs = factor.diagonal().square().reciprocal()

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Quantize all columns. Raises QuantizeStopped."""
        num_in = self.rows.shape[0]
        if self.static_groups:
            self._fit_static_groups()
        block = _block_columns(self.size, num_in)
        for start in range(0, num_in, block):
            if should_stop():
                raise QuantizeStopped
            stop = min(start + block, num_in)
            errors = self._block(start, stop)
            if stop < num_in:
                self.rows[stop:].addmm_(self.factor[start:stop, stop:].T, errors, alpha=-1)

    def _block(self, start: int, stop: int) -> Tensor:
        """Quantize the columns start ... stop - 1; return their scaled errors, [stop - start, out]."""
        rows, factor = self.rows, self.factor
        errors = rows.new_empty(stop - start, rows.shape[1])
        for column in range(start, stop):
            group = int(self._group_of[column]) if self.static_groups else column // self.size
            if not self.static_groups and column % self.size == 0:
                self._fit(group, slice(column, column + self.size))
            scale, zero = self.scales[group], self.zeros[group]
            q = self.grid.integers(rows[column], scale, zero)
            self.q[column] = q.to(torch.uint8)
            dequantized = q.sub_(zero).mul_(scale)
            error = (rows[column] - dequantized).div_(factor[column, column])
            rows[column + 1 : stop].addr_(factor[column, column + 1 : stop], error, alpha=-1)
            rows[column] = dequantized
            errors[column - start] = error
        return errors

    def _fit(self, group: int, columns: slice | Tensor) -> None:
        """Choose scale and zero point of one group from its columns as they are at this point of the pass."""
        cost = self.costs[columns] if self.search else None
        self.scales[group], self.zeros[group] = self.grid.fit(self.rows[columns], cost)

    def _fit_static_groups(self) -> None:
        """Fit every group before the pass, from the original weights: its columns are far apart in the order."""
        group_of = self.order // self.size
        self._group_of = group_of.tolist()
        for group in range(self.scales.shape[0]):
            self._fit(group, torch.nonzero(group_of == group).flatten())


def _block_columns(size: int, num_in: int) -> int:
    """Columns of a block. A group lies within one block or begins with one, so its scale sees every earlier update."""
    if size >= num_in or size % BLOCK_COLUMNS == 0:
        return BLOCK_COLUMNS
    return size * max(1, BLOCK_COLUMNS // size)
