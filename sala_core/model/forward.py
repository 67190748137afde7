"""The forward pass of MiniCPM-SALA (arXiv:2602.11761); where paper and released checkpoint differ, the checkpoint's."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from sala_kernels import (
    Backend,
    BlockLayout,
    Int4Matrix,
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
from sala_core.model.config import SalaConfig
from sala_core.model.layers import Layers
from sala_core.model.state import KvKind, SalaState, SparseCache

QUERIES_SCORED = 1024
"""By Triton at once: at a million tokens their scores take 128 MiB."""

QUERIES_SCORED_BY_CPU = 256
"""The keys of the windows are laid out anew for each so many."""


class AttentionTrace:
    """How much the sparse layers looked at every key while tokens were computed; the raw material of evidence.

    `mass[layer]`: [n] fp32, attention probability of every key, summed over heads and over the queries traced.
    """

    def __init__(self) -> None:
        self.mass: dict[int, Tensor] = {}

    def buffer(self, layer: int, num_keys: int, device: torch.device) -> Tensor:
        """The layer's mass, grown with zeros to [num_keys]; to be added to in place."""
        held = self.mass.get(layer)
        if held is None or held.shape[0] < num_keys:
            grown = torch.zeros(num_keys + num_keys // 4, dtype=torch.float32, device=device)
            if held is not None:
                grown[: held.shape[0]] = held
            self.mass[layer] = held = grown
        return held[:num_keys]


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One call of `SalaModel.prefill`, with its options; position: of its first token. my_turn: entered where a layer
    remembers."""

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
    """A model that reads; holds no conversation. All methods run without gradients."""

    def __init__(
        self,
        config: SalaConfig,
        weights: Mapping[str, Tensor | Int4Matrix],
        *,
        backend: Backend = "auto",
        kv: KvKind = "plain",
    ) -> None:
        """weights, backend: as in `Layers`. kv: how its states hold keys and values."""
        super().__init__(config, weights, backend=backend)
        self.kv = kv
        self._triton = use_triton(backend, self._embedding)
        self.log_decay = lightning_log_decay(config.lightning_nh, self.device)
        sparse = config.sparse_config
        self.layout = BlockLayout(
            stride=sparse.kernel_stride,
            block=sparse.block_size,
            init=sparse.init_blocks,
            local=sparse.local_blocks,
            slots=sparse.num_selected_blocks - sparse.init_blocks - sparse.local_blocks,
        )

    def new_state(self) -> SalaState:
        """A state that has read nothing."""
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
        """Read T tokens: ids [T] int64 on the model's device. `state` moves on by T.

        dense: sparse layers attend to every key. trace: is added to. blocks: [slots] int64, which every query attends
        to beside the first and local ones, -1 in empty slots; neither first nor local for any of them. None lets each
        choose. choices: if given, receives every sparse layer's blocks, [kv heads, T, slots]. num_layers: as in
        `forward`; what the other layers remember does not move, so the state is good for nothing but to be rewound.
        last_only: the last layer's output serves no token but the next one, so compute what that layer remembers and,
        of its output, the last token's. The state is the same.
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
        """Read the tokens of several chunks as `prefill` with last_only would one after another, on a CPU, one core
        for each.

        chunks: ids [T] each. `state` moves on by all. Returns what `prefill` would for the last one.
        """
        *starts, end = accumulate(map(len, chunks), initial=state.position)

        @torch.inference_mode()
        def compute(n: int, turns: LayerOrder) -> Tensor:
            call = _Call(state=state, position=starts[n], last_only=True, layer_lock=partial(turns.take, n))
            return self._compute(chunks[n], call)

        hidden = run_pipelined(compute, len(chunks))
        state.position = end
        return hidden[-1]

    def _compute(self, ids: Tensor, call: _Call) -> Tensor:
        """The hidden states that `prefill` returns; the state is not told that it has moved."""
        turn = None  # the same in every layer: cos and sin of the positions
        if self.config.lightning_use_rope:
            turn = self.turn(call.position, ids.shape[0], self.config.lightning_head_dim)
        return self.forward(
            ids,
            sparse=partial(self._sparse_mixer, call=call),
            lightning=partial(self._lightning_mixer, call=call, turn=turn),
            num_layers=call.num_layers,
        )

    def _lightning_mixer(self, i: int, x: Tensor, *, call: _Call, turn: Tensor | None) -> Tensor:
        """x: [T, D] normed; the layer's state [H, K, V] is updated in place. Returns a `Mixer`'s."""
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
                    cos_sin=turn,
                    backend=self.backend,
                )
        else:
            q, k = qk_norm_rotary(q, k, q_norm, k_norm, turn, eps=eps, backend=self.backend)
            with call.layer_lock(i):
                out, after = lightning_attention(
                    q[None], k[None], v[None], held, self.log_decay, scale=scale, backend=self.backend
                )
                held.copy_(after)
            o = out[0]
        first = self._first_wanted(i, call)
        return self.lightning_out(i, x[first:], o[first:])

    def _sparse_mixer(self, i: int, x: Tensor, *, call: _Call) -> Tensor:
        """x: [T, D] normed; the layer's cache is appended to. Returns a `Mixer`'s."""
        cache, position = call.state.sparse[i], call.position
        q, k, v = self.sparse_qkv(i, x, position)
        with call.layer_lock(i):
            cache.append(k.transpose(0, 1), v.transpose(0, 1), backend=self.backend)
        first = self._first_wanted(i, call)
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

    def _first_wanted(self, layer: int, call: _Call) -> int:
        """From which of its tokens on a layer's output is needed; -1 is the last one."""
        return -1 if call.last_only and layer == self.config.num_hidden_layers - 1 else 0

    def _choose(self, q: Tensor, cache: SparseCache, position: int, scale: float) -> Tensor | None:
        """Chosen blocks of every query, [kv heads, T, slots], -1 for those that attend to everything before them; None
        where all do.

        Scored some queries at a time, so that the scores [kv heads, queries, blocks] stay small whatever T is.
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
            del scored  # or it would lie beside the next ones
            start = stop
        return torch.cat(tiles, 1)
