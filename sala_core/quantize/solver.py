"""GPTQ (arXiv:2210.17323): round a matrix column by column, each error passed on to the columns still to come."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sala_core.errors import QuantizeError
from sala_core.quantize.settings import QuantizeSettings

BLOCK_COLUMNS = 128
_MAX_DAMPING = 1.0


class QuantizeStopped(Exception):
    """The caller asked to stop. No error: what is on disk stays good."""


def never() -> bool:
    """A `should_stop` that lets everything run."""
    return False


class Hessian:
    """The sum of x x^T over the inputs of a matrix, fp32 [in, in]: what an error in the matrix costs."""

    def __init__(self, num_in: int, device: torch.device) -> None:
        self.sum = torch.zeros(num_in, num_in, dtype=torch.float32, device=device)

    def add(self, x: Tensor) -> None:
        """Add inputs [..., in] of any float dtype."""
        rows = x.reshape(-1, x.shape[-1]).float()
        self.sum.addmm_(rows.T, rows)

    def cost(self, error: Tensor) -> float:
        """The squared norm of error @ x over all inputs seen. error: [out, in] fp32."""
        return float(((error @ self.sum) * error).sum(dtype=torch.float64))


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A quantized matrix before it is packed. `weight` is what readers will get, fp32 [out, in]."""

    q: Tensor  # uint8 [out, in]
    scales: Tensor  # fp32 [groups, out], each a float16 number
    zeros: Tensor  # fp32 [groups, out], whole numbers
    g_idx: Tensor  # int32 [in]
    weight: Tensor


def round_to_nearest(weight: Tensor, settings: QuantizeSettings, *, search: bool = False) -> Solution:
    """The same grid without GPTQ: every number to its nearest. weight: [out, in]. search: choose scales by error."""
    grid, size = settings.grid, settings.group_length(weight.shape[1])
    rows = weight.float().T.contiguous()
    q = torch.empty_like(rows, dtype=torch.uint8)
    scales, zeros = [], []
    even = torch.ones(size, device=rows.device) if search else None
    for start in range(0, rows.shape[0], size):
        group = rows[start : start + size]
        scale, zero = grid.fit(group, even)
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
    """Quantize weight [out, in] for the inputs that `hessian` has seen; returns the solution and the damping used.

    Matrices with the same inputs may be stacked along `out`: rows do not influence each other. Raises QuantizeError
    if weights or inputs are not finite, Stopped.
    """
    if not bool(torch.isfinite(weight).all()) or not bool(torch.isfinite(hessian.sum).all()):
        raise QuantizeError("its weights or its inputs are not finite numbers; the model is damaged or overflows")
    num_in = weight.shape[1]
    order = _order(hessian, settings)
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


def _order(hessian: Hessian, settings: QuantizeSettings) -> Tensor:
    """The columns as they are taken: as they lie, or the most active first. int64 [in]."""
    active = hessian.sum.diagonal()
    if settings.act_order or settings.desc_act:
        return torch.argsort(active, descending=True, stable=True)
    return torch.arange(active.shape[0], device=active.device)


def inverse_factor(hessian: Tensor, order: Tensor, damping: float) -> tuple[Tensor, float]:
    """The upper R with R^T R = (H + damping * mean(diag H) I)^-1, fp32, and the damping that sufficed.

    hessian: [n, n] fp32, left as it is; order: int64 [n], the rows and columns of H as R has them.
    Reversed in both directions, H = L L^T gives R as the reversed inverse of L: the inverse of H is never formed.
    Where H is not positive definite in float32, the damping is raised tenfold. Raises QuantizeError at last.
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
    """One pass over the columns in the order given. Everything is transposed: a column is a contiguous row here."""

    def __init__(self, rows: Tensor, factor: Tensor, settings: QuantizeSettings, order: Tensor) -> None:
        """rows: [in, out] fp32 in the order of the pass, overwritten with what it becomes; factor: [in, in]."""
        num_in, num_out = rows.shape
        self.rows, self.factor, self.order = rows, factor, order
        self.grid, self.search = settings.grid, settings.scale_search
        self.size = settings.group_length(num_in)
        self.groups_fixed = settings.act_order and not settings.desc_act
        self.q = torch.empty(num_in, num_out, dtype=torch.uint8, device=rows.device)
        self.scales = rows.new_empty(-(-num_in // self.size), num_out)
        self.zeros = torch.empty_like(self.scales)
        self.costs = factor.diagonal().square().reciprocal()  # of an error in each column, those before it settled

    def run(self, should_stop: Callable[[], bool]) -> None:
        num_in = self.rows.shape[0]
        if self.groups_fixed:
            self._fit_groups_as_they_lie()
        block = _block_columns(self.size, num_in)
        for start in range(0, num_in, block):
            if should_stop():
                raise QuantizeStopped
            stop = min(start + block, num_in)
            errors = self._block(start, stop)
            if stop < num_in:
                self.rows[stop:].addmm_(self.factor[start:stop, stop:].T, errors, alpha=-1)

    def _block(self, start: int, stop: int) -> Tensor:
        """Quantize the columns start ... stop - 1; returns their scaled errors, [stop - start, out]."""
        rows, factor = self.rows, self.factor
        errors = rows.new_empty(stop - start, rows.shape[1])
        for column in range(start, stop):
            group = int(self._group_of[column]) if self.groups_fixed else column // self.size
            if not self.groups_fixed and column % self.size == 0:
                self._fit(group, slice(column, column + self.size))
            scale, zero = self.scales[group], self.zeros[group]
            q = self.grid.integers(rows[column], scale, zero)
            self.q[column] = q.to(torch.uint8)
            becomes = q.sub_(zero).mul_(scale)
            error = (rows[column] - becomes).div_(factor[column, column])
            rows[column + 1 : stop].addr_(factor[column, column + 1 : stop], error, alpha=-1)
            rows[column] = becomes
            errors[column - start] = error
        return errors

    def _fit(self, group: int, columns: slice | Tensor) -> None:
        cost = self.costs[columns] if self.search else None
        self.scales[group], self.zeros[group] = self.grid.fit(self.rows[columns], cost)

    def _fit_groups_as_they_lie(self) -> None:
        """Scales from the matrix as it was: the columns of a group are met far apart."""
        of_column = self.order // self.size
        self._group_of = of_column.tolist()
        for group in range(self.scales.shape[0]):
            self._fit(group, torch.nonzero(of_column == group).flatten())


def _block_columns(size: int, num_in: int) -> int:
    """Columns of a block, so that a group lies within one or begins with one: its scale then sees every update."""
    if size >= num_in or size % BLOCK_COLUMNS == 0:
        return BLOCK_COLUMNS
    return size * max(1, BLOCK_COLUMNS // size)
