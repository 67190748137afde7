"""Quantize the matrices of one layer in the order of the forward pass.

Each matrix sees the inputs that the matrices quantized before it produce ("true sequential" in AutoGPTQ).
"""

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
from sala_core.quantize.solver import Hessian, Solution, round_to_nearest, solve
from sala_core.quantize.texts import Batches
from sala_core.stopping import never

CALIBRATION = "calibration"
VERSIONS = ("before", "after", "rtn")
"""Weights that the held-out text runs through: the original ones, the quantized ones, and RTN (round to nearest)."""


@dataclass(kw_only=True)
class MatrixSolver:
    """Solves matrices of one model and collects the results: packed tensors, and one report per matrix."""

    settings: QuantizeSettings
    should_stop: Callable[[], bool] = never
    packed: dict[str, Tensor] = field(default_factory=dict)
    reports: list[MatrixReport] = field(default_factory=list)

    def solve(self, weights: dict[str, Tensor], hessian: Hessian) -> dict[str, tuple[Tensor, Tensor]]:
        """Quantize matrices that share their input. weights: name -> [out, in].

        Returns name -> (dequantized GPTQ weight, dequantized RTN weight), both fp32 [out, in]. Raises QuantizeError,
        QuantizeStopped.
        """
        stacked = torch.cat([weight.float() for weight in weights.values()])
        try:
            solution, damping = solve(stacked, hessian, self.settings, self.should_stop)
        except QuantizeError as error:
            raise QuantizeError(f"{', '.join(weights)}: {error}") from error
        nearest = round_to_nearest(stacked, self.settings).weight
        dequantized, start = {}, 0
        for name, weight in weights.items():
            rows = slice(start, start + weight.shape[0])
            start = rows.stop
            dequantized[name] = (solution.weight[rows], nearest[rows])
            self._pack(name, solution, rows)
            self._measure(name, stacked[rows], dequantized[name], hessian, damping)
        return dequantized

    def _pack(self, name: str, solution: Solution, rows: slice) -> None:
        """Add the packed tensors of one of the solved matrices, on the CPU."""
        config: GPTQConfig = self.settings.gptq_config({})
        packed = pack(
            solution.q[rows].cpu(),
            solution.zeros[:, rows].cpu(),
            solution.scales[:, rows].cpu(),
            config,
            g_idx=solution.g_idx.cpu(),
        )
        for tensor_name in ("qweight", "qzeros", "scales", "g_idx"):
            tensor = getattr(packed, tensor_name)
            self.packed[f"{name}.{tensor_name}"] = tensor.contiguous()

    def _measure(
        self, name: str, weight: Tensor, dequantized: tuple[Tensor, Tensor], hessian: Hessian, damping: float
    ) -> None:
        """Add the report of one matrix: its relative output errors over the calibration text."""
        total = hessian.cost(weight)
        costs = [hessian.cost(version - weight) for version in dequantized]
        error, error_rtn = ((max(cost, 0.0) / total) ** 0.5 if total > 0 else 0.0 for cost in costs)
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
    """Quantizes one layer and carries the residual streams of all texts through it, in place."""

    def __init__(
        self,
        config: SalaConfig,
        index: int,
        weights: dict[str, Tensor],
        quantized: frozenset[str],
        solver: MatrixSolver,
        batches: Batches,
    ) -> None:
        """Prepare the three versions of the layer.

        Args:
            config: the model's config.
            index: the layer, from 0.
            weights: tensors of the layer, names without its prefix, on the device and in the dtype it computes in.
            quantized: names of the matrices to quantize, without the layer's prefix: `mlp.up_proj`.
            solver: quantizes them and collects the results.
            batches: moves texts to the device batch by batch.
        """
        self._before = Layer(config, index, weights)
        self._after = Layer(config, index, dict(weights))
        self._rtn = Layer(config, index, dict(weights))
        self._quantized, self._solver, self._batches = quantized, solver, batches

    def run(self, hidden: dict[str, Tensor], originals: dict[str, Tensor]) -> Iterator[MatrixReport]:
        """Yield a report for each matrix once it is quantized.

        hidden: residual streams before the layer, those after it in the end: one of CALIBRATION and one for each of
        VERSIONS, all [N, T, D]. originals: the layer's tensors as stored. Raises QuantizeError, QuantizeStopped;
        `hidden` is then half updated and of no use.
        """
        calibration = hidden[CALIBRATION]
        after, each = self._after, self._batches.each
        yield from self._solve(STEPS[0], originals, (after.mixer_input(h) for _, h in each(calibration)))
        mixed = torch.cat([after.mix(after.mixer_input(h)).to(calibration.device) for _, h in each(calibration)])
        yield from self._solve(STEPS[1], originals, (part for _, part in each(mixed)))
        for part, h in each(calibration):
            calibration[part] = after.add_mixed(h, mixed[part].to(h.device)).to(calibration.device)
        del mixed
        yield from self._solve(STEPS[2], originals, (after.mlp_input(h) for _, h in each(calibration)))
        mlp_hidden = (after.mlp_hidden(after.mlp_input(h)) for _, h in each(calibration))
        yield from self._solve(STEPS[3], originals, mlp_hidden)
        self._batches.update(calibration, lambda h: after.add_mlp(h, after.mlp_hidden(after.mlp_input(h))))
        for name, layer in zip(VERSIONS, (self._before, after, self._rtn), strict=True):
            self._batches.update(hidden[name], layer.forward)

    def _solve(
        self, names: tuple[str, ...], originals: dict[str, Tensor], inputs: Iterator[Tensor]
    ) -> list[MatrixReport]:
        """Quantize those of `names` that the plan includes. inputs: their common input, batch by batch, [B, T, in]."""
        chosen = [name for name in names if name in self._quantized]
        if not chosen:
            return []
        like = self._after.weights[f"{chosen[0]}.weight"]
        hessian = Hessian(like.shape[1], like.device)
        for batch in inputs:
            hessian.add(batch)
        weights = {name: originals[f"{name}.weight"].to(like.device) for name in chosen}
        for name, (quantized, nearest) in self._solver.solve(weights, hessian).items():
            self._after.weights[f"{name}.weight"] = quantized.to(like.dtype)
            self._rtn.weights[f"{name}.weight"] = nearest.to(like.dtype)
        return self._solver.reports[-len(chosen) :]
