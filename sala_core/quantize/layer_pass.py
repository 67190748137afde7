"""Quantizes the matrices of one layer, in the order in which they are used, each with inputs that those before made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sala_core.errors import QuantizeError
from sala_core.model.config import SalaConfig
from sala_core.model.gptq import GPTQConfig, pack
from sala_core.quantize.layer import STEPS, Layer
from sala_core.quantize.report import MatrixReport
from sala_core.quantize.settings import QuantizeSettings
from sala_core.quantize.solver import Hessian, Solution, never, round_to_nearest, solve
from sala_core.quantize.texts import Batches

CALIBRATION = "calibration"
STREAMS = ("before", "after", "rtn")
"""The held-out text with the weights as they were, as written, and rounded to nearest."""


@dataclass(kw_only=True)
class MatrixSolver:
    """Solves matrices of one model and keeps what came out: packed tensors, and a report a matrix."""

    settings: QuantizeSettings
    should_stop: Callable[[], bool] = never
    packed: dict[str, Tensor] = field(default_factory=dict)
    reports: list[MatrixReport] = field(default_factory=list)

    def solve(self, weights: dict[str, Tensor], hessian: Hessian) -> dict[str, tuple[Tensor, Tensor]]:
        """weights: name -> [out, in], matrices with the same inputs, solved together.

        Returns name -> what readers will get, and what rounding to nearest would give, both fp32. Raises QuantizeError.
        """
        stacked = torch.cat([weight.float() for weight in weights.values()])
        try:
            solution, damping = solve(stacked, hessian, self.settings, self.should_stop)
        except QuantizeError as error:
            raise QuantizeError(f"{', '.join(weights)}: {error}") from error
        nearest = round_to_nearest(stacked, self.settings).weight
        made, start = {}, 0
        for name, weight in weights.items():
            part = slice(start, start + weight.shape[0])
            start = part.stop
            made[name] = (solution.weight[part], nearest[part])
            self._keep(name, stacked[part], solution, part, nearest[part], hessian, damping)
        return made

    def _keep(
        self,
        name: str,
        weight: Tensor,
        solution: Solution,
        part: slice,
        nearest: Tensor,
        hessian: Hessian,
        damping: float,
    ) -> None:
        """Pack one of the matrices solved and measure it."""
        config: GPTQConfig = self.settings.gptq_config({})
        packed = pack(
            solution.q[part].cpu(),
            solution.zeros[:, part].cpu(),
            solution.scales[:, part].cpu(),
            config,
            g_idx=solution.g_idx.cpu(),
        )
        for tensor_name in ("qweight", "qzeros", "scales", "g_idx"):
            tensor = getattr(packed, tensor_name)
            self.packed[f"{name}.{tensor_name}"] = tensor.contiguous()
        whole = hessian.cost(weight)
        costs = [hessian.cost(made - weight) for made in (solution.weight[part], nearest)]
        error, error_rtn = ((max(cost, 0.0) / whole) ** 0.5 if whole > 0 else 0.0 for cost in costs)
        report = MatrixReport(
            name=name,
            num_out=weight.shape[0],
            num_in=weight.shape[1],
            error=error,
            error_rtn=error_rtn,
            damping=damping,
        )
        self.reports.append(report)


class LayerPass:
    """One layer of the model. `texts` are carried through it in place."""

    def __init__(
        self,
        config: SalaConfig,
        index: int,
        weights: dict[str, Tensor],
        quantized: frozenset[str],
        solver: MatrixSolver,
        batches: Batches,
    ) -> None:
        """weights: the layer's, on the device, in the dtype it computes in; quantized: names of matrices, no prefix."""
        self._before = Layer(config, index, weights)
        self._after = Layer(config, index, dict(weights))
        self._rtn = Layer(config, index, dict(weights))
        self._quantized, self._solver, self._batches = quantized, solver, batches

    def run(self, texts: dict[str, Tensor], originals: dict[str, Tensor]) -> Iterator[MatrixReport]:
        """Yields a report as each matrix is done.

        texts: CALIBRATION and the three STREAMS, each [N, T, D]. originals: the matrices as stored.
        Raises QuantizeError, Stopped; `texts` are then spoilt.
        """
        calibration = texts[CALIBRATION]
        after, each = self._after, self._batches.each
        yield from self._solve(STEPS[0], originals, (after.mixer_input(h) for _, h in each(calibration)))
        mixed = torch.cat([after.mix(after.mixer_input(h)).to(calibration.device) for _, h in each(calibration)])
        yield from self._solve(STEPS[1], originals, (part for _, part in each(mixed)))
        for part, h in each(calibration):
            calibration[part] = after.add_mixed(h, mixed[part].to(h.device)).to(calibration.device)
        del mixed
        yield from self._solve(STEPS[2], originals, (after.mlp_input(h) for _, h in each(calibration)))
        hidden = (after.mlp_hidden(after.mlp_input(h)) for _, h in each(calibration))
        yield from self._solve(STEPS[3], originals, hidden)
        self._batches.update(calibration, lambda h: after.add_mlp(h, after.mlp_hidden(after.mlp_input(h))))
        for name, layer in zip(STREAMS, (self._before, after, self._rtn), strict=True):
            self._batches.update(texts[name], layer.forward)

    def _solve(
        self, names: tuple[str, ...], originals: dict[str, Tensor], inputs: Iterator[Tensor]
    ) -> list[MatrixReport]:
        """Quantize those of `names` that are to be. inputs: what they read, batch by batch, [B, T, in]."""
        chosen = [name for name in names if name in self._quantized]
        if not chosen:
            return []
        like = self._after.weights[f"{chosen[0]}.weight"]
        hessian = Hessian(like.shape[1], like.device)
        for batch in inputs:
            hessian.add(batch)
        weights = {name: originals[f"{name}.weight"].to(like.device) for name in chosen}
        for name, (made, nearest) in self._solver.solve(weights, hessian).items():
            self._after.weights[f"{name}.weight"] = made.to(like.dtype)
            self._rtn.weights[f"{name}.weight"] = nearest.to(like.dtype)
        return self._solver.reports[-len(chosen) :]
