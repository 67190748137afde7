"""Readings in poisoned memory: whatever was never written is NaN or the largest integer, and must change no result.

Kernels read whole tiles, and caches hold more rows than tokens. What they read there must not reach a result, but it
usually does no harm: fresh memory is mostly 0. Here it is not.
"""

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from sala_kernels import Backend, QuantizedRows
from sala_kernels.backend import interpreted
from sala_kernels.inspection.cases import relative_error
from sala_kernels.kv_quantization import dequantize_rows
from sala_kernels.positions import MAX_TOKENS
from torch import Tensor

from sala_core.disk.safetensors import decode_tensors, encode_tensors
from sala_core.engine.decode import MAX_PASS_TOKENS, Decoder
from sala_core.engine.engine import Engine
from sala_core.engine.sampling import Sampler, SamplingParams
from sala_core.model.checkpoint import EMBEDDED, expected_shapes, resolve_model
from sala_core.model.config import SalaConfig
from sala_core.model.forward import AttentionTrace, SalaModel
from sala_core.model.state import KvKind, SalaState
from sala_core.text.tokenizer import Tokenizer

KINDS: tuple[KvKind, ...] = ("plain", "int8", "fp8")

Expected = Literal["the reference", "no poison"]
"""What poisoned results are compared with: the reference's, or those of the same kernels, both in clean memory."""

_LIMITS = {"plain": 1e-4, "int8": 5e-3, "fp8": 5e-3}
"""Largest relative RMS errors against the reference in float32. A number that is almost halfway between two quantized
ones may be rounded to either of them."""

_NO_POISON_LIMIT = 1e-5  # the same kernels give the same bits, except where they add atomically

_CONFIG = {
    "model_type": "minicpm_sala", "vocab_size": 8192, "hidden_size": 32, "intermediate_size": 32,
    "num_hidden_layers": 2, "mixer_types": ["minicpm4", "lightning-attn"],
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    "lightning_nh": 2, "lightning_nkv": 1, "lightning_head_dim": 16, "dim_model_base": 32, "eos_token_id": [2, 0],
}  # fmt: skip
_SPARSE_CONFIG = {"kernel_size": 8, "kernel_stride": 4, "block_size": 16, "window_size": 32, "init_blocks": 1}
"""A model for the embedded one's tokenizer, except for the number of blocks."""

_ALL, _FEW = 62, 8
"""The field `topk`: so many that a query attends to every key of the smallest cache, or to 160 keys at most."""

_SHORT, _LONG = 17, 230  # tokens read at first: with every key, with chosen blocks
_QUESTION = "Who?"

Poison = Callable[[SalaState], None]
Step = tuple[str, Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class PoisonResult:
    """One step of a reading in poisoned memory.

    Attributes:
        kv: number format of keys and values.
        step: what was computed.
        expected: what it is compared with.
        finite: whether all results are finite.
        error: the largest relative RMS error over the results; infinite if shapes or NaNs differ.
        limit: the largest error that passes.
    """

    kv: KvKind
    step: str
    expected: Expected
    finite: bool
    error: float
    limit: float

    @property
    def good(self) -> bool:
        """Whether the results are finite and right."""
        return self.finite and self.error <= self.limit


def check_poisoned_memory(
    device: torch.device, *, backend: Backend, dtype: torch.dtype = torch.float32
) -> list[PoisonResult]:
    """Run a small random model in poisoned memory: reading, tails of 1 to 16 tokens, look-up, decoding, verification
    of drafts, and a state that was saved and restored, for each number format of keys and values.

    In float32 the results are compared with the reference's. On a card, where a second run costs little, and in other
    dtypes they are also compared with those of the same kernels without poison. Raises ValueError for a backend that
    cannot compute on the device, RuntimeError if torch does not fill fresh memory there.

    Args:
        device: where the model is. On a CPU, "triton" needs Triton's interpreter, and takes half a minute.
        backend: computes every operation.
        dtype: of the model.
    """
    results: list[PoisonResult] = []
    for kv in KINDS:
        make_engine = partial(_engine, device, dtype, kv)
        with poisoned_memory(device):
            found = list(_steps(partial(make_engine, backend), poison_spare_rows))
        if dtype == torch.float32:
            expected = _steps(partial(make_engine, "reference"), lambda state: None)
            results += _compared(found, list(expected), kv, "the reference", _LIMITS[kv])
        if device.type == "cuda" or dtype != torch.float32:
            expected = _steps(partial(make_engine, backend), lambda state: None)
            results += _compared(found, list(expected), kv, "no poison", _NO_POISON_LIMIT)
    return results


@contextmanager
def poisoned_memory(device: torch.device) -> Iterator[None]:
    """A context in which torch fills uninitialized memory: floats with NaN, integers with their largest value.

    Raises RuntimeError if it does not.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled_before = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = True
    try:
        _check_that_memory_is_filled(device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic.*")
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled_before


@torch.inference_mode()
def poison_spare_rows(state: SalaState) -> None:
    """Overwrite the rows that a state has reserved and that hold no token: with NaN, or the largest integer."""
    for cache in state.sparse.values():
        for buffer in cache.buffers.values():
            rows = buffer.reserved
            for part in (rows.data, rows.scale) if isinstance(rows, QuantizedRows) else (rows,):
                spare = part[:, buffer.length :]
                spare.fill_(torch.nan if part.is_floating_point() else torch.iinfo(part.dtype).max)


def _check_that_memory_is_filled(device: torch.device) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.int8, torch.uint8, torch.int64):
        fresh = torch.empty(64, dtype=dtype, device=device)
        filled = fresh.isnan() if dtype.is_floating_point else fresh == torch.iinfo(dtype).max
        if not bool(filled.all()):
            raise RuntimeError(f"torch {torch.__version__} does not fill fresh {dtype} memory on {device.type}")


def _engine(device: torch.device, dtype: torch.dtype, kv: KvKind, backend: Backend, topk: int) -> Engine:
    """The model, the same for every backend, with the embedded model's tokenizer.

    Args:
        device, dtype, kv, backend: of the model.
        topk: chosen blocks, as in `config.json`.
    """
    config = SalaConfig.from_dict({**_CONFIG, "sparse_config": {**_SPARSE_CONFIG, "topk": topk}})
    random = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in expected_shapes(config).items():
        noise = torch.randn(shape, generator=random)
        weights[name] = 1 + 0.1 * noise if len(shape) == 1 else noise * shape[1] ** -0.5
    weights["model.embed_tokens.weight"] *= config.hidden_size**0.5 / config.scale_emb  # activations are near 1
    placed = {name: weight.to(device, dtype) for name, weight in weights.items()}
    model = SalaModel(config, placed, backend=backend, kv=kv)
    return Engine(model, name="a small random model", tokenizer=_tokenizer(), chunk_tokens=1024)


@functools.cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(resolve_model(EMBEDDED))


def _steps(make_engine: Callable[[int], Engine], poison: Poison) -> Iterator[Step]:
    """The results of every step, by name.

    make_engine: an engine for a number of blocks. poison: applied to the state before each call of an engine.
    """
    ids = torch.randint(4, 8192, (500,), generator=torch.Generator().manual_seed(1))
    yield from _every_key(make_engine(_ALL), ids, poison)
    yield from _chosen_blocks(make_engine(_FEW), ids, poison)


def _every_key(engine: Engine, ids: Tensor, poison: Poison) -> Iterator[Step]:
    """A reading in which every key is attended to: its start, tails, a look-up, decoding."""
    state = engine.new_state()
    state.reserve(_SHORT)
    poison(state)
    *_, (_, hidden) = engine.read(state, ids[:_SHORT])
    yield "reading, every key", {"hidden": hidden, **_contents(state)}
    logits, trace = [], AttentionTrace()
    for size in range(MAX_TOKENS, 0, -1):
        poison(state)
        tail = ids[state.position : state.position + size].to(engine.model.device)
        hidden = engine.model.prefill(state, tail, trace=trace if size % 5 == 1 else None)
        logits.append(engine.model.logits(hidden))
    yield "tails of 1 to 16 tokens, every key", {"logits": torch.cat(logits), **_contents(state), **_mass(trace, state)}
    poison(state)
    engine.look_up(state, _QUESTION, trace := AttentionTrace())
    yield "look-up", {**_mass(trace, state), **_contents(state)}
    decoder, sampler = _decoder(engine, state)
    yield "decoding, every key", _decoded(decoder, sampler, state, ids, ((1, 1), (3, 2)), poison)


def _chosen_blocks(engine: Engine, ids: Tensor, poison: Poison) -> Iterator[Step]:
    """A reading in which queries choose blocks. In the interpreter, the faster reference reads its first tokens."""
    model = engine.model
    slow = interpreted() and model.backend == "triton"
    reader = SalaModel(model.config, model.weights, backend="reference", kv=model.kv) if slow else model
    state = engine.new_state()
    state.reserve(_LONG)
    poison(state)
    reader.prefill(state, ids[:_LONG].to(model.device))
    logits = []
    for size in (17, 1, 5):
        poison(state)
        logits.append(engine.forward(state, ids[state.position : state.position + size]))
    yield "reading, chosen blocks", {"logits": torch.cat(logits), **_contents(state)}

    decoder, sampler = _decoder(engine, state)
    yield "decoding, chosen blocks", _decoded(decoder, sampler, state, ids, ((1, 1),), poison)
    drafts = ((MAX_PASS_TOKENS, 3), (4, 4))
    yield "verification of drafts", _decoded(decoder, sampler, state, ids, drafts, poison)

    restored = _saved_and_restored(engine, state)
    poison(restored)
    logits = [engine.forward(restored, ids[state.position : state.position + 3])]
    yield "restored state", {"logits": torch.cat(logits), **_contents(restored)}


def _decoder(engine: Engine, state: SalaState) -> tuple[Decoder, Sampler]:
    sampler = Sampler(SamplingParams(temperature=0), engine.config.vocab_size, [], engine.model.device)
    return Decoder(engine.model, state, sampler, traced=True), sampler


def _decoded(
    decoder: Decoder,
    sampler: Sampler,
    state: SalaState,
    ids: Tensor,
    passes: tuple[tuple[int, int], ...],
    poison: Poison,
) -> dict[str, Tensor]:
    """The results of some passes over given tokens.

    Args:
        decoder, sampler, state: as `_decoder` takes and returns them. The state advances.
        ids: the tokens of all positions.
        passes: for each, its number of tokens, and how many of them are confirmed.
        poison: applied to the state before each.
    """
    chosen: list[int] = []
    for size, count in passes:
        poison(state)
        chosen += decoder.step(state, ids[state.position : state.position + size].tolist(), sampler)
        decoder.confirm(state, count)
    decoder.collect(trace := AttentionTrace(), state)
    choices = torch.tensor([torch.nan if token < 0 else 0.0 for token in chosen])  # -1: logits are not finite
    return {"choices": choices, **_contents(state), **_mass(trace, state)}


def _saved_and_restored(engine: Engine, state: SalaState) -> SalaState:
    """A new state, from two segments and a snapshot in the form in which they are stored."""
    restored = engine.new_state()
    start = 0
    for end in (_LONG // 2, state.position):
        restored.append_segment(_stored(state.segment(start, end)), end)
        start = end
    restored.restore_snapshot(_stored(state.snapshot()), state.position)
    return restored


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return decode_tensors(memoryview(bytearray(b"".join(encode_tensors(tensors, {})))))[0]


def _contents(state: SalaState) -> dict[str, Tensor]:
    """Copies of all that a state holds; quantized keys and values as the numbers that they stand for."""
    contents = {"linear states": state.linear_states.clone()}
    for layer, cache in state.sparse.items():
        for name, buffer in cache.buffers.items():
            rows = buffer.rows
            plain = dequantize_rows(rows, backend="reference") if isinstance(rows, QuantizedRows) else rows.clone()
            contents[f"{name}.{layer}"] = plain
    return contents


def _mass(trace: AttentionTrace, state: SalaState) -> dict[str, Tensor]:
    return {f"attention.{layer}": mass[: state.position].clone() for layer, mass in trace.mass.items()}


def _compared(
    found: list[Step], expected: list[Step], kv: KvKind, against: Expected, limit: float
) -> Iterator[PoisonResult]:
    """The result of each step.

    Args:
        found, expected: the same steps, in poisoned memory and as they should be.
        kv: number format of keys and values.
        against: what `expected` is.
        limit: largest error that passes.
    """
    for (step, tensors), (_, wanted) in zip(found, expected, strict=True):
        yield PoisonResult(
            kv=kv,
            step=step,
            expected=against,
            finite=all(bool(x.isfinite().all()) for x in tensors.values()),
            error=max(relative_error(tensors[name], wanted[name]) for name in wanted),
            limit=limit,
        )
