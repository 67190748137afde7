"""Run a quantization: plan, layers, lm_head, measurements, and the finished folder."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sala_core.engine.device import choose_device
from sala_core.engine.memory_plan import is_out_of_memory
from sala_core.errors import MemoryBudgetError, QuantizeError
from sala_core.quantize.calibration import DEFAULT_CALIBRATION, DEFAULT_HELD_OUT, Samples, read_samples
from sala_core.quantize.export import Exporter
from sala_core.quantize.layer import dense_tokens
from sala_core.quantize.layer_pass import CALIBRATION, VERSIONS, LayerPass, MatrixSolver
from sala_core.quantize.plan import Plan, layer_prefix
from sala_core.quantize.report import (
    Clock,
    LayerDone,
    MatrixDone,
    Perplexity,
    Planned,
    QuantizeFinished,
    Report,
    peak_device_bytes,
    peak_memory_bytes,
)
from sala_core.quantize.settings import QuantizeSettings
from sala_core.quantize.solver import Hessian, QuantizeStopped
from sala_core.quantize.source import EMBEDDING, Source
from sala_core.quantize.texts import Batches, Score
from sala_core.quantize.work import WorkFolder, check_space
from sala_core.stopping import never
from sala_core.text.stream_start import BosChoice
from sala_core.text.tokenizer import Tokenizer

HELD_OUT_TEXTS = 16
_HEAD = "lm_head"


def quantize(
    source: str | Path,
    target: Path,
    settings: QuantizeSettings,
    *,
    calibration: Sequence[Path] = DEFAULT_CALIBRATION,
    held_out: Sequence[Path] = DEFAULT_HELD_OUT,
    device: str = "auto",
    bos: BosChoice = "auto",
    restart: bool = False,
    should_stop: Callable[[], bool] = never,
) -> Iterator[Planned | MatrixDone | LayerDone | QuantizeFinished]:
    """Quantize a model into a new folder; yield events: Planned first, QuantizeFinished last.

    The weights of one layer are on the device at a time; the residual streams of the texts wait on the CPU. A run that
    was stopped or killed continues at its layer when it is called again with the same arguments. Raises ModelError
    and its subclasses (among them QuantizeError), IngestError, DiskFullError, MemoryBudgetError.

    Args:
        source: the unquantized model: `embedded`, a folder, or the name of a downloaded model.
        target: the new folder.
        settings: how to quantize and how to write the result.
        calibration: files and folders of text that the model runs on while it is quantized.
        held_out: other text, for the perplexity before and after; no file may be in both.
        device: `auto`, `cpu` or `cuda`.
        bos: whether the texts begin with the tokenizer's `<s>`; "auto" as its settings ask.
        restart: delete the work of an unfinished run first.
        should_stop: called between batches and blocks; if it returns True, the iterator ends without QuantizeFinished.
    """
    run = _QuantizeRun(Source.open(source), settings, choose_device(device).device, should_stop)
    try:
        samples = run.read_texts(calibration, held_out, bos)
        with WorkFolder(target) as work:
            yield from run.layers(work, *samples, restart=restart)
            yield QuantizeFinished(report=run.finish(work, *samples))
    except QuantizeStopped:
        return
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryBudgetError(
            f"memory on {run.device} is full; use fewer --samples or --tokens, or another --device"
        ) from error


class _QuantizeRun:
    """One call of `quantize`. hidden: residual streams before the next layer, [N, T, D] on the CPU: one of CALIBRATION
    and one for each of VERSIONS."""

    def __init__(
        self, source: Source, settings: QuantizeSettings, device: torch.device, should_stop: Callable[[], bool]
    ) -> None:
        self.source, self.settings, self.device, self.should_stop = source, settings, device, should_stop
        self.config = source.config
        self.plan = Plan.make(self.config, settings)
        self.dtype = _compute_dtype(source.raw.get("dtype") or source.raw.get("torch_dtype"), device)
        self.batches = Batches(self.config, device, should_stop)
        self.clock = Clock()
        self.done: list[LayerDone] = []
        self.hidden: dict[str, Tensor] = {}

    def read_texts(
        self, calibration: Sequence[Path], held_out: Sequence[Path], bos: BosChoice
    ) -> tuple[Samples, Samples]:
        """Return calibration and held-out samples. Raises QuantizeError if they share a file, QuantizeStopped."""
        tokenizer = Tokenizer.from_folder(self.source.folder, bos=bos)
        length = min(self.settings.sample_tokens, dense_tokens(self.config))
        seen, unseen = (
            read_samples(paths, tokenizer, samples=count, sample_tokens=length, should_stop=self.should_stop)
            for paths, count in ((calibration, self.settings.samples), (held_out, HELD_OUT_TEXTS))
        )
        if seen.hashes & unseen.hashes:
            raise QuantizeError(
                "a file is both calibration and held-out text, so its perplexity would mean nothing; "
                "give other --held-out text"
            )
        return seen, unseen

    def layers(
        self, work: WorkFolder, seen: Samples, unseen: Samples, *, restart: bool
    ) -> Iterator[Planned | MatrixDone | LayerDone]:
        """Quantize every layer that no earlier run has finished; yield events. Raises QuantizeStopped.

        Args:
            work: the open work folder.
            seen: calibration samples.
            unseen: held-out samples.
            restart: delete the work of an earlier run first.
        """
        resumed = work.claim(self._fingerprint(seen, unseen), restart=restart)
        first = work.done_layers() if resumed else 0
        self._check_space(work, seen, unseen)
        yield Planned(
            num_layers=self.config.num_hidden_layers,
            num_matrices=len(self.plan.quantized),
            left=self.plan.reasons(),
            calibration_texts=seen.ids.shape[0],
            calibration_tokens=seen.ids.numel(),
            held_out_tokens=unseen.ids.numel(),
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            num_layers_done=first,
        )
        for index in range(first):
            self.done.append(LayerDone.from_dict(work.report(index)))
            yield self.done[-1]
        self.hidden = work.load_hidden(first) if first else self._embed(seen, unseen)
        for index in range(first, self.config.num_hidden_layers):
            yield from self._layer(work, index)

    def _layer(self, work: WorkFolder, index: int) -> Iterator[MatrixDone | LayerDone]:
        clock, prefix = Clock(), layer_prefix(index)
        originals = self.source.layer(index)
        weights = {name: tensor.to(device=self.device, dtype=self.dtype) for name, tensor in originals.items()}
        quantized = self.plan.of_layer(index)
        solver = MatrixSolver(settings=self.settings, should_stop=self.should_stop)
        layer = LayerPass(self.config, index, weights, quantized, solver, self.batches)
        for matrix in layer.run(self.hidden, originals):
            yield MatrixDone(index=index, matrix=matrix)
        unchanged = {
            name: tensor for name, tensor in originals.items() if name.removesuffix(".weight") not in quantized
        }
        tensors = {prefix + name: tensor for name, tensor in (unchanged | solver.packed).items()}
        done = LayerDone(
            index=index, mixer=self.config.mixer_types[index], matrices=tuple(solver.reports), seconds=clock.seconds
        )
        work.save_layer(index, tensors, done.to_dict())
        work.save_hidden(index + 1, self.hidden)
        self.done.append(done)
        yield done

    def finish(self, work: WorkFolder, seen: Samples, unseen: Samples) -> Report:
        """Quantize lm_head if the plan includes it, measure perplexity, write the folder. Raises QuantizeStopped."""
        head = self.source.tensor(self.source.head_name)
        heads = dict.fromkeys(VERSIONS, head)
        packed: dict[str, Tensor] = {}
        if _HEAD in self.plan.quantized:
            heads, packed = self._quantize_head(head)
        perplexity = self._perplexity(heads, unseen)
        exporter = Exporter(self.source, self.settings, self.plan, work)
        bytes_after = exporter.stage(packed)
        report = Report(
            source=str(self.source.folder.name),
            settings=self.settings.to_dict(),
            left=self.plan.reasons(),
            calibration=_describe(seen),
            held_out=_describe(unseen),
            layers=tuple(self.done),
            perplexity=perplexity,
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            seconds=self.clock.seconds,
            cpu_seconds=self.clock.cpu_seconds,
            peak_memory_bytes=peak_memory_bytes(),
            peak_device_bytes=peak_device_bytes(self.device),
            bytes_before=self.source.num_bytes,
            bytes_after=bytes_after,
        )
        exporter.commit(report.to_dict())
        return report

    def _quantize_head(self, head: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The heads [vocab, D] of the three versions, and the packed tensors."""
        clock = Clock()
        solver = MatrixSolver(settings=self.settings, should_stop=self.should_stop)
        hessian = Hessian(self.config.hidden_size, self.device)
        norm = self._final_norm()
        for _, h in self.batches.each(self.hidden[CALIBRATION]):
            hessian.add(norm(h))
        quantized, nearest = solver.solve({_HEAD: head.to(self.device)}, hessian)[_HEAD]
        self.done.append(LayerDone(index=-1, mixer=_HEAD, matrices=tuple(solver.reports), seconds=clock.seconds))
        return dict(zip(VERSIONS, (head, quantized, nearest), strict=True)), solver.packed

    def _perplexity(self, heads: dict[str, Tensor], unseen: Samples) -> Perplexity:
        norm = self._final_norm()
        original = heads["before"].to(device=self.device, dtype=self.dtype)
        on_device = {
            name: original if head is heads["before"] else head.to(device=self.device, dtype=self.dtype)
            for name, head in heads.items()
        }
        score = Score(VERSIONS)
        for part in self.batches.slices(*unseen.ids.shape):
            normed = {name: norm(self.hidden[name][part].to(self.device)) for name in VERSIONS}
            score.add(normed, on_device, unseen.ids[part].to(self.device), unseen.num_prefix)
        return Perplexity(
            **{name: score.perplexity(name) for name in VERSIONS},
            divergence_after=score.divergence("after"),
            divergence_rtn=score.divergence("rtn"),
            tokens=score.tokens,
        )

    def _final_norm(self) -> Callable[[Tensor], Tensor]:
        """A function from the last residual stream to the input of lm_head, both [B, T, D]."""
        from sala_kernels import rms_norm

        weight = self.source.tensor("model.norm.weight").to(device=self.device, dtype=self.dtype)
        return lambda h: rms_norm(h, weight, self.config.rms_norm_eps) * self.config.logit_scale

    def _embed(self, seen: Samples, unseen: Samples) -> dict[str, Tensor]:
        """The residual streams before the first layer, [N, T, D] on the CPU."""

        def embed(ids: Tensor) -> Tensor:
            rows = self.source.rows(EMBEDDING, ids.reshape(-1)).to(self.dtype) * self.config.scale_emb
            return rows.view(*ids.shape, -1)

        held_out = embed(unseen.ids)
        return {CALIBRATION: embed(seen.ids), **{name: held_out.clone() for name in VERSIONS}}

    def _fingerprint(self, seen: Samples, unseen: Samples) -> dict[str, Any]:
        """Everything that must be the same when a run continues."""
        return {
            **self.settings.to_dict(),
            "model": self.source.identity(),
            "calibration": seen.digest,
            "held_out": unseen.digest,
            "device": self.device.type,
            "dtype": str(self.dtype),
        }

    def _check_space(self, work: WorkFolder, seen: Samples, unseen: Samples) -> None:
        """Raise DiskFullError if the disk cannot hold the weights and the residual streams of two layers."""
        numbers = (seen.ids.numel() + len(VERSIONS) * unseen.ids.numel()) * self.config.hidden_size
        present = sum(path.stat().st_size for path in work.folder.iterdir())
        check_space(self.source, work.target, self.source.num_bytes + 2 * numbers * self.dtype.itemsize - present)


def _describe(samples: Samples) -> dict[str, int]:
    return {
        "texts": samples.ids.shape[0],
        "tokens": samples.ids.numel(),
        "files": samples.num_files,
        "tokens_found": samples.num_tokens_found,
    }


def _compute_dtype(stored: str | None, device: torch.device) -> torch.dtype:
    """float32 if `config.json` names it or the device is slow in bfloat16, else bfloat16, as the engine chooses."""
    fast = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast and stored != "float32" else torch.float32
