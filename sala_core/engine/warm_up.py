"""Compiles every kernel that reading and answering launch, when a model is loaded, so that none does so in between.

The calls of a reading and of an answer are made on a copy of the model without numbers (the meta device), where the
launches are recorded and nothing is computed. Kernels do not specialize on counts and positions, so that a few calls
of each kind launch all of them.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from sala_kernels import Int4Matrix, Int4Weight
from sala_kernels.inspection.compiler import distinct
from sala_kernels.launch import Launch, recorded
from sala_kernels.warm_up import compile_launches
from torch import Tensor

from sala_core.engine.decode import GRAPH_TOKENS, Pass
from sala_core.engine.sampling import Sampler, SamplingParams
from sala_core.errors import DeviceError
from sala_core.events import KernelProgress, LoadEvent
from sala_core.evidence.lookup import QUERIES_AT_ONCE, PerQueryTrace
from sala_core.model.forward import AttentionTrace, SalaModel
from sala_core.model.state import SalaState

_QUIET_S = 1.0  # where Triton's cache on disk has all kernels, they are loaded in less
_ROW_COUNTS = (1, 2, 8, 16, 17, 32, 33, 64, 65, 128, 129, 256, 257, 384, 512, 513, 768, 1024)
"""Numbers of rows around which the matrix products change their tiles or how many programs share a sum."""

_FEW_COUNTS = (1, QUERIES_AT_ONCE, 64)
_POSITIONS = tuple(8192 << n for n in range(9))
"""Rows of scores double with the position, up to two million tokens, and a kernel is compiled for each length."""


def compile_kernels(model: SalaModel, chunk_tokens: int, report: Callable[[LoadEvent], None]) -> None:
    """Compile the model's kernels for its card; does nothing where the reference computes.

    The first time on a card this takes about a minute, and `report` hears of it.

    Args:
        model: on its device.
        chunk_tokens: tokens of its prefill chunks.
        report: receives KernelProgress.

    Raises DeviceError where Triton cannot compile them.
    """
    if not model.can_be_captured:
        return
    major, minor = torch.cuda.get_device_capability(model.device)
    launches = kernel_launches(model, chunk_tokens, card=10 * major + minor)
    started = time.monotonic()

    def progress(done: int) -> None:
        if time.monotonic() - started > _QUIET_S:
            report(KernelProgress(kernels_done=done, kernels_total=len(launches)))

    try:
        compile_launches(launches, progress)
    except (RuntimeError, OSError) as error:
        raise DeviceError(
            f"Triton cannot compile a kernel for {torch.cuda.get_device_name(model.device)} ({error}); update the "
            "card's driver, or choose --device cpu"
        ) from error


def kernel_launches(model: SalaModel, chunk_tokens: int, *, card: int) -> list[Launch]:
    """One launch of each kernel and specialization that the model uses, with tensors on the meta device.

    Args:
        model: on any device.
        chunk_tokens: tokens of its prefill chunks.
        card: compute capability as 10 * major + minor.
    """
    meta = _without_numbers(model)
    with torch.inference_mode(), recorded(card) as launches:
        for num_tokens in (*_ROW_COUNTS, chunk_tokens):
            for position in (0, _POSITIONS[0]):
                _record_reading(meta, position, num_tokens)
        for num_tokens in (*_FEW_COUNTS, chunk_tokens):
            for position in _POSITIONS[1:]:
                _record_reading(meta, position, num_tokens)
            for position in (0, meta.layout.block * meta.layout.max_blocks // 2, *_POSITIONS):
                _record_question(meta, position, num_tokens)
        for position in (0, *_POSITIONS):
            for size in GRAPH_TOKENS:
                _record_pass(meta, position, size)
    return distinct(launches)


def _record_reading(model: SalaModel, position: int, num_tokens: int) -> None:
    ids = torch.empty(num_tokens, dtype=torch.int64, device="meta")
    model.logits(model.prefill(_state_at(model, position, num_tokens), ids, last_only=True))


def _record_question(model: SalaModel, position: int, num_tokens: int) -> None:
    """The prefills of a question that chooses blocks, of one with given blocks, and of a look-up."""
    ids = torch.empty(num_tokens, dtype=torch.int64, device="meta")
    model.prefill(_state_at(model, position, num_tokens), ids, trace=AttentionTrace())
    if position <= _POSITIONS[0]:
        blocks = torch.empty(model.layout.slots, dtype=torch.int64, device="meta")
        model.prefill(_state_at(model, position, num_tokens), ids, blocks=blocks, last_only=True)
    if num_tokens <= QUERIES_AT_ONCE and model.config.sparse_layers:
        num_layers, trace = model.config.sparse_layers[0] + 1, PerQueryTrace(num_tokens)
        model.prefill(_state_at(model, position, num_tokens), ids, dense=True, trace=trace, num_layers=num_layers)


def _record_pass(model: SalaModel, position: int, size: int) -> None:
    """A decoding pass and its confirmation, traced."""
    state = _state_at(model, position, size)
    sampler = Sampler(SamplingParams(temperature=0), model.config.vocab_size, [])
    mass = torch.empty(len(state.sparse), state.capacity or 0, device="meta")
    run = Pass(model, state, sampler.chooser, sampler.seen_tokens.to("meta"), mass, size, None)
    run.compute_on_device()
    if size > 1:
        run.confirm_on_device()


def _state_at(model: SalaModel, position: int, room: int) -> SalaState:
    """A state of `position` tokens with room for more."""
    state = model.new_state()
    state.reserve(position + room)
    state.set_position(position)
    return state


def _without_numbers(model: SalaModel) -> SalaModel:
    """A copy on the meta device, with one layer of each kind and the last one: other layers launch the same."""
    last = model.config.num_hidden_layers - 1
    kinds = {_kind(model, layer): layer for layer in range(last, -1, -1)}  # kind -> its first layer
    kept = sorted({*kinds.values(), last})
    weights = {name: _empty(weight) for name, weight in model.weights.items() if not name.startswith("model.layers.")}
    for new, old in enumerate(kept):
        start = f"model.layers.{old}."
        for name, weight in model.weights.items():
            if name.startswith(start):
                weights[f"model.layers.{new}.{name.removeprefix(start)}"] = _empty(weight)
    mixers = tuple(model.config.mixer_types[layer] for layer in kept)
    config = replace(model.config, num_hidden_layers=len(kept), mixer_types=mixers)
    return SalaModel(config, weights, backend="triton", kv=model.kv)


def _kind(model: SalaModel, layer: int) -> object:
    """What the launches of a layer depend on: its mixer, and how its matrices are stored."""
    start = f"model.layers.{layer}."
    stored = {name.removeprefix(start): _storage(w) for name, w in model.weights.items() if name.startswith(start)}
    return model.config.mixer_types[layer], *sorted(stored.items())


def _storage(weight: Tensor | Int4Weight) -> tuple[object, ...]:
    if isinstance(weight, Tensor):
        return ("plain",)
    return weight.group_size, weight.zeros is None, weight.inputs is None


def _empty(weight: Tensor | Int4Weight) -> Tensor | Int4Weight:
    """The same shape and dtype on the meta device."""
    if isinstance(weight, Tensor):
        return weight.to("meta")
    assert isinstance(weight, Int4Matrix), "the kernels are those of a card"
    zeros, inputs, slots = (None if x is None else x.to("meta") for x in (weight.zeros, weight.inputs, weight.slots))
    words, scales = weight.words.to("meta"), weight.scales.to("meta")
    return replace(weight, words=words, scales=scales, zeros=zeros, inputs=inputs, slots=slots)
