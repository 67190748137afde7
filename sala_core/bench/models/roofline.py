"""The least work of prefill and decoding, from which the roofline limit of every measured time follows.

FLOPs count multiplications and additions separately. Bytes of prefill: the weights once, and the state that remains.
Bytes of a decoded token: the weights, the keys and values that it attends to, and the linear states, read and written.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sala_kernels import Int4Weight
from torch import Tensor

from sala_core.bench.random_weights import tensor_bytes
from sala_core.bench.sizes import FullConfig
from sala_core.model.config import SalaConfig

_LIGHTNING_BLOCK = 64  # tokens of an intra-chunk product of lightning attention, as the kernels count it


@dataclass(frozen=True, kw_only=True)
class Work:
    """The least bytes moved and FLOPs computed."""

    num_bytes: int
    num_flops: int

    def limit_s(self, bytes_per_s: float, flops_per_s: float) -> float:
        """The shortest possible time in seconds on a device with these ceilings."""
        return max(self.num_bytes / bytes_per_s, self.num_flops / flops_per_s)


@dataclass(frozen=True, kw_only=True)
class MatrixWork:
    """Bytes of the weights, and FLOPs per token: of all layers, of the last layer alone, and of the LM head."""

    layer_bytes: int
    layer_flops: int
    last_layer_flops: int
    head_bytes: int
    head_flops: int


def matrix_work(weights: Mapping[str, Tensor | Int4Weight], *, tied: bool) -> MatrixWork:
    """Count the layers' matrices and norms, and the LM head. An untied embedding is not counted: one row is read."""
    head = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]
    layers = {name: w for name, w in weights.items() if name.startswith("model.layers.")}
    flops_by_layer: Counter[int] = Counter()
    for name, w in layers.items():
        if len(w.shape) == 2:
            flops_by_layer[int(name.split(".")[2])] += 2 * w.shape[0] * w.shape[1]
    return MatrixWork(
        layer_bytes=sum(map(tensor_bytes, layers.values())),
        layer_flops=flops_by_layer.total(),
        last_layer_flops=flops_by_layer[max(flops_by_layer)],
        head_bytes=tensor_bytes(head),
        head_flops=2 * head.shape[0] * head.shape[1],
    )


def sala_prefill(config: SalaConfig, matrices: MatrixWork, num_tokens: int, state_bytes: int) -> Work:
    """Work of a SALA prefill, up to the logits of the next token.

    In the last layer, tokens before the last one only need their keys and values, or their update of the linear state.

    Args:
        config: the model.
        matrices: the work of its matrices.
        num_tokens: tokens of the prompt.
        state_bytes: bytes of the state after the prefill.
    """
    positions = np.arange(num_tokens, dtype=np.int64)
    if config.mixer_types[-1] == "minicpm4":
        kv_width, skipped = config.num_key_value_heads * config.head_dim, _sparse_flops(config, positions[:-1]).sum()
    else:
        kv_width, d = config.lightning_nkv * config.lightning_head_dim, config.lightning_head_dim
        skipped = (num_tokens - 1) * (_lightning_flops(config) - 2 * config.lightning_nh * d * d)
    flops = _matrix_flops(matrices, num_tokens, 4 * config.hidden_size * kv_width)
    flops += int(_mixer_flops(config, positions).sum() - skipped)
    return Work(num_bytes=matrices.layer_bytes + matrices.head_bytes + state_bytes, num_flops=flops)


def sala_decoding(config: SalaConfig, matrices: MatrixWork, position: int, kv_row_bytes: float, itemsize: int) -> Work:
    """Work of one decoded token of SALA.

    Args:
        config: the model.
        matrices: the work of its matrices.
        position: of the token.
        kv_row_bytes: bytes of one head's key, and of its value.
        itemsize: bytes of a number of the pooled keys.
    """
    at = np.array([position], dtype=np.int64)
    layers, kv_heads = len(config.sparse_layers), config.num_key_value_heads
    attended = int(_keys_attended(config, at)[0]) * 2 * kv_row_bytes
    pooled = int(_windows_scored(config, at)[0]) * config.head_dim * itemsize if _selects(config, position) else 0
    d = config.lightning_head_dim
    states = len(config.lightning_layers) * config.lightning_nh * d * d * 4 * 2
    return Work(
        num_bytes=round(matrices.layer_bytes + matrices.head_bytes + layers * kv_heads * (attended + pooled) + states),
        num_flops=matrices.layer_flops + matrices.head_flops + int(_mixer_flops(config, at).sum()),
    )


def full_prefill(config: FullConfig, matrices: MatrixWork, num_tokens: int, state_bytes: int) -> Work:
    """Work of a full-attention prefill, up to the logits of the next token. The last layer is counted as for SALA.

    Args:
        config, matrices, num_tokens, state_bytes: as for `sala_prefill`.
    """
    pairs = num_tokens * (num_tokens + 1) // 2
    pairs = (config.num_hidden_layers - 1) * pairs + num_tokens
    attention = 4 * config.num_attention_heads * config.head_dim * pairs
    kv_width = config.num_key_value_heads * config.head_dim
    flops = _matrix_flops(matrices, num_tokens, 4 * config.hidden_size * kv_width) + attention
    return Work(num_bytes=matrices.layer_bytes + matrices.head_bytes + state_bytes, num_flops=flops)


def full_decoding(config: FullConfig, matrices: MatrixWork, position: int, itemsize: int) -> Work:
    """Work of one decoded token of full attention.

    Args:
        config, matrices, position: as for `sala_decoding`.
        itemsize: bytes of a number of keys and values.
    """
    keys = position + 1
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * keys
    cache = config.kv_bytes_per_token // 2 * itemsize * keys
    return Work(
        num_bytes=matrices.layer_bytes + matrices.head_bytes + cache,
        num_flops=matrices.layer_flops + matrices.head_flops + attention,
    )


def _matrix_flops(matrices: MatrixWork, num_tokens: int, last_kv_flops: int) -> int:
    """FLOPs of all matrices in a prefill. last_kv_flops: per token, of the last layer's keys and values."""
    skipped = matrices.last_layer_flops - last_kv_flops
    return num_tokens * matrices.layer_flops - (num_tokens - 1) * skipped + matrices.head_flops


def _mixer_flops(config: SalaConfig, at: np.ndarray) -> np.ndarray:
    """FLOPs of all mixers without their matrices, for each position in `at`."""
    lightning = len(config.lightning_layers) * _lightning_flops(config)
    return len(config.sparse_layers) * _sparse_flops(config, at) + lightning


def _sparse_flops(config: SalaConfig, at: np.ndarray) -> np.ndarray:
    """FLOPs of one sparse layer, for each position in `at`."""
    width = config.num_attention_heads * config.head_dim
    scored = np.where(_selects(config, at), _windows_scored(config, at), 0)
    return 4 * width * _keys_attended(config, at) + 2 * width * scored


def _lightning_flops(config: SalaConfig) -> int:
    """FLOPs of one lightning layer per token."""
    d = config.lightning_head_dim
    return config.lightning_nh * d * (4 * d + 2 * _LIGHTNING_BLOCK)


def _keys_attended(config: SalaConfig, at: np.ndarray) -> np.ndarray:
    """Keys that the query at each position attends to: whole blocks, and its own block up to itself."""
    sparse = config.sparse_config
    block = sparse.block_size
    return np.minimum(at + 1, (sparse.num_selected_blocks - 1) * block + at % block + 1)


def _selects(config: SalaConfig, at: np.ndarray | int) -> np.ndarray:
    """Whether a query has more blocks before it than it attends to, so that blocks are scored."""
    sparse = config.sparse_config
    return np.asarray(at) // sparse.block_size >= sparse.num_selected_blocks


def _windows_scored(config: SalaConfig, at: np.ndarray) -> np.ndarray:
    """Fine and coarse windows that end at or before the query's own token."""
    sparse = config.sparse_config
    windows = [(sparse.kernel_size, sparse.kernel_stride), (sparse.coarse_size, sparse.coarse_stride)]
    return sum(np.maximum(0, (at + 1 - size) // stride + 1) for size, stride in windows)  # type: ignore[return-value]
