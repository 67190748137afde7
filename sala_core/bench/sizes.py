"""The two models that are compared, at each size."""

from dataclasses import dataclass, replace
from typing import Literal

from sala_core.model.checkpoint import EMBEDDED, load_config_json, resolve_model
from sala_core.model.config import SalaConfig
from sala_core.model.known_models import KNOWN_MODELS

Size = Literal["9b", "embedded"]
_NO_TOKEN = (-1,)  # as EOS token: a benchmark decodes a fixed number of tokens


@dataclass(frozen=True, kw_only=True)
class FullConfig:
    """A model with full attention in every layer, Qwen3's architecture (arXiv:2505.09388). Fields as in its config."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    tie_word_embeddings: bool = False
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of the keys and values of one token at two bytes per number; twice that in float32."""
        return 2 * 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim


QWEN3_8B = FullConfig(
    vocab_size=151_936,
    hidden_size=4096,
    intermediate_size=12_288,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
)

SALA_9B = replace(KNOWN_MODELS[0].config, eos_token_id=_NO_TOKEN)
"""`openbmb/MiniCPM-SALA`."""


def sala_config(size: Size) -> SalaConfig:
    """MiniCPM-SALA at this size, without an EOS token."""
    if size == "9b":
        return SALA_9B
    embedded = SalaConfig.from_dict(load_config_json(resolve_model(EMBEDDED)))
    return replace(embedded, eos_token_id=_NO_TOKEN)


def full_config(size: Size) -> FullConfig:
    """The full-attention baseline: Qwen3-8B's shape, or the dimensions of the embedded model."""
    if size == "9b":
        return QWEN3_8B
    same = sala_config(size)
    return FullConfig(
        vocab_size=same.vocab_size,
        hidden_size=same.hidden_size,
        intermediate_size=same.intermediate_size,
        num_hidden_layers=same.num_hidden_layers,
        num_attention_heads=same.num_attention_heads,
        num_key_value_heads=same.num_key_value_heads,
        head_dim=same.head_dim,
        tie_word_embeddings=same.tie_word_embeddings,
    )
