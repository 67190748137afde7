"""The embedded model's network: the common one, begun with a copying circuit, whose scores can be supervised."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from sala_core.config import SalaConfig, SparseConfig
from sala_core.train.network import LightningMixer, Network, SoftmaxMixer

MEMORY_TOKENS = 4

_DEFAULTS = SalaConfig(
    vocab_size=8192,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=2,
    mixer_types=("minicpm4", "minicpm4"),
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=64,
    attn_qk_norm=True,
    lightning_nh=8,
    lightning_nkv=8,
    lightning_head_dim=32,
    dim_model_base=256,
    bos_token_id=0,
    eos_token_id=(2, 0),
    tie_word_embeddings=True,
    max_position_embeddings=2097152,
    sparse_config=SparseConfig(window_size=512, topk=16, dense_len=1536),
)


def embedded_config(**changes: object) -> SalaConfig:
    """Shape of the embedded model with some fields changed, above all `mixer_types`."""
    kinds = changes.get("mixer_types", _DEFAULTS.mixer_types)
    assert isinstance(kinds, tuple)
    heads = changes.get("lightning_nh", _DEFAULTS.lightning_nh)
    return replace(_DEFAULTS, **{"num_hidden_layers": len(kinds), "lightning_nkv": heads, **changes})  # type: ignore[arg-type]


class EmbeddedNetwork(Network):
    """Attends densely in training: while a query has few blocks before it, that is what selection computes.

    `memory` tells, in training alone, how the sentence began that a token stands in, from what the first softmax
    layer is given: a key word must know that, for a sentence to be quoted from its beginning.
    """

    def __init__(self, config: SalaConfig) -> None:
        super().__init__(config)
        self.first_softmax = next(i for i, layer in enumerate(self.layers) if layer.is_softmax)
        D = config.hidden_size
        self.memory = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(MEMORY_TOKENS))
        self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """Fan-in scaled weights, and a copying circuit as a start (training alone finds it only slowly)."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
            if parameter.ndim == 2 and name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.mul_(0.3)
        embedding = self.vocabulary
        embedding.mul_(0.05 / embedding.std())
        matching = [layer.self_attn for layer in self.layers[1:] if isinstance(layer.self_attn, SoftmaxMixer)]
        earlier = self.layers[1].self_attn
        if isinstance(earlier, LightningMixer):
            self._wire_copying(earlier, matching)

    def hidden(self, ids: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]], Tensor]:
        """ids: [B, T]. Returns the last hidden states [B, T, D], q [B, H, T, d] and k of each softmax layer, and what
        the first of these is given, [B, T, D]."""
        scored, given = [], []

        def note(layer: int, x: Tensor, mixed: Tensor) -> None:
            mixer = self.layers[layer].self_attn
            if isinstance(mixer, SoftmaxMixer):
                q, k = (
                    norm(project(x).unflatten(-1, (-1, mixer.head_dim))).transpose(1, 2)
                    for project, norm in ((mixer.q_proj, mixer.q_norm), (mixer.k_proj, mixer.k_norm))
                    if norm is not None
                )
                scored.append((q, k))
                given.append(x)

        return self(ids, note), scored, given[0]

    def _wire_copying(self, earlier: LightningMixer, matching: list[SoftmaxMixer]) -> None:
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
        heads, kv_heads = self.config.num_attention_heads, self.config.num_key_value_heads
        for mixer in matching:
            copies = nn.init.orthogonal_(torch.empty(kv_heads * mixer.head_dim, D))
            mixer.q_proj.weight.copy_(reads.repeat(heads, 1))
            mixer.k_proj.weight.copy_(writes.repeat(kv_heads, 1))
            for norm in (mixer.q_norm, mixer.k_norm):
                if norm is not None:
                    norm.weight.fill_(1.4)
            mixer.v_proj.weight.copy_(copies)
            written = copies.unflatten(0, (kv_heads, -1)).repeat_interleave(heads // kv_heads, 0).flatten(0, 1)
            mixer.o_proj.weight.copy_(written.T)
