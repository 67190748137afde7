"""The trainable model: each layer has full, block-sparse or lightning attention, as the config says.

Parameter names are those of the checkpoint, so a state dict can be saved as a model file. A layer of type `minicpm4`
has full attention while `Network.sparse` is off and attends to selected blocks while it is on, with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from sala_kernels import apply_rotary, lightning_log_decay, rms_norm, rotary_cos_sin
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sala_core.model.config import SalaConfig
from sala_core.model.forward import block_layout
from sala_core.train.network.lightning import differentiable_lightning
from sala_core.train.network.sparse import differentiable_blocks, is_dense

MixerHook = Callable[[int, Tensor, Tensor], None]
"""Called in every layer with the layer's index and the mixer's input and output, both [B, T, D]."""


class RMSNorm(nn.Module):
    """`sala_kernels.rms_norm` with a trained weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class SoftmaxMixer(nn.Module):
    """Grouped-query attention: full, or over selected blocks. Rotary, QK norm and output gate as in the config."""

    def __init__(self, config: SalaConfig) -> None:
        super().__init__()
        D, d = config.hidden_size, config.head_dim
        self.head_dim, self.rotary = d, config.attn_use_rope
        self.layout = block_layout(config.sparse_config)
        width, kv_width = config.num_attention_heads * d, config.num_key_value_heads * d
        self.q_proj, self.k_proj, self.v_proj = _linear(D, width), _linear(D, kv_width), _linear(D, kv_width)
        self.q_norm, self.k_norm = _norms(config.attn_qk_norm, d, config.rms_norm_eps)
        self.o_gate = _linear(D, width) if config.attn_use_output_gate else None
        self.o_proj = _linear(width, D)

    def forward(self, x: Tensor, cos_sin: Tensor | None, sparse: bool) -> Tensor:
        """Return the mixer's output [B, T, D]. x: [B, T, D]; cos_sin: [2, T, d / 2], None without rotary."""
        q, k = self.queries_keys(x, cos_sin)
        v, scale = _heads(self.v_proj(x), self.head_dim), self.head_dim**-0.5
        if sparse and not is_dense(x.shape[1], self.layout):
            o = differentiable_blocks(q, k, v, scale=scale, layout=self.layout)
        else:
            q, k, v = (part.transpose(1, 2) for part in (q, k, v))
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True).transpose(1, 2)
        o = o.flatten(2)
        return self.o_proj(o if self.o_gate is None else o * torch.sigmoid(self.o_gate(x)))

    def queries_keys(self, x: Tensor, cos_sin: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries [B, T, H, d] and keys [B, T, Hk, d] of x [B, T, D], after norm and rotary."""
        q, k = (_heads(project(x), self.head_dim) for project in (self.q_proj, self.k_proj))
        return _norm_rotary(q, self.q_norm, cos_sin, q.dtype), _norm_rotary(k, self.k_norm, cos_sin, k.dtype)


class LightningMixer(nn.Module):
    """Linear attention with a constant decay per head. Norms, rotary and output gate as in the config."""

    log_decay: Tensor

    def __init__(self, config: SalaConfig) -> None:
        super().__init__()
        D, d = config.hidden_size, config.lightning_head_dim
        self.head_dim, self.scale, self.rotary = d, config.lightning_query_scale, config.lightning_use_rope
        width, kv_width = config.lightning_nh * d, config.lightning_nkv * d
        self.q_proj, self.k_proj, self.v_proj = _linear(D, width), _linear(D, kv_width), _linear(D, kv_width)
        self.q_norm, self.k_norm = _norms(config.qk_norm, d, config.rms_norm_eps)
        self.o_norm = RMSNorm(width, config.rms_norm_eps) if config.use_output_norm else None
        self.z_proj = _linear(D, width) if config.use_output_gate else None
        self.o_proj = _linear(width, D)
        self.register_buffer("log_decay", lightning_log_decay(config.lightning_nh), persistent=False)

    def forward(self, x: Tensor, cos_sin: Tensor | None, sparse: bool) -> Tensor:
        """As `SoftmaxMixer.forward`; `sparse` is ignored."""
        q, k, v = (_heads(project(x), self.head_dim) for project in (self.q_proj, self.k_proj, self.v_proj))
        q, k = _norm_rotary(q, self.q_norm, cos_sin, v.dtype), _norm_rotary(k, self.k_norm, cos_sin, v.dtype)
        o = differentiable_lightning(q, k, v, self.log_decay, scale=self.scale).flatten(2)
        if self.o_norm is not None:
            o = self.o_norm(o)
        return self.o_proj(o if self.z_proj is None else o * torch.sigmoid(self.z_proj(x)))


class FeedForward(nn.Module):
    """SwiGLU feed-forward."""

    def __init__(self, config: SalaConfig) -> None:
        super().__init__()
        self.gate_proj = _linear(config.hidden_size, config.intermediate_size)
        self.up_proj = _linear(config.hidden_size, config.intermediate_size)
        self.down_proj = _linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One mixer and one feed-forward, each with a pre-norm; their outputs are added with the residual scale (muP)."""

    def __init__(self, config: SalaConfig, index: int) -> None:
        super().__init__()
        self.index, self.residual_scale = index, config.residual_scale
        self.is_softmax = config.mixer_types[index] == "minicpm4"
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn: SoftmaxMixer | LightningMixer = (
            SoftmaxMixer(config) if self.is_softmax else LightningMixer(config)
        )
        self.mlp = FeedForward(config)

    def forward(self, h: Tensor, cos_sin: dict[int, Tensor], sparse: bool, hook: MixerHook | None) -> Tensor:
        """Return the residual stream after this layer, [B, T, D].

        Args:
            h: [B, T, D], the residual stream.
            cos_sin: head size -> [2, T, d / 2], of `Network.cos_sin`.
            sparse: select blocks, if this is a softmax layer.
            hook: called with the mixer's input and output.
        """
        x = self.input_layernorm(h)
        mixed = self.self_attn(x, cos_sin[self.self_attn.head_dim] if self.self_attn.rotary else None, sparse)
        if hook is not None:
            hook(self.index, x, mixed)
        h = h + mixed * self.residual_scale
        return h + self.mlp(self.post_attention_layernorm(h)) * self.residual_scale


class DecoderStack(nn.Module):
    """Embedding, layers and final norm: the tensors `model.*` of the checkpoint."""

    def __init__(self, config: SalaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Network(nn.Module):
    """The whole model.

    sparse: softmax layers select blocks. recompute: recompute activations in the backward pass to save memory.
    """

    def __init__(self, config: SalaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = DecoderStack(config)
        self.lm_head = None if config.tie_word_embeddings else _linear(config.hidden_size, config.vocab_size)
        self.sparse = self.recompute = False

    @property
    def layers(self) -> list[Layer]:
        """The layers, first to last."""
        return [layer for layer in self.model.layers if isinstance(layer, Layer)]

    @property
    def vocabulary(self) -> Tensor:
        """The output matrix, [vocab, D]."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    @torch.no_grad()
    def initialize(self, generator: torch.Generator, std: float = 0.1) -> None:
        """Set random weights by muP (arXiv:2404.06395). In place.

        std: standard deviation of embeddings and output matrix; matrices of layers have std / sqrt(width / base width).
        """
        width_factor = self.config.hidden_size / self.config.dim_model_base
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                inner = is_inner_matrix(name, parameter)
                parameter.normal_(std=std / width_factor**0.5 if inner else std, generator=generator)

    def forward(self, ids: Tensor, hook: MixerHook | None = None) -> Tensor:
        """Return the scaled hidden states that the output matrix turns into logits, [B, T, D].

        ids: [B, T] int64, from position 0. hook: called in every layer.
        """
        config = self.config
        cos_sin = self.cos_sin(ids, {layer.self_attn.head_dim for layer in self.layers if layer.self_attn.rotary})
        h = self.model.embed_tokens(ids) * config.scale_emb
        for layer in self.model.layers:
            if self.recompute and torch.is_grad_enabled():
                h = checkpoint(layer, h, cos_sin, self.sparse, hook, use_reentrant=False)
            else:
                h = layer(h, cos_sin, self.sparse, hook)
        return self.model.norm(h) * config.logit_scale

    def cos_sin(self, ids: Tensor, head_dims: set[int]) -> dict[int, Tensor]:
        """Rotary cos and sin of every position of ids [B, T]: head size d -> [2, T, d / 2]."""
        theta = self.config.rope_theta
        return {d: rotary_cos_sin(0, ids.shape[1], d, theta, ids.device) for d in sorted(head_dims)}

    def logits(self, ids: Tensor) -> Tensor:
        """Logits [B, T, vocab] of ids [B, T], in float32 (float64 for a float64 model)."""
        logits = F.linear(self(ids), self.vocabulary)
        return logits if logits.dtype == torch.float64 else logits.float()


def is_inner_matrix(name: str, parameter: Tensor) -> bool:
    """Whether muP scales this parameter with the width: matrices of layers, not embeddings, output matrix or norms."""
    return parameter.ndim == 2 and "embed_tokens" not in name and not name.startswith("lm_head")


def _linear(num_in: int, num_out: int) -> nn.Linear:
    return nn.Linear(num_in, num_out, bias=False)


def _norms(enabled: bool, size: int, eps: float) -> tuple[RMSNorm | None, RMSNorm | None]:
    return (RMSNorm(size, eps), RMSNorm(size, eps)) if enabled else (None, None)


def _heads(x: Tensor, head_dim: int) -> Tensor:
    """[B, T, H * d] -> [B, T, H, d]."""
    return x.unflatten(-1, (-1, head_dim))


def _norm_rotary(x: Tensor, norm: RMSNorm | None, cos_sin: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Apply norm and rotary, each unless it is None, to x [B, T, H, d]. Returns `dtype`, so that q, k and v agree."""
    if norm is not None:
        x = norm(x)
    if cos_sin is not None:
        x = apply_rotary(x, cos_sin)
    return x.to(dtype)
