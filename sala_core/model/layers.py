"""The stateless part of the forward pass of MiniCPM-SALA: embeddings, norms, projections, gates, MLPs, logits."""

from collections.abc import Callable, Mapping

import torch
from sala_kernels import (
    Backend,
    Int4Weight,
    add_rms_norm,
    gated_norm,
    int4_linear,
    int4_swiglu,
    qk_norm_rotary,
    rms_norm,
    rotary_cos_sin,
    swiglu,
)
from torch import Tensor
from torch.nn.functional import linear

from sala_core.model.config import SalaConfig

Mixer = Callable[[int, Tensor], Tensor]
"""(layer, normed hidden states [T, D]) -> output [T, D]; the last layer's mixer may return its last t rows alone."""


class Layers:
    """Weights and config, and the forward pass without the mixers' caches and states, which callers supply."""

    def __init__(
        self, config: SalaConfig, weights: Mapping[str, Tensor | Int4Weight], *, backend: Backend = "auto"
    ) -> None:
        """Take weights by their Hugging Face names, `model.layers.{i}. ...`.

        weights: on one device; tensors of one float dtype, or int4 matrices. backend: computes every operation.
        """
        self.config = config
        self.weights = weights
        self.backend = backend
        self._embedding = embedding = self._tensor("model.embed_tokens.weight")
        self.dtype, self.device = embedding.dtype, embedding.device
        self._head = embedding if config.tie_word_embeddings else weights["lm_head.weight"]

    def run_layers(self, ids: Tensor, *, sparse: Mixer, lightning: Mixer, num_layers: int | None = None) -> Tensor:
        """Run the layers over ids [T] int64. Returns the hidden states before the final norm, [T, D] or [t, D].

        Args:
            ids: [T] int64, on the model's device.
            sparse: the mixer of the sparse layers.
            lightning: the mixer of the lightning layers.
            num_layers: run only the first `num_layers` layers. The result is then not a usable hidden state.
        """
        config = self.config
        h = self._embedding[ids] * config.scale_emb
        x = self._norm(0, "input_layernorm", h)
        for i, kind in enumerate(config.mixer_types[:num_layers]):
            # no output of a mixer or an MLP stays referenced while the next one runs: that would raise peak memory
            mixed = sparse(i, x) if kind == "minicpm4" else lightning(i, x)
            h = h[-len(mixed) :]
            x = self._add_norm(i, "post_attention_layernorm", h, mixed)
            del mixed
            if i + 1 < config.num_hidden_layers:
                x = self._add_norm(i + 1, "input_layernorm", h, self._mlp(i, x))
            else:
                h += self._mlp(i, x) * config.residual_scale
        return h

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """[T, D] hidden states to [T, vocab] fp32 logits."""
        weight = self._tensor("model.norm.weight")
        x = rms_norm(hidden, weight, self.config.rms_norm_eps, backend=self.backend)
        return self._multiply(x * self.config.logit_scale, self._head).float()

    def sparse_qkv(self, i: int, x: Tensor, position: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [T, H, d], k and v [T, kv heads, d] of a sparse layer. x: [T, D], the tokens from `position` on."""
        config = self.config
        q = self._project(i, "q_proj", x, config.num_attention_heads)
        k = self._project(i, "k_proj", x, config.num_key_value_heads)
        v = self._project(i, "v_proj", x, config.num_key_value_heads)
        if config.attn_use_rope or config.attn_qk_norm:
            cos_sin = self.rotary_angles(position, x.shape[0], config.head_dim) if config.attn_use_rope else None
            q_norm, k_norm = self._qk_norms(i) if config.attn_qk_norm else (None, None)
            q, k = qk_norm_rotary(q, k, q_norm, k_norm, cos_sin, eps=config.rms_norm_eps, backend=self.backend)
        return q, k, v

    def sparse_out(self, i: int, x: Tensor, o: Tensor) -> Tensor:
        """Gate the heads' outputs o [T, H, d] of a sparse layer by x [T, D] and project them to [T, D]."""
        if self.config.attn_use_output_gate:
            gate = self._linear(i, "self_attn.o_gate", x)
            o = gated_norm(o, gate, None, eps=self.config.rms_norm_eps, backend=self.backend)
        return self._linear(i, "self_attn.o_proj", o.reshape(len(o), -1))

    def lightning_qkv(self, i: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [T, H, K], k [T, Hk, K], v [T, Hk, V] of a lightning layer, before norms and rotary embedding."""
        q = self._project(i, "q_proj", x, self.config.lightning_nh)
        k = self._project(i, "k_proj", x, self.config.lightning_nkv)
        v = self._project(i, "v_proj", x, self.config.lightning_nkv)
        return q, k, v

    def lightning_norms(self, i: int) -> tuple[Tensor | None, Tensor | None]:
        """Weights of the norms of q and k; None where the config has none."""
        return self._qk_norms(i) if self.config.qk_norm else (None, None)

    def lightning_out(self, i: int, x: Tensor, o: Tensor) -> Tensor:
        """Norm the heads' outputs o [T, H, V] of a lightning layer, gate them by x [T, D], project them to [T, D]."""
        eps = self.config.rms_norm_eps
        weight = self._weight(i, "self_attn.o_norm") if self.config.use_output_norm else None
        if self.config.use_output_gate:
            o = gated_norm(o, self._linear(i, "self_attn.z_proj", x), weight, eps=eps, backend=self.backend)
        elif weight is not None:
            o = rms_norm(o.reshape(len(o), -1), weight, eps, backend=self.backend)
        return self._linear(i, "self_attn.o_proj", o.reshape(len(o), -1))

    def rotary_angles(self, position: int | Tensor, num_tokens: int, dim: int) -> Tensor:
        """cos and sin of the tokens from `position` on, [2, T, dim / 2]."""
        theta, backend = self.config.rope_theta, self.backend
        return rotary_cos_sin(position, num_tokens, dim, theta, self.device, backend=backend)

    def _qk_norms(self, i: int) -> tuple[Tensor, Tensor]:
        return self._weight(i, "self_attn.q_norm"), self._weight(i, "self_attn.k_norm")

    def _tensor(self, name: str) -> Tensor:
        weight = self.weights[name]
        assert isinstance(weight, Tensor), f"{name} must not be packed"
        return weight

    def _weight(self, layer: int, name: str) -> Tensor:
        return self._tensor(f"model.layers.{layer}.{name}.weight")

    def _multiply(self, x: Tensor, weight: Tensor | Int4Weight) -> Tensor:
        """[T, in] -> [T, out], by a plain or an int4 matrix."""
        return int4_linear(x, weight, backend=self.backend) if isinstance(weight, Int4Weight) else linear(x, weight)

    def _linear(self, layer: int, name: str, x: Tensor) -> Tensor:
        """[T, in] -> [T, out], by a matrix of the layer."""
        return self._multiply(x, self.weights[f"model.layers.{layer}.{name}.weight"])

    def _mlp(self, layer: int, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        return self._linear(layer, "mlp.down_proj", self._swiglu(layer, x))

    def _swiglu(self, layer: int, x: Tensor) -> Tensor:
        """[T, D] -> [T, F]: silu of the gate times up."""
        gate, up = (self.weights[f"model.layers.{layer}.mlp.{name}_proj.weight"] for name in ("gate", "up"))
        if isinstance(gate, Int4Weight) and isinstance(up, Int4Weight):
            return int4_swiglu(x, gate, up, backend=self.backend)
        return swiglu(self._multiply(x, gate), self._multiply(x, up), backend=self.backend)

    def _project(self, layer: int, name: str, x: Tensor, heads: int) -> Tensor:
        """[T, D] -> [T, heads, d]."""
        return self._linear(layer, f"self_attn.{name}", x).view(x.shape[0], heads, -1)

    def _norm(self, layer: int, name: str, h: Tensor) -> Tensor:
        return rms_norm(h, self._weight(layer, name), self.config.rms_norm_eps, backend=self.backend)

    def _add_norm(self, layer: int, name: str, h: Tensor, update: Tensor) -> Tensor:
        """h += update * residual scale, in place. Returns the norm of h, the input of the next mixer or MLP."""
        weight, config = self._weight(layer, name), self.config
        return add_rms_norm(h, update, weight, config.rms_norm_eps, scale=config.residual_scale, backend=self.backend)
