"""The configuration of a model of the MiniCPM-SALA family, fields spelled as in its `config.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import inf, sqrt
from typing import Any, Literal

from sala_core.errors import ConfigError
from sala_core.model.config_keys import check_keys, check_sparse_keys, rope_theta

MixerType = Literal["minicpm4", "lightning-attn"]

_MIXER_SPELLINGS: dict[str, MixerType] = {
    "minicpm4": "minicpm4",
    "lightning-attn": "lightning-attn",
    "lightning_attn": "lightning-attn",
    "lightning": "lightning-attn",
}

_FLAGS = (
    "lightning_use_rope",
    "attn_use_rope",
    "attn_qk_norm",
    "qk_norm",
    "use_output_norm",
    "use_output_gate",
    "attn_use_output_gate",
    "tie_word_embeddings",
)

_POSITIVE = ("rms_norm_eps", "rope_theta", "scale_emb", "scale_depth")

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "lightning_nh",
    "lightning_nkv",
    "lightning_head_dim",
    "dim_model_base",
)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _require_flags(record: object, names: tuple[str, ...], prefix: str = "") -> None:
    for name in names:
        value = getattr(record, name)
        _require(isinstance(value, bool), f"{prefix}{name} must be true or false, found {value!r}")


def _require_positive(record: object, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(record, name)
        valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf
        _require(valid, f"{name} must be a positive number, found {value!r}")


def _require_counts(record: object, names: tuple[str, ...], minimum: int, prefix: str = "") -> None:
    for name in names:
        value = getattr(record, name)
        valid = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
        _require(valid, f"{prefix}{name} must be a whole number, {minimum} or more, found {value!r}")


@dataclass(frozen=True, kw_only=True)
class SparseConfig:
    """Block-sparse attention of InfLLM-V2 (arXiv:2509.24663): which key blocks a query of a sparse layer attends to.

    `init_blocks` and `topk` count blocks; the other numbers count tokens.
    """

    kernel_size: int = 32
    kernel_stride: int = 16
    init_blocks: int = 1
    block_size: int = 64
    window_size: int = 2048
    topk: int = 64
    use_nope: bool = False
    dense_len: int = 8192

    def __post_init__(self) -> None:
        _require_counts(self, ("kernel_size", "kernel_stride", "block_size"), 1, "sparse_config: ")
        _require_counts(self, ("init_blocks", "window_size", "topk", "dense_len"), 0, "sparse_config: ")
        _require_flags(self, ("use_nope",), "sparse_config: ")
        _require(
            self.kernel_size == 2 * self.kernel_stride,
            f"sparse_config: kernel_size {self.kernel_size} must be twice kernel_stride {self.kernel_stride}",
        )
        _require(
            self.block_size % self.kernel_stride == 0,
            f"sparse_config: block_size {self.block_size} must be a multiple of kernel_stride {self.kernel_stride}",
        )
        _require(
            self.window_size % self.block_size == 0,
            f"sparse_config: window_size {self.window_size} must be a multiple of block_size {self.block_size}",
        )
        _require(
            self.init_blocks + self.local_blocks <= self.num_selected_blocks,
            f"sparse_config: topk {self.topk} leaves no room for init_blocks {self.init_blocks}",
        )

    @property
    def local_blocks(self) -> int:
        """Sliding-window blocks, which every query attends to: its own block and the window_size tokens before it."""
        return self.window_size // self.block_size + 1

    @property
    def num_selected_blocks(self) -> int:
        """Maximum number of blocks per query: `topk`, initial blocks and its own included, plus the window."""
        return self.topk + self.window_size // self.block_size

    @property
    def coarse_size(self) -> int:
        """Tokens in one window of the coarse pooled keys K2: 4 times the window of the fine ones, K1."""
        return 4 * self.kernel_size

    @property
    def coarse_stride(self) -> int:
        """Tokens between the starts of neighboring K2 windows."""
        return 4 * self.kernel_stride


@dataclass(frozen=True, kw_only=True)
class SalaConfig:
    """One model: its sizes, the mixer of every layer, and the muP scale factors of the forward pass."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    lightning_nh: int
    lightning_nkv: int
    lightning_head_dim: int
    mixer_types: tuple[MixerType, ...]
    eos_token_id: tuple[int, ...] = (2,)
    bos_token_id: int = 1
    lightning_scale: str = "1/sqrt(d)"
    lightning_use_rope: bool = True
    attn_use_rope: bool = False
    attn_qk_norm: bool = False
    """RMSNorm of q and k in the sparse layers. The released model has none; hybrids converted from Qwen3 have it."""
    qk_norm: bool = True
    use_output_norm: bool = True
    use_output_gate: bool = True
    attn_use_output_gate: bool = True
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    scale_emb: float = 12.0
    scale_depth: float = 1.4
    dim_model_base: int = 256
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 524288
    sparse_config: SparseConfig = field(default_factory=SparseConfig)

    def __post_init__(self) -> None:
        _require_counts(self, (*_SIZES, "max_position_embeddings"), 1)
        _require_flags(self, _FLAGS)
        _require_positive(self, _POSITIVE)
        _require(
            isinstance(self.lightning_scale, str),
            f"lightning_scale must be text like '1/sqrt(d)', found {self.lightning_scale!r}",
        )
        _require(
            len(self.mixer_types) == self.num_hidden_layers,
            f"mixer_types names {len(self.mixer_types)} layers, num_hidden_layers is {self.num_hidden_layers}",
        )
        _require(
            self.num_attention_heads % self.num_key_value_heads == 0,
            f"num_attention_heads {self.num_attention_heads} is not a multiple of num_key_value_heads "
            f"{self.num_key_value_heads}",
        )
        _require(
            self.lightning_nh % self.lightning_nkv == 0,
            f"lightning_nh {self.lightning_nh} is not a multiple of lightning_nkv {self.lightning_nkv}",
        )
        _require(self.lightning_head_dim % 2 == 0, f"lightning_head_dim {self.lightning_head_dim} must be even")
        _require(
            not self.attn_use_rope or self.head_dim % 2 == 0,
            f"head_dim {self.head_dim} must be even for rotary",
        )
        _require(
            not (self.attn_use_rope and self.sparse_config.use_nope),
            "sparse_config.use_nope true together with attn_use_rope true is not supported",
        )

    @property
    def residual_scale(self) -> float:
        """Factor of each mixer and MLP output before it is added to the residual stream."""
        return self.scale_depth / sqrt(self.num_hidden_layers)

    @property
    def logit_scale(self) -> float:
        """Factor of the final hidden state before `lm_head`."""
        return self.dim_model_base / self.hidden_size

    @property
    def lightning_query_scale(self) -> float:
        """`lightning_scale` as a number: 1/sqrt(d), 1/d, or 1 for any other string."""
        d = self.lightning_head_dim
        return {"1/sqrt(d)": d**-0.5, "1/d": 1.0 / d}.get(self.lightning_scale, 1.0)

    @property
    def sparse_layers(self) -> tuple[int, ...]:
        """Indices of the sparse layers (InfLLM-V2)."""
        return tuple(i for i, kind in enumerate(self.mixer_types) if kind == "minicpm4")

    @property
    def lightning_layers(self) -> tuple[int, ...]:
        """Indices of the lightning layers (linear attention)."""
        return tuple(i for i, kind in enumerate(self.mixer_types) if kind == "lightning-attn")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "SalaConfig":
        """Build a config from the parsed `config.json`.

        Raises ConfigError for another model family, for a feature that this program does not support, for a key that
        it does not know, and for a missing or invalid value.
        """
        _require(
            raw.get("model_type") == "minicpm_sala",
            f"model_type is {raw.get('model_type')!r}; this program runs models of type 'minicpm_sala'",
        )
        check_keys(raw, frozenset(f.name for f in fields(cls)))
        names = {f.name for f in fields(cls)} - {"mixer_types", "eos_token_id", "sparse_config"}
        values: dict[str, Any] = {name: raw[name] for name in names if raw.get(name) is not None}
        if (theta := rope_theta(raw, 0.0)) != 0.0:
            values["rope_theta"] = theta
        values["mixer_types"] = _mixer_types(raw.get("mixer_types") or ())
        eos = raw.get("eos_token_id", 2)
        values["eos_token_id"] = tuple(eos) if isinstance(eos, list | tuple) else (eos,)
        _require(
            raw.get("sparse_config", {}) is not None or "minicpm4" not in values["mixer_types"],
            "sparse_config is null, which asks for full attention; this program computes sparse layers block by block: "
            "give their sizes",
        )
        sparse = raw.get("sparse_config") or {}
        _require(isinstance(sparse, Mapping), f"sparse_config must be an object, found {sparse!r}")
        check_sparse_keys(sparse, frozenset(f.name for f in fields(SparseConfig)))
        values["sparse_config"] = SparseConfig(**{k: v for k, v in sparse.items() if v is not None})
        try:
            if "head_dim" not in values and values.get("num_attention_heads"):
                values["head_dim"] = values["hidden_size"] // values["num_attention_heads"]
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ConfigError(f"config.json is incomplete: {error}") from error


def _mixer_types(names: Any) -> tuple[MixerType, ...]:
    unknown = sorted({repr(name) for name in names if name not in tuple(_MIXER_SPELLINGS)})
    _require(not unknown, f"mixer_types has unknown {', '.join(unknown)}; known: {sorted(_MIXER_SPELLINGS)}")
    return tuple(_MIXER_SPELLINGS[name] for name in names)
