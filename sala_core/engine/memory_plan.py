"""Memory needs of prefill and decoding, computed before any work, and a card's settings, chosen by its size."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch
from sala_kernels import INT4_SCRATCH_BYTES, Int4Weight, num_windows, queries_at_once
from torch import Tensor

from sala_core.errors import MemoryBudgetError
from sala_core.model.checkpoint import expected_shapes, load_gptq_config, weight_bytes
from sala_core.model.config import SalaConfig
from sala_core.model.fingerprint import CHUNK_TOKENS
from sala_core.model.forward import QUERIES_SCORED, QUERIES_SCORED_BY_CPU
from sala_core.model.packing import packing_for
from sala_core.model.state import KvKind

PLANNED_TOKENS = 1 << 20
"""Stream length that a card's settings are chosen for. A constant: the same card must always get the same settings."""

CARD_CHUNK_TOKENS = (8192, 4096, 2048, CHUNK_TOKENS)
"""Chunk lengths for cards, longest first. Longer chunks would take twice the memory and save little time:
packed matrices are dequantized once per chunk, which is about 3% of the work of 8,192 tokens."""

PENDING_SAVES = 2
"""Maximum number of checkpoints that wait to be written while prefill continues."""

_SMALL_CARD_TOKENS = 1 << 17  # planned for instead on cards where PLANNED_TOKENS do not fit
_SMALL_CARD_CHUNK_TOKENS = 2048
_MAX_DEQUANTIZED_WEIGHTS = 1 << 26  # that `sala_kernels.int4_linear` dequantizes at a time
_DECODE_BYTES = 96 << 20  # buffers and CUDA graphs of decode steps of up to 16 tokens
_PIPELINE_BYTES = 1 << 30  # limit for chunks computed at once, one per core; all cores share a larger chunk
_RUNTIME_BYTES = 512 << 20  # CUDA context, kernels and the workspace of cuBLAS
_OTHER_PROGRAMS_SHARE = 1 / 16  # of a card's memory, for the desktop and other programs
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, its driver, Triton's launcher
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "can't allocate memory",  # torch on a CPU, on Linux and macOS
    "not enough memory",  # and on Windows
)
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The facts of a model that its memory needs depend on.

    itemsize: bytes per number outside packed matrices and linear states. packed: whether any matrix is packed int4.
    """

    config: SalaConfig
    itemsize: int
    weights_bytes: int
    packed: bool

    @classmethod
    def of(cls, config: SalaConfig, weights: Mapping[str, Tensor | Int4Weight], dtype: torch.dtype) -> "ModelSize":
        """Measure a model by its weights, as `SalaModel` takes them. A tensor under two names counts once."""
        tensors = {id(x): x for x in weights.values()}.values()
        return cls(
            config=config,
            itemsize=dtype.itemsize,
            weights_bytes=sum(x.num_bytes if isinstance(x, Int4Weight) else x.nbytes for x in tensors),
            packed=any(isinstance(x, Int4Weight) for x in tensors),
        )


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Bytes on the device while a stream of `num_tokens` tokens is prefilled and questions about it are answered."""

    num_tokens: int
    kv: KvKind
    chunk_tokens: int
    weights_bytes: int
    kv_bytes: int
    """Keys, values and pooled keys of the sparse layers."""
    linear_bytes: int
    activation_bytes: int
    """Tensors alive at the peak of a chunk, or of the chunks that are computed at once."""
    saving_bytes: int
    """Copies of the linear states in checkpoints that wait to be written."""
    answer_bytes: int
    """Decode steps, and the attention that every key received (`AttentionTrace`), by which evidence is ranked."""
    runtime_bytes: int
    """CUDA itself, and what torch's allocator loses between its pieces; 0 on a CPU."""

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by purpose, named as messages name it."""
        return {
            "weights": self.weights_bytes,
            "keys and values": self.kv_bytes,
            "linear states": self.linear_bytes + self.saving_bytes,
            "computing": self.activation_bytes,
            "answering": self.answer_bytes,
            "the driver": self.runtime_bytes,
        }

    @property
    def total_bytes(self) -> int:
        """Sum of all parts."""
        return sum(self.parts.values())


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """Number format of the KV cache and length of a prefill chunk. Saved states are bound to both."""

    kv: KvKind
    chunk_tokens: int


def kv_bytes(size: ModelSize, kv: KvKind, num_tokens: int) -> int:
    """Bytes of keys, values and pooled keys that a state with a capacity of `num_tokens` (1,024 or more) allocates."""
    config, sparse = size.config, size.config.sparse_config
    pooled_row = config.num_key_value_heads * config.head_dim * size.itemsize
    row = pooled_row if kv == "plain" else config.num_key_value_heads * (config.head_dim + 4)
    windows = num_windows(num_tokens, sparse.kernel_size, sparse.kernel_stride)
    windows += num_windows(num_tokens, sparse.coarse_size, sparse.coarse_stride)
    return len(config.sparse_layers) * (2 * num_tokens * row + windows * pooled_row)


def linear_bytes(config: SalaConfig) -> int:
    """Bytes of the linear states, which are fp32."""
    return len(config.lightning_layers) * config.lightning_nh * config.lightning_head_dim**2 * 4


def activation_bytes(size: ModelSize, chunk_tokens: int, num_tokens: int, *, on_card: bool = True) -> int:
    """Bytes of the tensors alive at the peak of the last prefill chunk of a stream.

    Every layer holds the residual stream, its norm and the rotary angles, and in addition the largest of three:

    - MLP: gate, up, and their product or a dequantized matrix, on a CPU a piece of it.
    - Lightning layer: v, and q and k before and after norm and rotary embedding; the states at the starts of the
      segments or a dequantized matrix.
    - Sparse layer: q, k, v, output and chosen blocks; the block scores of the queries scored at once or the gate. A
      CPU needs `_cpu_sparse_bytes` in place of the scores.

    Args:
        size: the model.
        chunk_tokens: tokens per chunk.
        num_tokens: tokens of the stream.
        on_card: False for a CPU.
    """
    config = size.config
    T, D, F, itemsize = min(chunk_tokens, num_tokens), config.hidden_size, config.intermediate_size, size.itemsize
    dequantized = _MAX_DEQUANTIZED_WEIGHTS * itemsize if size.packed else 0
    if size.packed and not on_card:
        dequantized = INT4_SCRATCH_BYTES
    dequantized = min(dequantized, max(D, config.num_attention_heads * config.head_dim) * F * itemsize)
    mlp = 2 * T * F * itemsize + max(T * F * itemsize, dequantized)
    q_dim = config.lightning_nh * config.lightning_head_dim
    kv_dim = config.lightning_nkv * config.lightning_head_dim
    states = config.lightning_nh * config.lightning_head_dim**2 * 4 * (1 + T // 512)
    lightning = T * (2 * q_dim + 2 * kv_dim + kv_dim) * itemsize + max(states, dequantized)
    blocks = -(num_tokens // -config.sparse_config.block_size)
    scores = config.num_key_value_heads * min(T, QUERIES_SCORED) * blocks * 4
    if not on_card:
        scores = _cpu_sparse_bytes(size, T, num_tokens)
    chosen = 2 * config.num_key_value_heads * T * config.sparse_config.num_selected_blocks * 8
    q_dim = config.num_attention_heads * config.head_dim
    kv_dim = config.num_key_value_heads * config.head_dim
    sparse = T * (2 * q_dim + 2 * kv_dim) * itemsize + chosen + max(scores, q_dim * T * itemsize)
    cos_sin = T * config.lightning_head_dim * 4
    return 2 * T * D * itemsize + cos_sin + max(mlp, lightning, sparse)


def num_pipelined_chunks(size: ModelSize, chunk_tokens: int, num_tokens: int) -> int:
    """Number of chunks that a CPU computes at once, one per core, in a stream of `num_tokens` tokens.

    1 if the chunks are too large for that; all cores then share each chunk.
    """
    cores = min(torch.get_num_threads(), -(num_tokens // -chunk_tokens))
    bytes_each = activation_bytes(size, chunk_tokens, num_tokens, on_card=False)
    return cores if cores * bytes_each <= _PIPELINE_BYTES else 1


def _cpu_sparse_bytes(size: ModelSize, num_queries: int, num_tokens: int) -> int:
    """Bytes that a CPU needs beside q, k, v, output and chosen blocks of a sparse layer: the larger of two peaks.

    Block scores: the scores [kv heads, 256, blocks] of the queries scored at once, the copy that the top-k search
    works on, and the coarse pooled keys in float32.

    Attention: the queries in float32 and, for one kv head, the weighted values of the queries computed at once and
    their chosen blocks. Their groups are at least half full, and the pieces and their concatenation are both in memory:
    2 * 2 times the values.
    """
    config, sparse = size.config, size.config.sparse_config
    kv_dim = config.num_key_value_heads * config.head_dim
    blocks = -(num_tokens // -sparse.block_size)
    scores = 2 * config.num_key_value_heads * min(num_queries, QUERIES_SCORED_BY_CPU) * blocks * 4
    coarse = num_windows(num_tokens, sparse.coarse_size, sparse.coarse_stride) * kv_dim * 4
    q = num_queries * config.num_attention_heads * config.head_dim
    heads = config.num_attention_heads // config.num_key_value_heads
    slots = sparse.num_selected_blocks - sparse.init_blocks - sparse.local_blocks
    queries = min(num_queries, queries_at_once(slots, heads, config.head_dim))
    values = 4 * queries * heads * config.head_dim * sparse.num_selected_blocks * size.itemsize
    return max(scores + coarse, 4 * q + values)


def plan_memory(size: ModelSize, num_tokens: int, settings: DeviceSettings, *, on_card: bool = True) -> MemoryPlan:
    """Compute the memory that a stream needs on the device.

    Args:
        size: the model.
        num_tokens: tokens of the stream.
        settings: format of the KV cache and length of a chunk.
        on_card: False for a CPU.
    """
    config = size.config
    linear = linear_bytes(config)
    activations = activation_bytes(size, settings.chunk_tokens, num_tokens, on_card=on_card)
    if not on_card:
        activations *= num_pipelined_chunks(size, settings.chunk_tokens, num_tokens)
    evidence = len(config.sparse_layers) * num_tokens * 5  # fp32, grown by a quarter
    return MemoryPlan(
        num_tokens=num_tokens,
        kv=settings.kv,
        chunk_tokens=settings.chunk_tokens,
        weights_bytes=size.weights_bytes,
        kv_bytes=kv_bytes(size, settings.kv, num_tokens),
        linear_bytes=linear,
        activation_bytes=activations,
        saving_bytes=PENDING_SAVES * linear,
        answer_bytes=evidence + (_DECODE_BYTES if on_card else 0),
        runtime_bytes=_RUNTIME_BYTES + activations // 4 if on_card else 0,
    )


def settings_for_card(size: ModelSize, card_bytes: int, kv: KvKind | Literal["auto"] = "auto") -> DeviceSettings:
    """Choose the settings of a card by its total memory.

    "auto" is "plain" if PLANNED_TOKENS fit in that format, else "int8". The chunk is the longest with which they fit.
    On a card where they never fit, chunks are short, to leave memory for more tokens. Free memory plays no part: the
    same card must always get the same settings, because saved states are bound to them.
    """
    kinds: tuple[KvKind, ...] = ("plain", "int8") if kv == "auto" else (kv,)
    usable = card_bytes - int(card_bytes * _OTHER_PROGRAMS_SHARE)
    candidates = [(PLANNED_TOKENS, kind, chunk) for kind in kinds for chunk in CARD_CHUNK_TOKENS]
    for num_tokens, kind, chunk in [*candidates, (_SMALL_CARD_TOKENS, kinds[-1], _SMALL_CARD_CHUNK_TOKENS)]:
        settings = DeviceSettings(kv=kind, chunk_tokens=chunk)
        if plan_memory(size, num_tokens, settings).total_bytes <= usable:
            return settings
    return DeviceSettings(kv=kinds[-1], chunk_tokens=CHUNK_TOKENS)


def device_settings(size: ModelSize, device: torch.device, kv: KvKind | Literal["auto"]) -> DeviceSettings:
    """Choose the settings of a device. On a CPU "auto" is "plain": time limits prefill long before memory does."""
    if device.type == "cuda":
        return settings_for_card(size, torch.cuda.get_device_properties(device).total_memory, kv)
    return DeviceSettings(kv="plain" if kv == "auto" else kv, chunk_tokens=CHUNK_TOKENS)


def free_device_bytes(device: torch.device) -> int:
    """Free memory in bytes: on a card, what the driver and torch's cache have free; on a CPU, what the system has.

    Checks by this number keep a card on Windows within its own memory. Beyond it, the driver there does not fail: it
    moves buffers to the system's memory, and every pass takes many times as long.
    """
    if device.type != "cuda":
        return psutil.virtual_memory().available
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out.

    torch raises OutOfMemoryError where its own allocator fails on a card. Other allocations there fail as
    AcceleratorError or RuntimeError with the library's message; on a CPU as RuntimeError; in NumPy as MemoryError.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


@contextmanager
def memory_errors(message: Callable[[], str]) -> Iterator[None]:
    """Raise MemoryBudgetError with `message()` for what `is_out_of_memory` recognizes in the block."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryBudgetError(message()) from error


def packed_dtype(folder: Path, config: SalaConfig, device: torch.device) -> str | None:
    """The dtype for a model whose int4 weights stay packed on a CPU: "bfloat16", also where a CPU is slow in it.

    Its products are fast there: few rows have a kernel, and many rows are multiplied in float32. None for other models.
    """
    if device.type != "cpu" or load_gptq_config(folder) is None:
        return None
    return "bfloat16" if packing_for(expected_shapes(config), device, torch.bfloat16) == "cpu" else None


def check_weights_fit(folder: Path, config: SalaConfig, device: torch.device, dtype: torch.dtype) -> None:
    """Raise MemoryBudgetError if a model's weights exceed the device's free memory. Call before loading them.

    Where 4-bit matrices do not stay packed (a small model on a CPU, a card without the kernels), they count as they
    will be loaded: dequantized. Raises CheckpointError for files that cannot be read.

    Args:
        folder: the model's folder.
        config: its configuration.
        device: where the weights are to go.
        dtype: in which they are to be loaded.
    """
    packing, on_card = packing_for(expected_shapes(config), device, dtype), device.type == "cuda"
    needed, free = weight_bytes(folder, config, dtype=dtype, packed=packing), free_device_bytes(device)
    if not on_card:
        free += psutil.swap_memory().free
    if needed <= free:
        return
    unpacked = packing is None and needed > weight_bytes(folder, config, dtype=dtype, packed=True)
    advice = "close other programs"
    if on_card:
        advice += ", use --device cpu" + ("" if unpacked else ", or quantize the model to int4 (launch.py quantize)")
    else:
        plain = weight_bytes(folder, config, dtype=dtype, packed=True) == needed
        advice += (", use int4 weights (launch.py quantize)" if plain else "") + ", or choose a smaller model"
    form, where = " dequantized, as this device needs them," if unpacked else "", "the card" if on_card else "memory"
    raise MemoryBudgetError(
        f"the weights in {folder} take {needed / _GIB:.1f} GiB{form} and {free / _GIB:.1f} GiB of {where} is free; "
        f"{advice}"
    )
