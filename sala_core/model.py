"""The forward pass of MiniCPM-SALA (arXiv:2602.11761); where paper and released checkpoint differ, the checkpoint's."""

from collections.abc import Mapping

import torch
from sala_kernels import (
    BlockLayout,
    Int4Matrix,
    apply_rotary,
    block_attention,
    block_scores,
    choose_blocks,
    int4_linear,
    int4_swiglu,
    lightning_attention,
    lightning_decode,
    lightning_log_decay,
    rms_norm,
    rotary_cos_sin,
)
from torch import Tensor
from torch.nn.functional import linear, silu

from sala_core.config import SalaConfig
from sala_core.state import SalaState, SparseCache


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

    def __init__(self, config: SalaConfig, weights: Mapping[str, Tensor | Int4Matrix]) -> None:
        """weights: HF names (`model.layers.{i}. ...`), one device; one float dtype, or matrices of 4-bit integers."""
        self.config = config
        self.weights = weights
        self._embedding = embedding = self._tensor("model.embed_tokens.weight")
        self.dtype, self.device = embedding.dtype, embedding.device
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
        return SalaState(self.config, self.dtype, self.device)

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
        h = self._embedding[ids] * config.scale_emb
        for i, kind in enumerate(config.mixer_types):
            x = rms_norm(h, self._weight(i, "input_layernorm"), config.rms_norm_eps)
            if kind == "minicpm4":
                mixed = self._sparse_mixer(i, x, state.sparse[i], state.position, dense, trace, choices)
            else:
                mixed = self._lightning_mixer(i, x, state.linear[i], state.position)
            h = h + mixed * config.residual_scale
            x = rms_norm(h, self._weight(i, "post_attention_layernorm"), config.rms_norm_eps)
            h = h + self._linear(i, "mlp.down_proj", self._swiglu(i, x)) * config.residual_scale
        state.position += ids.shape[0]
        return h

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """[T, D] hidden states to [T, vocab] fp32 logits."""
        x = rms_norm(hidden, self._tensor("model.norm.weight"), self.config.rms_norm_eps)
        return _multiply(x * self.config.logit_scale, self._head).float()

    def _tensor(self, name: str) -> Tensor:
        weight = self.weights[name]
        assert isinstance(weight, Tensor), f"{name} must not be packed"
        return weight

    def _weight(self, layer: int, name: str) -> Tensor:
        return self._tensor(f"model.layers.{layer}.{name}.weight")

    def _linear(self, layer: int, name: str, x: Tensor) -> Tensor:
        """[T, in] -> [T, out] by a plain or packed matrix of the layer."""
        return _multiply(x, self.weights[f"model.layers.{layer}.{name}.weight"])

    def _swiglu(self, layer: int, x: Tensor) -> Tensor:
        """[T, D] -> [T, F]: silu of the gate times up."""
        gate, up = (self.weights[f"model.layers.{layer}.mlp.{name}_proj.weight"] for name in ("gate", "up"))
        if isinstance(gate, Int4Matrix) and isinstance(up, Int4Matrix):
            return int4_swiglu(x, gate, up)
        return silu(_multiply(x, gate)) * _multiply(x, up)

    def _project(self, layer: int, name: str, x: Tensor, heads: int) -> Tensor:
        """[T, D] -> [T, heads, d]."""
        return self._linear(layer, f"self_attn.{name}", x).view(x.shape[0], heads, -1)

    def _lightning_mixer(self, i: int, x: Tensor, state: Tensor, position: int) -> Tensor:
        """x: [T, D] normed; state [H, K, V] updated in place. Returns [T, D]."""
        config, T = self.config, x.shape[0]
        q = self._project(i, "q_proj", x, config.lightning_nh)
        k = self._project(i, "k_proj", x, config.lightning_nkv)
        v = self._project(i, "v_proj", x, config.lightning_nkv)
        if config.qk_norm:
            q = rms_norm(q, self._weight(i, "self_attn.q_norm"), config.rms_norm_eps)
            k = rms_norm(k, self._weight(i, "self_attn.k_norm"), config.rms_norm_eps)
        if config.lightning_use_rope:
            turn = rotary_cos_sin(position, T, config.lightning_head_dim, config.rope_theta, x.device)
            q, k = apply_rotary(q, turn), apply_rotary(k, turn)
        repeats = config.lightning_nh // config.lightning_nkv
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        scale = config.lightning_query_scale
        if T == 1:
            o = lightning_decode(q, k, v, state[None], self._log_decay, scale=scale)
        else:
            out, after = lightning_attention(q[None], k[None], v[None], state[None], self._log_decay, scale=scale)
            o = out[0]
            state.copy_(after[0])
        o = o.reshape(T, -1)
        if config.use_output_norm:
            o = rms_norm(o, self._weight(i, "self_attn.o_norm"), config.rms_norm_eps)
        if config.use_output_gate:
            o = o * torch.sigmoid(self._linear(i, "self_attn.z_proj", x))
        return self._linear(i, "self_attn.o_proj", o)

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
            turn = rotary_cos_sin(position, T, config.head_dim, config.rope_theta, x.device)
            q, k = apply_rotary(q, turn), apply_rotary(k, turn)
        cache.append(k.transpose(0, 1), v.transpose(0, 1))
        scale = config.head_dim**-0.5
        chosen = None if dense else self._choose(q, cache, position, scale)
        if choices is not None and chosen is not None:
            choices[i] = chosen
        mass = trace.buffer(i, position + T, x.device) if trace else None
        o = block_attention(
            q, cache.keys, cache.values, chosen, position=position, scale=scale, layout=self.layout, mass=mass
        ).reshape(T, -1)
        if config.attn_use_output_gate:
            o = o * torch.sigmoid(self._linear(i, "self_attn.o_gate", x))
        return self._linear(i, "self_attn.o_proj", o)

    def _choose(self, q: Tensor, cache: SparseCache, position: int, scale: float) -> Tensor | None:
        """Chosen blocks of every query, [kv heads, T, slots]; None where all attend to everything before them.

        Scored a block of queries at a time: scores of one tile are [kv heads, 64, blocks], whatever T is.
        """
        layout, T = self.layout, q.shape[0]
        if (position + T - 1) // layout.block < layout.max_blocks:
            return None
        fine, coarse = cache.fine.float(), cache.coarse.float()
        tiles, start = [], 0
        while start < T:
            stop = min(T, start + layout.block - (position + start) % layout.block)
            at = position + start
            scores = block_scores(q[start:stop], fine, coarse, position=at, scale=scale, layout=layout)
            tiles.append(choose_blocks(scores, position=at, layout=layout))
            start = stop
        return torch.cat(tiles, 1)


def _multiply(x: Tensor, weight: Tensor | Int4Matrix) -> Tensor:
    return int4_linear(x, weight) if isinstance(weight, Int4Matrix) else linear(x, weight)
