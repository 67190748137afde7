"""The forward pass of MiniCPM-SALA (arXiv:2602.11761). Where paper and checkpoint differ, it follows the checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from sala_kernels import (
    Backend,
    BlockLayout,
    Int4Weight,
    block_attention,
    block_scores,
    choose_blocks,
    lightning_attention,
    lightning_decode,
    lightning_log_decay,
    qk_norm_rotary,
    use_triton,
)
from torch import Tensor

from sala_core.model.chunk_pipeline import LayerOrder, run_pipelined
from sala_core.model.config import SalaConfig, SparseConfig
from sala_core.model.layers import Layers
from sala_core.model.state import KvKind, SalaState, SparseCache

QUERIES_SCORED = 1024
"""Queries whose blocks are scored at once by Triton. At a million tokens their scores take 128 MiB."""

QUERIES_SCORED_BY_CPU = 256
"""The same on a CPU. Each batch copies the window keys into a layout for matrix products."""


def block_layout(sparse: SparseConfig) -> BlockLayout:
    """The blocks that a query attends to: initial, local, and `slots` chosen ones."""
    return BlockLayout(
        stride=sparse.kernel_stride,
        block=sparse.block_size,
        init=sparse.init_blocks,
        local=sparse.local_blocks,
        slots=sparse.num_selected_blocks - sparse.init_blocks - sparse.local_blocks,
    )


class AttentionTrace:
    """Attention that each key received in the sparse layers. Evidence and quotations are ranked by it.

    `mass[layer]`: [n] fp32, attention probability per key, summed over heads and over the traced queries.
    """

    def __init__(self) -> None:
        self.mass: dict[int, Tensor] = {}

    def buffer(self, layer: int, num_keys: int, device: torch.device) -> Tensor:
        """The layer's mass, extended with zeros to [num_keys]. Callers add to it in place."""
        held = self.mass.get(layer)
        if held is None or held.shape[0] < num_keys:
            grown = torch.zeros(num_keys + num_keys // 4, dtype=torch.float32, device=device)
            if held is not None:
                grown[: held.shape[0]] = held
            self.mass[layer] = held = grown
        return held[:num_keys]


@dataclass(frozen=True, kw_only=True)
class _Call:
    """The arguments of one `SalaModel.prefill`. position: of its first token. layer_lock: held while a layer's cache or
    state is used."""

    state: SalaState
    position: int
    dense: bool = False
    trace: AttentionTrace | None = None
    choices: dict[int, Tensor] | None = None
    blocks: Tensor | None = None
    num_layers: int | None = None
    last_only: bool = False
    layer_lock: Callable[[int], AbstractContextManager[None]] = lambda layer: nullcontext()


class SalaModel(Layers):
    """The model: prefill over a state. Holds no conversation. All methods run without gradients."""

    def __init__(
        self,
        config: SalaConfig,
        weights: Mapping[str, Tensor | Int4Weight],
        *,
        backend: Backend = "auto",
        kv: KvKind = "plain",
    ) -> None:
        """Prepare the layers. kv: number format of keys and values in its states.

        Args:
            config: the model's configuration.
            weights: as `Layers` takes them.
            backend: computes every operation.
            kv: number format of keys and values in new states.
        """
        super().__init__(config, weights, backend=backend)
        self.kv = kv
        self._triton = use_triton(backend, self._embedding)
        self.log_decay = lightning_log_decay(config.lightning_nh, self.device)
        self.layout = block_layout(config.sparse_config)

    @property
    def can_be_captured(self) -> bool:
        """Whether a CUDA graph can capture passes whose position is a tensor.

        The kernels read the position themselves; the reference implementations read it on the host, on a card too
        (without Triton, in float64).
        """
        return self._triton and self.device.type == "cuda"

    def new_state(self) -> SalaState:
        """An empty state."""
        return SalaState(self.config, self.dtype, self.device, self.kv)

    @torch.inference_mode()
    def prefill(
        self,
        state: SalaState,
        ids: Tensor,
        *,
        dense: bool = False,
        trace: AttentionTrace | None = None,
        choices: dict[int, Tensor] | None = None,
        blocks: Tensor | None = None,
        num_layers: int | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Prefill T tokens.

        Args:
            state: advances by T.
            ids: [T] int64, on the model's device.
            dense: use full attention in the sparse layers.
            trace: the attention of these tokens is added to it.
            choices: if given, receives the blocks that each sparse layer chose, [kv heads, T, slots].
            blocks: [slots] int64, -1 in empty slots: the blocks that every query attends to, beside the initial and
                local ones, of which they contain none. None: each query chooses its own.
            num_layers: run only the first `num_layers` layers. The other layers' caches do not advance, so the state
                must be rewound afterwards.
            last_only: in the last layer, compute keys, values and state for all tokens, but the output of the last
                token alone: no other token needs it. The resulting state is the same.

        Returns the hidden states before the final norm, [T, D], or [1, D] with last_only.
        """
        call = _Call(
            state=state,
            position=state.position,
            dense=dense,
            trace=trace,
            choices=choices,
            blocks=blocks,
            num_layers=num_layers,
            last_only=last_only,
        )
        hidden = self._compute(ids, call)
        state.position += ids.shape[0]
        return hidden

    def prefill_pipelined(self, state: SalaState, chunks: Sequence[Tensor]) -> Tensor:
        """Prefill several chunks on a CPU, one core per chunk. Same result as `prefill` with last_only on one after
        the other.

        chunks: ids [T] each. `state` advances by all of them. Returns the hidden state of the last token, [1, D].
        """
        *starts, end = accumulate(map(len, chunks), initial=state.position)

        @torch.inference_mode()
        def compute(n: int, order: LayerOrder) -> Tensor:
            call = _Call(state=state, position=starts[n], last_only=True, layer_lock=partial(order.take, n))
            return self._compute(chunks[n], call)

        hidden = run_pipelined(compute, len(chunks))
        state.position = end
        return hidden[-1]

    def _compute(self, ids: Tensor, call: _Call) -> Tensor:
        """The hidden states that `prefill` returns. Does not advance `state.position`."""
        cos_sin = None  # the same in every layer
        if self.config.lightning_use_rope:
            cos_sin = self.rotary_angles(call.position, ids.shape[0], self.config.lightning_head_dim)
        return self.run_layers(
            ids,
            sparse=partial(self._sparse_mixer, call=call),
            lightning=partial(self._lightning_mixer, call=call, cos_sin=cos_sin),
            num_layers=call.num_layers,
        )

    def _lightning_mixer(self, i: int, x: Tensor, *, call: _Call, cos_sin: Tensor | None) -> Tensor:
        """x: [T, D], normed. Updates the layer's state [H, K, V] in place. Returns what a `Mixer` does."""
        q, k, v = self.lightning_qkv(i, x)
        q_norm, k_norm = self.lightning_norms(i)
        scale, eps, held = self.config.lightning_query_scale, self.config.rms_norm_eps, call.state.linear[i][None]
        if x.shape[0] == 1:
            with call.layer_lock(i):
                o = lightning_decode(
                    q,
                    k,
                    v,
                    held,
                    self.log_decay,
                    scale=scale,
                    q_norm=q_norm,
                    k_norm=k_norm,
                    eps=eps,
                    cos_sin=cos_sin,
                    backend=self.backend,
                )
        else:
            q, k = qk_norm_rotary(q, k, q_norm, k_norm, cos_sin, eps=eps, backend=self.backend)
            with call.layer_lock(i):
                out, after = lightning_attention(
                    q[None], k[None], v[None], held, self.log_decay, scale=scale, backend=self.backend
                )
                held.copy_(after)
            o = out[0]
        first = self._first_output(i, call)
        return self.lightning_out(i, x[first:], o[first:])

    def _sparse_mixer(self, i: int, x: Tensor, *, call: _Call) -> Tensor:
        """x: [T, D], normed. Appends to the layer's KV cache. Returns what a `Mixer` does."""
        cache, position = call.state.sparse[i], call.position
        q, k, v = self.sparse_qkv(i, x, position)
        with call.layer_lock(i):
            cache.append(k.transpose(0, 1), v.transpose(0, 1), backend=self.backend)
        if call.num_layers == i + 1 and call.trace is None and call.choices is None:
            return x  # nothing uses the output of the last layer of a pass through some layers
        first = self._first_output(i, call)
        q, x = q[first:], x[first:]
        position += len(k) - len(q)
        scale = self.config.head_dim**-0.5
        if call.dense:
            chosen = None
        elif call.blocks is not None:
            chosen = call.blocks.repeat(self.config.num_key_value_heads, len(q), 1)
        else:
            chosen = self._choose(q, cache, position, scale)
        if call.choices is not None and chosen is not None:
            call.choices[i] = chosen
        mass = call.trace.buffer(i, position + x.shape[0], x.device) if call.trace else None
        o = block_attention(
            q,
            cache.keys,
            cache.values,
            chosen,
            position=position,
            scale=scale,
            layout=self.layout,
            mass=mass,
            backend=self.backend,
        )
        return self.sparse_out(i, x, o)

    def _first_output(self, layer: int, call: _Call) -> int:
        """Index of the first token whose output of the layer is needed: 0, or -1 for the last token alone."""
        return -1 if call.last_only and layer == self.config.num_hidden_layers - 1 else 0

    def _choose(self, q: Tensor, cache: SparseCache, position: int, scale: float) -> Tensor | None:
        """The top-k blocks of every query, [kv heads, T, slots], -1 for queries that attend to all keys before them.
        None where all queries do.

        Queries are scored in batches, so that the scores [kv heads, queries, blocks] stay small for any T.
        """
        layout, T = self.layout, q.shape[0]
        start = max(0, layout.max_blocks * layout.block - position)
        if start >= T:
            return None
        fine, coarse = cache.fine, cache.coarse
        step = QUERIES_SCORED if self._triton else QUERIES_SCORED_BY_CPU
        tiles = [torch.full((self.config.num_key_value_heads, start, layout.slots), -1, device=q.device)]
        while start < T:
            at = position + start
            stop = min(T, start + step - at % step)
            scored = block_scores(
                q[start:stop], fine, coarse, position=at, scale=scale, layout=layout, backend=self.backend
            )
            tiles.append(choose_blocks(scored, position=at, layout=layout, backend=self.backend))
            del scored  # else two batches of scores are in memory
            start = stop
        return torch.cat(tiles, 1)
