"""Decoding passes: a few tokens at a time, with all tensors at fixed addresses. With the kernels they are CUDA graphs.

A pass reads the position and the tokens from device memory, works on all rows that the state has reserved, and never
waits for the device. A pass over one token advances the state. In a pass over several tokens only the first is certain,
so the linear states stay as they were; the pass keeps what is needed to advance them by any number of its tokens. Cache
rows after the confirmed tokens are overwritten by later passes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from sala_kernels import (
    add_key_mass,
    block_attention,
    block_scores,
    choose_blocks,
    lightning_advance,
    lightning_decode,
    lightning_verify,
)
from torch import Tensor

from sala_core.engine.one_token import OneTokenPass
from sala_core.engine.sampling import Chooser, Sampler
from sala_core.engine.speculation import MAX_DRAFT_TOKENS
from sala_core.model.forward import AttentionTrace, SalaModel
from sala_core.model.state import SalaState

MAX_PASS_TOKENS = MAX_DRAFT_TOKENS + 1
GRAPH_TOKENS = (1, 4, MAX_PASS_TOKENS)
"""Sizes of passes that are graphs; a shorter pass is padded."""


def drafts_gain(model: SalaModel) -> bool:
    """Whether answers are decoded faster with drafts.

    Not where a step over one token is cheap by itself: a pass over four tokens takes as long as seven such steps.
    """
    return not OneTokenPass.supports(model)


class Decoder:
    """Passes over a state's buffers, with one set of sampling parameters. Valid until the buffers move.

    Holds views of the state's buffers, not the state itself.
    """

    def __init__(
        self, model: SalaModel, state: SalaState, sampler: Sampler, *, traced: bool, graphs: bool | None = None
    ) -> None:
        """Prepare passes over the state's buffers as they are.

        Args:
            model: computes the passes.
            state: supplies the buffers.
            sampler: supplies the sampling parameters and the tokens seen so far.
            traced: sum up the attention that each key receives.
            graphs: use CUDA graphs. None: wherever the model's passes can be captured (`SalaModel.can_be_captured`).

        Raises ValueError for graphs of passes that cannot be captured.
        """
        if graphs and not model.can_be_captured:
            raise ValueError("the reference implementations read positions on the host; no CUDA graph can capture that")
        self._model = model
        self._chooser = sampler.chooser
        use_graphs = model.can_be_captured if graphs is None else graphs
        self._pool = torch.cuda.graph_pool_handle() if use_graphs else None
        self._passes: dict[int, Pass | OneTokenPass] = {}
        self._seen_tokens = sampler.seen_tokens.clone()
        self._mass = None
        if traced and state.capacity:
            shape = (len(state.sparse), state.capacity)
            self._mass = torch.zeros(shape, dtype=torch.float32, device=model.device)
        self._last: Pass | OneTokenPass | None = None

    @staticmethod
    def key(state: SalaState, sampler: Sampler, *, traced: bool) -> tuple[object, ...]:
        """Decoders with equal keys are interchangeable."""
        return state.buffers_key(), sampler.chooser, traced

    @torch.inference_mode()
    def step(self, state: SalaState, tokens: Sequence[int], sampler: Sampler) -> list[int]:
        """Compute at most MAX_PASS_TOKENS tokens that follow the state. Returns the token chosen after each.

        -1 stands for logits that are not finite. The state must not be used until `confirm` is called. Raises
        ValueError where the state has not reserved enough rows.
        """
        count = len(tokens)
        size = next(n for n in GRAPH_TOKENS if n >= count) if self._pool else count
        if state.capacity is not None and state.position + size > state.capacity:
            raise ValueError(f"{size} tokens at {state.position} do not fit into room for {state.capacity}")
        if size not in self._passes:
            self._passes[size] = self._pass(state, size)
        self._last = run = self._passes[size]
        if self._chooser.repetition_penalty != 1:
            self._seen_tokens.copy_(sampler.seen_tokens)
        return run.compute(state.position, tokens, sampler.uniforms(count))[:count]

    def _pass(self, state: SalaState, size: int) -> "Pass | OneTokenPass":
        if size == 1 and OneTokenPass.supports(self._model):
            return OneTokenPass(self._model, state, self._chooser, self._seen_tokens, self._mass)
        return Pass(self._model, state, self._chooser, self._seen_tokens, self._mass, size, self._pool)

    @torch.inference_mode()
    def confirm(self, state: SalaState, count: int) -> None:
        """Accept the first `count` tokens of the last step: `state` advances by them."""
        assert self._last is not None, "nothing to confirm"
        self._last.confirm(count)
        self._last = None
        state.set_position(state.position + count)

    @torch.inference_mode()
    def discard_trace(self) -> None:
        """Drop the attention summed since the last `collect`."""
        if self._mass is not None:
            self._mass.zero_()

    @torch.inference_mode()
    def collect(self, trace: AttentionTrace, state: SalaState) -> None:
        """Add the attention summed since the last call to `trace`, and reset it."""
        if self._mass is None:
            return
        for row, layer in zip(self._mass, state.sparse, strict=True):
            trace.buffer(layer, state.position, row.device).add_(row[: state.position])
        self.discard_trace()


class Pass:
    """The computation of `size` tokens, with inputs, outputs and intermediate tensors at fixed addresses."""

    def __init__(
        self,
        model: SalaModel,
        state: SalaState,
        chooser: Chooser,
        seen_tokens: Tensor,
        mass: Tensor | None,
        size: int,
        pool: Any,
    ) -> None:
        """Allocate the inputs, the outputs and what `confirm` needs.

        Args:
            model: computes the pass.
            state: supplies the buffers.
            chooser: chooses a token from each row of logits.
            seen_tokens: [vocab + 1] bool, tokens that the repetition penalty applies to.
            mass: [sparse layers, capacity] fp32, the attention of every key is added to it. None: untraced.
            size: tokens in the pass.
            pool: handle of the memory that all graphs share. None: no graphs.
        """
        config, device = model.config, model.device
        self._model, self._chooser, self._seen_tokens, self._mass, self._size = model, chooser, seen_tokens, mass, size
        self._caches, self._linear, self._states = state.sparse, state.linear, state.linear_states
        self._sparse_index = {layer: n for n, layer in enumerate(state.sparse)}
        self._linear_index = {layer: n for n, layer in enumerate(state.linear)}
        self._pool = pool
        self._inputs = _Mirrored(size + 1, torch.int64, device)  # the position, then the tokens
        self._uniforms = _Mirrored(size, torch.float64, device)
        self._count = _Mirrored(1, torch.int64, device)
        self._chosen = _Mirrored(size, torch.int64, device)
        if size > 1:
            rows = (len(state.linear), size, config.lightning_nkv, config.lightning_head_dim)
            self._keys, self._values = (torch.zeros(rows, dtype=model.dtype, device=device) for _ in range(2))
            self._queries: dict[int, Tensor] = {}
            self._blocks: dict[int, Tensor] = {}
        self._graphs: dict[Callable[[], None], torch.cuda.CUDAGraph] = {}

    @property
    def _position(self) -> Tensor:
        return self._inputs.device[:1]

    def compute(self, position: int, tokens: Sequence[int], uniforms: Sequence[float]) -> list[int]:
        """Run the pass. Returns the token chosen after each of `tokens`, then after the padding.

        position: of the first token. uniforms: the random numbers of `Sampler.uniforms`.
        """
        self._inputs.host[0] = position
        self._inputs.host[1 : 1 + len(tokens)] = torch.tensor(tokens)
        self._uniforms.host[: len(uniforms)] = torch.tensor(uniforms, dtype=torch.float64)
        self._inputs.send()
        self._uniforms.send()
        self._run(self.compute_on_device)
        return self._chosen.receive()

    def confirm(self, count: int) -> None:
        """Advance the linear states by the first `count` tokens, and add the attention of these tokens."""
        if self._size == 1:
            assert count == 1, "a pass over one token has advanced the state"
            return
        self._count.host[0] = count
        self._count.send()
        self._run(self.confirm_on_device)

    def compute_on_device(self) -> None:
        """The pass on the device, from input ids to chosen tokens."""
        config, size = self._model.config, self._size
        cos_sin = None
        if config.lightning_use_rope:
            cos_sin = self._model.rotary_angles(self._position, size, config.lightning_head_dim)
        hidden = self._model.run_layers(
            self._inputs.device[1:],
            sparse=self._sparse_mixer,
            lightning=partial(self._lightning_mixer, cos_sin=cos_sin),
        )
        logits = self._model.logits(hidden)
        self._chosen.device.copy_(
            self._chooser(logits, self._seen_tokens, self._inputs.device[2:], self._uniforms.device)
        )

    def _lightning_mixer(self, i: int, x: Tensor, *, cos_sin: Tensor | None) -> Tensor:
        """x: [T, D], normed. Returns [T, D]."""
        model, config = self._model, self._model.config
        q, k, v = model.lightning_qkv(i, x)
        q_norm, k_norm = model.lightning_norms(i)
        step = lightning_decode if self._size == 1 else lightning_verify
        state = self._linear[i][None] if self._size == 1 else self._linear[i]
        output = step(
            q,
            k,
            v,
            state,
            model.log_decay,
            scale=config.lightning_query_scale,
            q_norm=q_norm,
            k_norm=k_norm,
            eps=config.rms_norm_eps,
            cos_sin=cos_sin,
            backend=model.backend,
        )
        if isinstance(output, Tensor):
            return model.lightning_out(i, x, output)
        o, k_ready = output
        self._keys[self._linear_index[i]].copy_(k_ready)
        self._values[self._linear_index[i]].copy_(v)
        return model.lightning_out(i, x, o)

    def _sparse_mixer(self, i: int, x: Tensor) -> Tensor:
        """x: [T, D], normed. Returns [T, D]."""
        model, position = self._model, self._position
        q, k, v = model.sparse_qkv(i, x, position)
        cache = self._caches[i]
        cache.write(k, v, position, backend=model.backend)
        rows = cache.reserved()
        scale = model.config.head_dim**-0.5
        scores = block_scores(
            q, rows.fine, rows.coarse, position=position, scale=scale, layout=model.layout, backend=model.backend
        )
        blocks = choose_blocks(scores, position=position, layout=model.layout, backend=model.backend)
        mass = None if self._mass is None or self._size > 1 else self._mass[self._sparse_index[i]]
        o = block_attention(
            q,
            rows.keys,
            rows.values,
            blocks,
            position=position,
            scale=scale,
            layout=model.layout,
            mass=mass,
            backend=model.backend,
        )
        if self._mass is not None and self._size > 1:
            self._keep(self._queries, i, q)
            self._keep(self._blocks, i, blocks)
        return model.sparse_out(i, x, o)

    def _keep(self, kept: dict[int, Tensor], layer: int, x: Tensor) -> None:
        """Copy x to a tensor of its own: a graph reuses the memory of its inner tensors."""
        if layer not in kept:
            kept[layer] = torch.empty_like(x, memory_format=torch.contiguous_format)
        kept[layer].copy_(x)

    def confirm_on_device(self) -> None:
        """Make the confirmed tokens part of the linear states and of the trace."""
        model, count = self._model, self._count.device
        lightning_advance(self._states, self._keys, self._values, model.log_decay, count, backend=model.backend)
        if self._mass is None:
            return
        for i, n in self._sparse_index.items():
            add_key_mass(
                self._queries[i],
                self._caches[i].reserved().keys,
                self._blocks[i],
                self._mass[n],
                position=self._position,
                count=count,
                scale=model.config.head_dim**-0.5,
                layout=model.layout,
                backend=model.backend,
            )

    def _run(self, work: Callable[[], None]) -> None:
        """Run `work`, as a CUDA graph where there is a pool."""
        if self._pool is None:
            work()
            return
        if work not in self._graphs:
            self._graphs[work] = self._capture(work, self._pool)
        self._graphs[work].replay()

    def _capture(self, work: Callable[[], None], pool: Any) -> torch.cuda.CUDAGraph:
        """Capture `work` as a graph, after two runs that compile kernels and allocate library workspaces.

        Linear states and mass are restored afterwards. The cache rows that the runs wrote are written again by the
        graph.
        """
        kept = [(x, x.clone()) for x in (self._states, self._mass) if x is not None]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            work()
        for x, before in kept:
            x.copy_(before)
        return graph


class _Mirrored:
    """A few numbers on the device, with a page-locked copy on the host, so that transfers are asynchronous."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.host = torch.zeros(size, dtype=dtype, pin_memory=device.type == "cuda")
        self.device = self.host if device.type == "cpu" else torch.zeros(size, dtype=dtype, device=device)

    def send(self) -> None:
        """Copy from the host to the device. The host copy may be changed after the next `receive` of any instance."""
        if self.device is not self.host:
            self.device.copy_(self.host, non_blocking=True)

    def receive(self) -> list[int]:
        """The device's numbers, after all earlier work has finished."""
        if self.device is not self.host:
            self.host.copy_(self.device, non_blocking=True)
            torch.cuda.current_stream(self.device.device).synchronize()
        return [int(number) for number in self.host]
