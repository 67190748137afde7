"""The trainable SALA module; parameter names are the checkpoint's, so its state dict exports as it is.

Attention in the sparse layers is plain causal attention: while a query has no more blocks before it than
the selection keeps, that is exactly what the selection computes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F
from sala_kernels import apply_rotary, lightning_attention, lightning_log_decay, rms_norm, rotary_cos_sin
from torch import Tensor, nn

CHUNK_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Shape of the embedded model, field names as in `config.json`."""

    vocab_size: int = 8192
    hidden_size: int = 256
    intermediate_size: int = 512
    mixer_types: tuple[str, ...] = field(default=())
    num_attention_heads: int = 4
    num_key_value_heads: int = 1
    head_dim: int = 64
    lightning_nh: int = 8
    lightning_head_dim: int = 32
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    scale_emb: float = 12.0
    scale_depth: float = 1.4
    dim_model_base: int = 256
    kernel_size: int = 32
    kernel_stride: int = 16
    block_size: int = 64
    init_blocks: int = 1
    window_size: int = 512
    topk: int = 16

    @property
    def num_hidden_layers(self) -> int:
        return len(self.mixer_types)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class RMSNorm(nn.Module):
    """`sala_kernels.rms_norm` with a weight of its own."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class SparseMixer(nn.Module):
    """Softmax attention without positions, one shared key-value head per group, gated output."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        D, width = config.hidden_size, config.num_attention_heads * config.head_dim
        self.q_proj = nn.Linear(D, width, bias=False)
        self.k_proj = nn.Linear(D, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(D, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(width, D, bias=False)
        self.o_gate = nn.Linear(D, width, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: [B, T, D]. Returns the mixed x, q [B, H, T, d] and k [B, kv heads, T, d]."""
        B, T, _ = x.shape
        q = self.q_proj(x).view(B, T, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)
        repeats = self.heads // self.kv_heads
        keys, values = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        o = F.scaled_dot_product_attention(q, keys, values, is_causal=True)
        o = o.transpose(1, 2).reshape(B, T, -1) * torch.sigmoid(self.o_gate(x))
        return self.o_proj(o), q, k


class LightningMixer(nn.Module):
    """Linear attention with rotary positions, q/k norm, output norm and gate."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.lightning_nh, config.lightning_head_dim
        D, width = config.hidden_size, config.lightning_nh * config.lightning_head_dim
        self.q_proj = nn.Linear(D, width, bias=False)
        self.k_proj = nn.Linear(D, width, bias=False)
        self.v_proj = nn.Linear(D, width, bias=False)
        self.o_proj = nn.Linear(width, D, bias=False)
        self.z_proj = nn.Linear(D, width, bias=False)
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
        self.o_norm = RMSNorm(width, config.rms_norm_eps)

    def forward(self, x: Tensor, cos_sin: Tensor, log_decay: Tensor) -> Tensor:
        """x: [B, T, D]; cos_sin: [2, T, K / 2]; log_decay: [H]. Returns the mixed x."""
        B, T, _ = x.shape
        q, k, v = (
            project(x).view(B, T, self.heads, self.head_dim) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = apply_rotary(self.q_norm(q), cos_sin), apply_rotary(self.k_norm(k), cos_sin)
        empty = torch.zeros(B, self.heads, self.head_dim, self.head_dim)
        o, _ = lightning_attention(q, k, v, empty, log_decay, scale=self.head_dim**-0.5, chunk=CHUNK_TOKENS)
        return self.o_proj(self.o_norm(o.reshape(B, T, -1)) * torch.sigmoid(self.z_proj(x)))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One mixer and one feed-forward, each added with the depth scale."""

    def __init__(self, config: NetworkConfig, mixer_type: str) -> None:
        super().__init__()
        self.sparse = mixer_type == "minicpm4"
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn: SparseMixer | LightningMixer = SparseMixer(config) if self.sparse else LightningMixer(config)
        self.mlp = FeedForward(config)


class Decoder(nn.Module):
    """Embedding, layers and last norm; the name `model.` of the checkpoint."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, mixer) for mixer in config.mixer_types)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class SalaNetwork(nn.Module):
    """The whole model; the output matrix is the embedding's."""

    cos_sin: Tensor
    log_decay: Tensor

    def __init__(self, config: NetworkConfig, max_tokens: int = 8192) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        cos_sin = rotary_cos_sin(0, max_tokens, config.lightning_head_dim, config.rope_theta, "cpu")
        self.register_buffer("cos_sin", cos_sin, persistent=False)
        self.register_buffer("log_decay", lightning_log_decay(config.lightning_nh), persistent=False)
        self.initialise()

    @property
    def layers(self) -> list[Layer]:
        """The layers in order."""
        return [layer for layer in self.model.layers if isinstance(layer, Layer)]

    @property
    def vocabulary(self) -> Tensor:
        """[vocab, D]: embedding and output matrix."""
        return self.model.embed_tokens.weight

    @torch.no_grad()
    def initialise(self) -> None:
        """Fan-in scaled weights, and a copying circuit as a start (training alone finds it only slowly)."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
            if parameter.ndim == 2 and name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.mul_(0.3)
        embedding = self.vocabulary
        embedding.mul_(0.05 / embedding.std())
        matching = [layer.self_attn for layer in self.layers[1:] if isinstance(layer.self_attn, SparseMixer)]
        earlier = self.layers[1].self_attn
        if isinstance(earlier, LightningMixer):
            self._wire_copying(earlier, matching)

    def _wire_copying(self, earlier: LightningMixer, matching: list[SparseMixer]) -> None:
        """Two heads of `earlier` carry the tokens before; `matching` looks for that and copies what follows.

        Embedding column 0 is a constant: it lights up the fastest rotary pair of q and k, with a phase that
        makes the two fastest-decaying heads weigh lags 1 and 2 and hardly the token itself.
        """
        d, D = self.config.lightning_head_dim, self.config.hidden_size
        self.vocabulary[:, 0] = 0.15
        width = min(2 * d, self.config.head_dim)
        reads = nn.init.orthogonal_(torch.empty(width, D))
        writes = nn.init.orthogonal_(torch.empty(width, D))
        for head in range(2):
            rows = slice(head * d, (head + 1) * d)
            for project, phase in ((earlier.q_proj, -1.5), (earlier.k_proj, 0.0)):
                project.weight[rows] *= 0.3
                project.weight[head * d, 0] = 2 * math.cos(phase)
                project.weight[head * d + d // 2, 0] = 2 * math.sin(phase)
        earlier.v_proj.weight[:width] = reads
        earlier.o_proj.weight[:, :width] = 2 * writes.T
        for mixer in matching:
            copies = nn.init.orthogonal_(torch.empty(mixer.head_dim, D))
            mixer.q_proj.weight.copy_(1.4 * reads.repeat(mixer.heads, 1))
            mixer.k_proj.weight.copy_(1.4 * writes)
            mixer.v_proj.weight.copy_(copies)
            mixer.o_proj.weight.copy_(copies.T.repeat(1, mixer.heads))

    def hidden(self, ids: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """ids: [B, T]. Returns the normed hidden states [B, T, D] and (q, k) of each sparse layer."""
        config = self.config
        depth = config.scale_depth / math.sqrt(config.num_hidden_layers)
        cos_sin = self.cos_sin[:, : ids.shape[1]]
        h = self.model.embed_tokens(ids) * config.scale_emb
        scored = []
        for layer in self.layers:
            x = layer.input_layernorm(h)
            if isinstance(layer.self_attn, SparseMixer):
                mixed, q, k = layer.self_attn(x)
                scored.append((q, k))
            else:
                mixed = layer.self_attn(x, cos_sin, self.log_decay)
            h = h + mixed * depth
            h = h + layer.mlp(layer.post_attention_layernorm(h)) * depth
        return self.model.norm(h) / (config.hidden_size / config.dim_model_base), scored

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, T, vocab] in float32."""
        return F.linear(self.hidden(ids)[0], self.vocabulary).float()
