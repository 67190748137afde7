"""The forward pass of MiniCPM-SALA (arXiv:2602.11761); where paper and released checkpoint differ, the checkpoint's."""

from collections.abc import Mapping

import torch
from sala_kernels import (
    Backend,
    BlockLayout,
    Int4Matrix,
    add_rms_norm,
    block_attention,
    block_scores,
    choose_blocks,
    gated_norm,
    int4_linear,
    int4_swiglu,
    lightning_attention,
    lightning_decode,
    lightning_log_decay,
    qk_norm_rotary,
    rms_norm,
    rotary_cos_sin,
    swiglu,
    use_triton,
)
from torch import Tensor
from torch.nn.functional import linear

from sala_core.config import SalaConfig
from sala_core.state import KvKind, SalaState, SparseCache

_QUERIES_SCORED = 1024  # by Triton at once: at a million tokens their scores take 128 MiB


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


class SalaModel:
    """Weights and config; computes, holds no conversation. All methods run without gradients."""

    def __init__(
        self,
        config: SalaConfig,
        weights: Mapping[str, Tensor | Int4Matrix],
        *,
        backend: Backend = "auto",
        kv: KvKind = "plain",
    ) -> None:
        """weights: HF names (`model.layers.{i}. ...`), one device; one float dtype, or matrices of 4-bit integers.

        backend: what computes every operation. kv: how its states hold keys and values.
        """
        self.config, self.kv = config, kv
        self.weights = weights
        self._embedding = embedding = self._tensor("model.embed_tokens.weight")
        self.dtype, self.device = embedding.dtype, embedding.device
        self._backend = backend
        self._triton = use_triton(backend, embedding)
        self._head = embedding if config.tie_word_embeddings else weights["lm_head.weight"]
        self._log_decay = lightning_log_decay(config.lightning_nh, self.device)
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
    def advance(
        self,
        state: SalaState,
        ids: Tensor,
        *,
        dense: bool = False,
        trace: AttentionTrace | None = None,
        choices: dict[int, Tensor] | None = None,
    ) -> Tensor:
        """Read T tokens: ids [T] int64 on the model's device. `state` moves on by T.

        dense: sparse layers attend to every key. trace: is added to. choices: if given, receives every sparse layer's
        chosen blocks, [kv heads, T, slots]. Returns the hidden states before the final norm, [T, D].
        """
        config = self.config
        turn = None  # the same in every layer: cos and sin of the positions
        if config.lightning_use_rope:
            turn = self._turn(state.position, ids.shape[0], config.lightning_head_dim)
        h = self._embedding[ids] * config.scale_emb
        x = self._norm(0, "input_layernorm", h)
        for i, kind in enumerate(config.mixer_types):
            if kind == "minicpm4":
                mixed = self._sparse_mixer(i, x, state.sparse[i], state.position, dense, trace, choices)
            else:
                mixed = self._lightning_mixer(i, x, state.linear[i], turn)
            x = self._add_norm(i, "post_attention_layernorm", h, mixed)
            update = self._linear(i, "mlp.down_proj", self._swiglu(i, x))
            if i + 1 < config.num_hidden_layers:
                x = self._add_norm(i + 1, "input_layernorm", h, update)
            else:
                h += update * config.residual_scale
        state.position += ids.shape[0]
        return h

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """[T, D] hidden states to [T, vocab] fp32 logits."""
        weight = self._tensor("model.norm.weight")
        x = rms_norm(hidden, weight, self.config.rms_norm_eps, backend=self._backend)
        return self._multiply(x * self.config.logit_scale, self._head).float()

    def _tensor(self, name: str) -> Tensor:
        weight = self.weights[name]
        assert isinstance(weight, Tensor), f"{name} must not be packed"
        return weight

    def _weight(self, layer: int, name: str) -> Tensor:
        return self._tensor(f"model.layers.{layer}.{name}.weight")

    def _multiply(self, x: Tensor, weight: Tensor | Int4Matrix) -> Tensor:
        """[T, in] -> [T, out] by a plain or packed matrix."""
        return int4_linear(x, weight, backend=self._backend) if isinstance(weight, Int4Matrix) else linear(x, weight)

    def _linear(self, layer: int, name: str, x: Tensor) -> Tensor:
        """[T, in] -> [T, out] by a matrix of the layer."""
        return self._multiply(x, self.weights[f"model.layers.{layer}.{name}.weight"])

    def _swiglu(self, layer: int, x: Tensor) -> Tensor:
        """[T, D] -> [T, F]: silu of the gate times up."""
        gate, up = (self.weights[f"model.layers.{layer}.mlp.{name}_proj.weight"] for name in ("gate", "up"))
        if isinstance(gate, Int4Matrix) and isinstance(up, Int4Matrix):
            return int4_swiglu(x, gate, up, backend=self._backend)
        return swiglu(self._multiply(x, gate), self._multiply(x, up), backend=self._backend)

    def _project(self, layer: int, name: str, x: Tensor, heads: int) -> Tensor:
        """[T, D] -> [T, heads, d]."""
        return self._linear(layer, f"self_attn.{name}", x).view(x.shape[0], heads, -1)

    def _norm(self, layer: int, name: str, h: Tensor) -> Tensor:
        return rms_norm(h, self._weight(layer, name), self.config.rms_norm_eps, backend=self._backend)

    def _add_norm(self, layer: int, name: str, h: Tensor, update: Tensor) -> Tensor:
        """h += update * residual scale, in place; returns h normed for what comes next."""
        weight, config = self._weight(layer, name), self.config
        return add_rms_norm(h, update, weight, config.rms_norm_eps, scale=config.residual_scale, backend=self._backend)

    def _turn(self, position: int, num_tokens: int, dim: int) -> Tensor:
        """cos and sin, [2, T, d / 2]."""
        return rotary_cos_sin(position, num_tokens, dim, self.config.rope_theta, self.device)

    def _lightning_mixer(self, i: int, x: Tensor, state: Tensor, turn: Tensor | None) -> Tensor:
        """x: [T, D] normed; state [H, K, V] updated in place; turn: of `_turn`. Returns [T, D]."""
        config, backend = self.config, self._backend
        q = self._project(i, "q_proj", x, config.lightning_nh)
        k = self._project(i, "k_proj", x, config.lightning_nkv)
        v = self._project(i, "v_proj", x, config.lightning_nkv)
        q_norm, k_norm = (self._weight(i, f"self_attn.{name}_norm") if config.qk_norm else None for name in "qk")
        scale, eps = config.lightning_query_scale, config.rms_norm_eps
        if x.shape[0] == 1:
            o = lightning_decode(
                q,
                k,
                v,
                state[None],
                self._log_decay,
                scale=scale,
                q_norm=q_norm,
                k_norm=k_norm,
                eps=eps,
                cos_sin=turn,
                backend=backend,
            )
        else:
            q, k = qk_norm_rotary(q, k, q_norm, k_norm, turn, eps=eps, backend=backend)
            out, after = lightning_attention(
                q[None], k[None], v[None], state[None], self._log_decay, scale=scale, backend=backend
            )
            o = out[0]
            state.copy_(after[0])
        weight = self._weight(i, "self_attn.o_norm") if config.use_output_norm else None
        if config.use_output_gate:
            o = gated_norm(o, self._linear(i, "self_attn.z_proj", x), weight, eps=eps, backend=backend)
        elif weight is not None:
            o = rms_norm(o.reshape(len(o), -1), weight, eps, backend=backend)
        return self._linear(i, "self_attn.o_proj", o.reshape(len(o), -1))

    def _sparse_mixer(
        self,
        i: int,
        x: Tensor,
        cache: SparseCache,
        position: int,
        dense: bool,
        trace: AttentionTrace | None,
        choices: dict[int, Tensor] | None,
    ) -> Tensor:
        """x: [T, D] normed; cache is appended to. Returns [T, D]."""
        config, T = self.config, x.shape[0]
        q = self._project(i, "q_proj", x, config.num_attention_heads)
        k = self._project(i, "k_proj", x, config.num_key_value_heads)
        v = self._project(i, "v_proj", x, config.num_key_value_heads)
        if config.attn_use_rope:
            turn = self._turn(position, T, config.head_dim)
            q, k = qk_norm_rotary(q, k, None, None, turn, eps=config.rms_norm_eps, backend=self._backend)
        cache.append(k.transpose(0, 1), v.transpose(0, 1))
        scale = config.head_dim**-0.5
        chosen = None if dense else self._choose(q, cache, position, scale)
        if choices is not None and chosen is not None:
            choices[i] = chosen
        mass = trace.buffer(i, position + T, x.device) if trace else None
        o = block_attention(
            q,
            cache.keys,
            cache.values,
            chosen,
            position=position,
            scale=scale,
            layout=self.layout,
            mass=mass,
            backend=self._backend,
        )
        if config.attn_use_output_gate:
            gate = self._linear(i, "self_attn.o_gate", x)
            o = gated_norm(o, gate, None, eps=config.rms_norm_eps, backend=self._backend)
        return self._linear(i, "self_attn.o_proj", o.reshape(T, -1))

    def _choose(self, q: Tensor, cache: SparseCache, position: int, scale: float) -> Tensor | None:
        """Chosen blocks of every query, [kv heads, T, slots]; None where all attend to everything before them.

        Scored some queries at a time, by the reference a block of them, so that the scores [kv heads, queries, blocks]
        stay small whatever T is.
        """
        layout, T = self.layout, q.shape[0]
        if (position + T - 1) // layout.block < layout.max_blocks:
            return None
        fine, coarse = cache.fine, cache.coarse
        if not self._triton:  # once, not for every block of queries
            fine, coarse = fine.float(), coarse.float()
        step = _QUERIES_SCORED if self._triton else layout.block
        tiles, start = [], 0
        while start < T:
            at = position + start
            stop = min(T, start + step - at % step)
            scores = block_scores(
                q[start:stop], fine, coarse, position=at, scale=scale, layout=layout, backend=self._backend
            )
            tiles.append(choose_blocks(scores, position=at, layout=layout, backend=self._backend))
            start = stop
        return torch.cat(tiles, 1)
