"""One layer of the forward pass, split where quantization needs the inputs of a matrix.

`sala_core/model/layers.py` and `forward.py` define the layer; a test compares the two. This version takes batches of
short texts from an empty state. No text is longer than `dense_tokens`, so the sparse layers attend to every earlier
token: there is no block selection and no KV cache.
"""

import torch
from sala_kernels import apply_rotary, lightning_attention, lightning_log_decay, rms_norm, rotary_cos_sin
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention, silu

from sala_core.model.config import SalaConfig

STEPS: tuple[tuple[str, ...], ...] = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_gate", "self_attn.z_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""Groups of matrices with the same input, in the order of the forward pass."""


def dense_tokens(config: SalaConfig) -> int:
    """Return the longest length at which the sparse layers still select every block, in tokens."""
    sparse = config.sparse_config
    return sparse.num_selected_blocks * sparse.block_size


class Layer:
    """One layer. `weights` may change between the steps: names without the layer's prefix, one dtype, one device."""

    def __init__(self, config: SalaConfig, index: int, weights: dict[str, Tensor]) -> None:
        self.config, self.weights = config, weights
        self.sparse = config.mixer_types[index] == "minicpm4"

    @torch.inference_mode()
    def mixer_input(self, h: Tensor) -> Tensor:
        """Residual stream h [B, T, D] to the input of q_proj, k_proj, v_proj and the gate, [B, T, D]."""
        return self._norm(h, "input_layernorm")

    @torch.inference_mode()
    def mix(self, x: Tensor) -> Tensor:
        """`mixer_input` to the input of o_proj, [B, T, H * d]."""
        return self._attend(x) if self.sparse else self._attend_linearly(x)

    @torch.inference_mode()
    def add_mixed(self, h: Tensor, mixed: Tensor) -> Tensor:
        """Return the residual stream after the mixer, [B, T, D]. mixed: from `mix`."""
        return h + self._linear(mixed, "self_attn.o_proj") * self.config.residual_scale

    @torch.inference_mode()
    def mlp_input(self, h: Tensor) -> Tensor:
        """Residual stream to the input of gate_proj and up_proj, [B, T, D]."""
        return self._norm(h, "post_attention_layernorm")

    @torch.inference_mode()
    def mlp_hidden(self, x: Tensor) -> Tensor:
        """`mlp_input` to the input of down_proj, [B, T, F]."""
        return silu(self._linear(x, "mlp.gate_proj")) * self._linear(x, "mlp.up_proj")

    @torch.inference_mode()
    def add_mlp(self, h: Tensor, hidden: Tensor) -> Tensor:
        """Return the residual stream after the layer, [B, T, D]. hidden: from `mlp_hidden`."""
        return h + self._linear(hidden, "mlp.down_proj") * self.config.residual_scale

    def forward(self, h: Tensor) -> Tensor:
        """Run all steps: residual stream before the layer to the one after it, [B, T, D]."""
        h = self.add_mixed(h, self.mix(self.mixer_input(h)))
        return self.add_mlp(h, self.mlp_hidden(self.mlp_input(h)))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return rms_norm(x, self.weights[f"{name}.weight"], self.config.rms_norm_eps)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"])

    def _heads(self, x: Tensor, name: str, heads: int) -> Tensor:
        """[B, T, D] -> [B, T, heads, d]."""
        return self._linear(x, f"self_attn.{name}").view(*x.shape[:2], heads, -1)

    def _qkv(
        self, x: Tensor, heads: int, kv_heads: int, head_dim: int, *, norm: bool, rope: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q [B, T, heads, d], k and v [B, T, kv_heads, d]; q and k normed and rotated as asked."""
        q = self._heads(x, "q_proj", heads)
        k = self._heads(x, "k_proj", kv_heads)
        v = self._heads(x, "v_proj", kv_heads)
        if norm:
            q, k = self._norm(q, "self_attn.q_norm"), self._norm(k, "self_attn.k_norm")
        if rope:
            cos_sin = rotary_cos_sin(0, x.shape[1], head_dim, self.config.rope_theta, x.device)
            q, k = apply_rotary(q, cos_sin), apply_rotary(k, cos_sin)
        return q, k, v

    def _attend(self, x: Tensor) -> Tensor:
        """Dense softmax attention of a sparse layer, gated: [B, T, D] -> [B, T, H * d]."""
        config = self.config
        q, k, v = self._qkv(
            x,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            norm=config.attn_qk_norm,
            rope=config.attn_use_rope,
        )
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        o = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        o = o.transpose(1, 2).reshape(*x.shape[:2], -1)
        return o * torch.sigmoid(self._linear(x, "self_attn.o_gate")) if config.attn_use_output_gate else o

    def _attend_linearly(self, x: Tensor) -> Tensor:
        """Lightning attention from an empty state, normed and gated: [B, T, D] -> [B, T, H * d]."""
        config, d = self.config, self.config.lightning_head_dim
        q, k, v = self._qkv(
            x,
            config.lightning_nh,
            config.lightning_nkv,
            d,
            norm=config.qk_norm,
            rope=config.lightning_use_rope,
        )
        repeats = config.lightning_nh // config.lightning_nkv
        k, v = k.repeat_interleave(repeats, 2), v.repeat_interleave(repeats, 2)
        empty = torch.zeros(x.shape[0], config.lightning_nh, d, d, device=x.device)
        decay = lightning_log_decay(config.lightning_nh, x.device)
        o = lightning_attention(q, k, v, empty, decay, scale=config.lightning_query_scale)[0]
        o = o.reshape(*x.shape[:2], -1)
        if config.use_output_norm:
            o = self._norm(o, "self_attn.o_norm")
        return o * torch.sigmoid(self._linear(x, "self_attn.z_proj")) if config.use_output_gate else o
