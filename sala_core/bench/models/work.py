"""What reading and decoding must compute and move at least: the floor under every measured time.

FLOPs: multiplications and additions counted apart. Bytes of a reading: the weights once, and what is kept of the text;
of a decoded token: the weights, what it looks at, and the linear states read and written.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sala_kernels import Int4Matrix
from torch import Tensor

from sala_core.bench.sizes import FullConfig
from sala_core.model.config import SalaConfig

_LIGHTNING_BLOCK = 64  # tokens that are computed as products among themselves, as in the kernels' own count


@dataclass(frozen=True, kw_only=True)
class Work:
    """Bytes moved and FLOPs computed at least."""

    num_bytes: int
    num_flops: int

    def limit_s(self, bytes_per_s: float, flops_per_s: float) -> float:
        """Seconds that no program goes below on a device with these ceilings."""
        return max(self.num_bytes / bytes_per_s, self.num_flops / flops_per_s)


@dataclass(frozen=True, kw_only=True)
class MatrixWork:
    """Of the weights: bytes and FLOPs a token of the layers' matrices, of the last layer's alone, and of the head."""

    layer_bytes: int
    layer_flops: int
    last_layer_flops: int
    head_bytes: int
    head_flops: int


def matrix_work(weights: Mapping[str, Tensor | Int4Matrix], *, tied: bool) -> MatrixWork:
    """Of the layers' matrices and norms, and of the head; an embedding of which one row is read is left out."""
    head = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]
    layers = {name: w for name, w in weights.items() if name.startswith("model.layers.")}
    of_layer: Counter[int] = Counter()
    for name, w in layers.items():
        if len(w.shape) == 2:
            of_layer[int(name.split(".")[2])] += 2 * w.shape[0] * w.shape[1]
    return MatrixWork(
        layer_bytes=sum(_num_bytes(w) for w in layers.values()),
        layer_flops=of_layer.total(),
        last_layer_flops=of_layer[max(of_layer)],
        head_bytes=_num_bytes(head),
        head_flops=2 * head.shape[0] * head.shape[1],
    )


def sala_reading(config: SalaConfig, matrices: MatrixWork, num_tokens: int, state_bytes: int) -> Work:
    """Reading `num_tokens` into a state of `state_bytes` and computing the logits of the next token.

    Of the last layer, every token but the last one needs only what the layer remembers.
    """
    at = np.arange(num_tokens, dtype=np.int64)
    if config.mixer_types[-1] == "minicpm4":
        remembered, spared = config.num_key_value_heads * config.head_dim, _sparse_flops(config, at[:-1]).sum()
    else:
        remembered, d = config.lightning_nkv * config.lightning_head_dim, config.lightning_head_dim
        spared = (num_tokens - 1) * (_lightning_flops(config) - 2 * config.lightning_nh * d * d)
    flops = _matrix_flops(matrices, num_tokens, 4 * config.hidden_size * remembered)
    flops += int(_mixer_flops(config, at).sum() - spared)
    return Work(num_bytes=matrices.layer_bytes + matrices.head_bytes + state_bytes, num_flops=flops)


def sala_decoding(config: SalaConfig, matrices: MatrixWork, position: int, kv_row_bytes: float, itemsize: int) -> Work:
    """One token at `position`. kv_row_bytes: of one head's key, or value; itemsize: of pooled keys' numbers."""
    at = np.array([position], dtype=np.int64)
    layers, kv_heads = len(config.sparse_layers), config.num_key_value_heads
    seen = int(_keys_attended(config, at)[0]) * 2 * kv_row_bytes
    pooled = int(_windows_seen(config, at)[0]) * config.head_dim * itemsize if _chooses(config, position) else 0
    d = config.lightning_head_dim
    states = len(config.lightning_layers) * config.lightning_nh * d * d * 4 * 2
    return Work(
        num_bytes=round(matrices.layer_bytes + matrices.head_bytes + layers * kv_heads * (seen + pooled) + states),
        num_flops=matrices.layer_flops + matrices.head_flops + int(_mixer_flops(config, at).sum()),
    )


def full_reading(config: FullConfig, matrices: MatrixWork, num_tokens: int, state_bytes: int) -> Work:
    """As `sala_reading`; every query meets every key before it and its own."""
    pairs = num_tokens * (num_tokens + 1) // 2
    pairs = (config.num_hidden_layers - 1) * pairs + num_tokens
    attention = 4 * config.num_attention_heads * config.head_dim * pairs
    remembered = config.num_key_value_heads * config.head_dim
    flops = _matrix_flops(matrices, num_tokens, 4 * config.hidden_size * remembered) + attention
    return Work(num_bytes=matrices.layer_bytes + matrices.head_bytes + state_bytes, num_flops=flops)


def full_decoding(config: FullConfig, matrices: MatrixWork, position: int, itemsize: int) -> Work:
    """One token at `position`; itemsize: of the numbers of keys and values."""
    keys = position + 1
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * keys
    cache = config.kv_bytes_per_token // 2 * itemsize * keys
    return Work(
        num_bytes=matrices.layer_bytes + matrices.head_bytes + cache,
        num_flops=matrices.layer_flops + matrices.head_flops + attention,
    )


def _num_bytes(weight: Tensor | Int4Matrix) -> int:
    return weight.num_bytes if isinstance(weight, Int4Matrix) else weight.numel() * weight.itemsize


def _matrix_flops(matrices: MatrixWork, num_tokens: int, kept: int) -> int:
    """Of all matrices, in a reading. kept: FLOPs of the last layer's that make keys and values."""
    spared = matrices.last_layer_flops - kept
    return num_tokens * matrices.layer_flops - (num_tokens - 1) * spared + matrices.head_flops


def _mixer_flops(config: SalaConfig, at: np.ndarray) -> np.ndarray:
    """Of all layers' mixers without their matrices, for the queries at positions `at`."""
    lightning = len(config.lightning_layers) * _lightning_flops(config)
    return len(config.sparse_layers) * _sparse_flops(config, at) + lightning


def _sparse_flops(config: SalaConfig, at: np.ndarray) -> np.ndarray:
    """Of a layer, for each query."""
    width = config.num_attention_heads * config.head_dim
    scored = np.where(_chooses(config, at), _windows_seen(config, at), 0)
    return 4 * width * _keys_attended(config, at) + 2 * width * scored


def _lightning_flops(config: SalaConfig) -> int:
    """Of a layer, for a token."""
    d = config.lightning_head_dim
    return config.lightning_nh * d * (4 * d + 2 * _LIGHTNING_BLOCK)


def _keys_attended(config: SalaConfig, at: np.ndarray) -> np.ndarray:
    sparse = config.sparse_config
    block = sparse.block_size
    return np.minimum(at + 1, (sparse.num_selected_blocks - 1) * block + at % block + 1)


def _chooses(config: SalaConfig, at: np.ndarray | int) -> np.ndarray:
    """Whether there are more blocks than are attended to."""
    sparse = config.sparse_config
    return np.asarray(at) // sparse.block_size >= sparse.num_selected_blocks


def _windows_seen(config: SalaConfig, at: np.ndarray) -> np.ndarray:
    """Fine and coarse windows that lie wholly before the query, its own token counted."""
    sparse = config.sparse_config
    windows = [(sparse.kernel_size, sparse.kernel_stride), (sparse.coarse_size, sparse.coarse_stride)]
    return sum(np.maximum(0, (at + 1 - size) // stride + 1) for size, stride in windows)  # type: ignore[return-value]
