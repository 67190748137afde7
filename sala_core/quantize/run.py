"""The whole of a quantization: plan, layers, head, and the finished folder."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sala_core.engine.engine import resolve_device
from sala_core.engine.memory_plan import is_out_of_memory
from sala_core.errors import MemoryBudgetError, QuantizeError
from sala_core.quantize.calibration import DEFAULT_CALIBRATION, DEFAULT_HELD_OUT, Samples, read_samples
from sala_core.quantize.export import Exporter
from sala_core.quantize.layer import dense_tokens
from sala_core.quantize.layer_pass import CALIBRATION, STREAMS, LayerPass, MatrixSolver
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
from sala_core.quantize.solver import Hessian, QuantizeStopped, never
from sala_core.quantize.source import EMBEDDING, Source
from sala_core.quantize.texts import Batches, Score
from sala_core.quantize.work import WorkFolder, check_space
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
    restart: bool = False,
    should_stop: Callable[[], bool] = never,
) -> Iterator[Planned | MatrixDone | LayerDone | QuantizeFinished]:
    """Quantize the model `source` into the folder `target`; ends without Finished where `should_stop` asked for it.

    One layer's weights are on the device at a time, the texts wait on the CPU. A run that was stopped or killed goes
    on at its layer when it is called again with the same arguments; restart begins anew. calibration, held_out: files
    and folders of text, no file in both. Raises SalaError: ModelError and its kin, QuantizeError, IngestError,
    DiskFullError, MemoryBudgetError.
    """
    run = _QuantizeRun(Source.open(source), settings, resolve_device(device), should_stop)
    try:
        texts = run.read_texts(calibration, held_out)
        with WorkFolder(target) as work:
            yield from run.layers(work, *texts, restart=restart)
            yield QuantizeFinished(report=run.finish(work, *texts))
    except QuantizeStopped:
        return
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryBudgetError(
            f"memory on {run.device} is full; use fewer --samples or --tokens, or another --device"
        ) from error


class _QuantizeRun:
    """One call of `quantize`."""

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
        self.texts: dict[str, Tensor] = {}

    def read_texts(self, calibration: Sequence[Path], held_out: Sequence[Path]) -> tuple[Samples, Samples]:
        """Both texts as ids. Raises QuantizeError where they share a file, Stopped."""
        tokenizer = Tokenizer.from_folder(self.source.folder)
        length = min(self.settings.sample_tokens, dense_tokens(self.config))
        wanted = ((calibration, self.settings.samples), (held_out, HELD_OUT_TEXTS))
        seen, unseen = (
            read_samples(paths, tokenizer, samples=count, sample_tokens=length, should_stop=self.should_stop)
            for paths, count in wanted
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
        """Every layer from where an earlier run stopped. Raises Stopped."""
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
        self.texts = work.load_texts(first) if first else self._embed(seen, unseen)
        for index in range(first, self.config.num_hidden_layers):
            yield from self._layer(work, index)

    def _layer(self, work: WorkFolder, index: int) -> Iterator[MatrixDone | LayerDone]:
        clock, prefix = Clock(), layer_prefix(index)
        originals = self.source.layer(index)
        weights = {name: tensor.to(device=self.device, dtype=self.dtype) for name, tensor in originals.items()}
        quantized = self.plan.of_layer(index)
        solver = MatrixSolver(settings=self.settings, should_stop=self.should_stop)
        layer = LayerPass(self.config, index, weights, quantized, solver, self.batches)
        for matrix in layer.run(self.texts, originals):
            yield MatrixDone(index=index, matrix=matrix)
        plain = {name: it for name, it in originals.items() if name.removesuffix(".weight") not in quantized}
        tensors = {prefix + name: tensor for name, tensor in (plain | solver.packed).items()}
        done = LayerDone(
            index=index, mixer=self.config.mixer_types[index], matrices=tuple(solver.reports), seconds=clock.seconds
        )
        work.save_layer(index, tensors, done.to_dict())
        work.save_texts(index + 1, self.texts)
        self.done.append(done)
        yield done

    def finish(self, work: WorkFolder, seen: Samples, unseen: Samples) -> Report:
        """Quantize lm_head if asked to, measure perplexity, write the folder. Raises Stopped."""
        head = self.source.tensor(self.source.head_name)
        heads = dict.fromkeys(STREAMS, head)
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
            bytes_before=sum(path.stat().st_size for path in set(self.source.files.values())),
            bytes_after=bytes_after,
        )
        exporter.commit(report.to_dict())
        return report

    def _quantize_head(self, head: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The three streams' heads, and the packed tensors."""
        clock = Clock()
        solver = MatrixSolver(settings=self.settings, should_stop=self.should_stop)
        hessian = Hessian(self.config.hidden_size, self.device)
        norm = self._final_norm()
        for _, h in self.batches.each(self.texts[CALIBRATION]):
            hessian.add(norm(h))
        made, nearest = solver.solve({_HEAD: head.to(self.device)}, hessian)[_HEAD]
        self.done.append(LayerDone(index=-1, mixer=_HEAD, matrices=tuple(solver.reports), seconds=clock.seconds))
        return dict(zip(STREAMS, (head, made, nearest), strict=True)), solver.packed

    def _perplexity(self, heads: dict[str, Tensor], unseen: Samples) -> Perplexity:
        norm = self._final_norm()
        original = heads["before"].to(device=self.device, dtype=self.dtype)
        on_device = {
            name: original if head is heads["before"] else head.to(device=self.device, dtype=self.dtype)
            for name, head in heads.items()
        }
        score = Score(STREAMS)
        for part in self.batches.slices(*unseen.ids.shape):
            normed = {name: norm(self.texts[name][part].to(self.device)) for name in STREAMS}
            score.add(normed, on_device, unseen.ids[part].to(self.device), unseen.num_prefix)
        return Perplexity(
            **{name: score.perplexity(name) for name in STREAMS},
            divergence_after=score.divergence("after"),
            divergence_rtn=score.divergence("rtn"),
            tokens=score.tokens,
        )

    def _final_norm(self) -> Callable[[Tensor], Tensor]:
        from sala_kernels import rms_norm

        weight = self.source.tensor("model.norm.weight").to(device=self.device, dtype=self.dtype)
        return lambda h: rms_norm(h, weight, self.config.rms_norm_eps) * self.config.logit_scale

    def _embed(self, seen: Samples, unseen: Samples) -> dict[str, Tensor]:
        """The residual streams before the first layer, [N, T, D] on the CPU."""

        def embed(ids: Tensor) -> Tensor:
            rows = self.source.rows(EMBEDDING, ids.reshape(-1)).to(self.dtype) * self.config.scale_emb
            return rows.view(*ids.shape, -1)

        held_out = embed(unseen.ids)
        return {CALIBRATION: embed(seen.ids), **{name: held_out.clone() for name in STREAMS}}

    def _fingerprint(self, seen: Samples, unseen: Samples) -> dict[str, Any]:
        """What must not change between a run and its continuation."""
        return {
            **self.settings.to_dict(),
            "model": self.source.identity(),
            "calibration": seen.digest,
            "held_out": unseen.digest,
            "device": self.device.type,
            "dtype": str(self.dtype),
        }

    def _check_space(self, work: WorkFolder, seen: Samples, unseen: Samples) -> None:
        """The layers' files, the folder made of them, and the texts of two layers. Raises DiskFullError."""
        stored = sum(path.stat().st_size for path in set(self.source.files.values()))
        numbers = (seen.ids.numel() + len(STREAMS) * unseen.ids.numel()) * self.config.hidden_size
        present = sum(path.stat().st_size for path in work.folder.iterdir())
        check_space(self.source, work.target, stored + 2 * numbers * self.dtype.itemsize - present)


def _describe(samples: Samples) -> dict[str, int]:
    return {
        "texts": samples.ids.shape[0],
        "tokens": samples.ids.numel(),
        "files": samples.num_files,
        "tokens_found": samples.num_tokens_found,
    }


def _compute_dtype(stored: str | None, device: torch.device) -> torch.dtype:
    """float32 where `config.json` names it or the device is slow in bfloat16, as the engine chooses."""
    fast = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast and stored != "float32" else torch.float32
