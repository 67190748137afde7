"""What reading takes of a device's memory, counted before any work, and what a card is set to by its size."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch
from sala_kernels import Int4Matrix, num_windows
from torch import Tensor

from sala_core.errors import MemoryBudgetError
from sala_core.model.checkpoint import weight_files
from sala_core.model.config import SalaConfig
from sala_core.model.fingerprint import CHUNK_TOKENS
from sala_core.model.forward import QUERIES_SCORED, QUERIES_SCORED_BY_CPU
from sala_core.model.state import KvKind

PLANNED_TOKENS = 1 << 20
"""Tokens that a card is set up for: always as many, so that the same card always gets the same settings."""

CARD_CHUNK_TOKENS = (8192, 4096, 2048, CHUNK_TOKENS)
"""What a card may be set to. Longer ones would read hardly faster: packed matrices are made plain once a chunk, which
is some 3 % of the work of 8,192 tokens; and they would take twice the memory."""

PENDING_SAVES = 2
"""Checkpoints that may wait to be written while reading goes on."""

_FEWER_TOKENS = 1 << 17  # where the tokens planned for do not fit
_SHORT_CHUNK_TOKENS = 2048
_SCRATCH_NUMBERS = 1 << 26  # a packed matrix made plain, by `sala_kernels.int4_linear`
_DECODE_BYTES = 96 << 20  # buffers and graphs of decode steps of up to 16 tokens
_SIDE_BY_SIDE_BYTES = 1 << 30  # that chunks computed side by side may take; the cores share larger ones
_RUNTIME_BYTES = 512 << 20  # CUDA's context, kernels and cuBLAS' workspace
_OTHERS = 1 / 16  # of a card: what the desktop and other programs take
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What counting needs to know of a model. itemsize: bytes of a number outside packed matrices and linear states.

    packed: some matrices have 4-bit integers.
    """

    config: SalaConfig
    itemsize: int
    weights_bytes: int
    packed: bool

    @classmethod
    def of(cls, config: SalaConfig, weights: Mapping[str, Tensor | Int4Matrix], dtype: torch.dtype) -> "ModelSize":
        """Of weights as a `SalaModel` takes them."""
        tensors = {id(x): x for x in weights.values()}.values()
        return cls(
            config=config,
            itemsize=dtype.itemsize,
            weights_bytes=sum(x.num_bytes if isinstance(x, Int4Matrix) else x.nbytes for x in tensors),
            packed=any(isinstance(x, Int4Matrix) for x in tensors),
        )


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Bytes on the device while a stream of `num_tokens` tokens is read and answered from."""

    num_tokens: int
    kv: KvKind
    chunk_tokens: int
    weights_bytes: int
    kv_bytes: int
    """Keys, values and pooled keys."""
    linear_bytes: int
    activation_bytes: int
    """Tensors alive at the peak of a chunk, or of the chunks that are computed side by side."""
    saving_bytes: int
    """Copies of the linear states that wait to be written."""
    answer_bytes: int
    """Decode steps, and the attention every key got, from which evidence is found."""
    runtime_bytes: int
    """CUDA's own, and what the allocator loses to gaps; 0 on the CPU."""

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by what they are for."""
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
        """All of it."""
        return sum(self.parts.values())


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model reads on its device."""

    kv: KvKind
    chunk_tokens: int


def kv_bytes(size: ModelSize, kv: KvKind, num_tokens: int) -> int:
    """Keys, values and pooled keys of so many tokens: exactly what a state reserves for them (1,024 rows or more)."""
    config, sparse = size.config, size.config.sparse_config
    row = config.num_key_value_heads * config.head_dim * size.itemsize
    held = row if kv == "plain" else config.num_key_value_heads * (config.head_dim + 4)
    windows = num_windows(num_tokens, sparse.kernel_size, sparse.kernel_stride)
    windows += num_windows(num_tokens, sparse.coarse_size, sparse.coarse_stride)
    return len(config.sparse_layers) * (2 * num_tokens * held + windows * row)


def linear_bytes(config: SalaConfig) -> int:
    """The linear states, fp32."""
    return len(config.lightning_layers) * config.lightning_nh * config.lightning_head_dim**2 * 4


def activation_bytes(size: ModelSize, chunk_tokens: int, num_tokens: int, *, on_card: bool = True) -> int:
    """Tensors alive at the peak of a chunk of `chunk_tokens` tokens at the end of `num_tokens`.

    Through a layer live the residual stream and its norm: 2 D a token. On
    top comes the most of: gate, up and their product (3 F, or 2 F and a packed matrix made plain); q, k, v of a
    lightning layer before and after norm and rotation, and its states at the segments' beginnings; q, o and gate of a
    sparse layer, with the scores [kv heads, 1024, blocks] of the queries at hand. A CPU has other things instead of
    these.
    """
    config = size.config
    T, D, F, item = min(chunk_tokens, num_tokens), config.hidden_size, config.intermediate_size, size.itemsize
    scratch = _SCRATCH_NUMBERS * item if size.packed else 0
    scratch = min(scratch, max(D, config.num_attention_heads * config.head_dim) * F * item)
    mlp = 2 * T * F * item + max(T * F * item, scratch)
    heads = config.lightning_nh * config.lightning_head_dim
    kv_heads = config.lightning_nkv * config.lightning_head_dim
    states = config.lightning_nh * config.lightning_head_dim**2 * 4 * (1 + T // 512)
    lightning = T * (2 * heads + 2 * kv_heads + kv_heads) * item + max(states, scratch)
    blocks = -(num_tokens // -config.sparse_config.block_size)
    scores = config.num_key_value_heads * min(T, QUERIES_SCORED) * blocks * 4
    if not on_card:
        scores = _cpu_bytes(size, T, num_tokens)
    chosen = 2 * config.num_key_value_heads * T * config.sparse_config.num_selected_blocks * 8
    q = config.num_attention_heads * config.head_dim
    sparse = T * (2 * q + 2 * config.num_key_value_heads * config.head_dim) * item + chosen + max(scores, q * T * item)
    turn = T * config.lightning_head_dim * 4
    return 2 * T * D * item + turn + max(mlp, lightning, sparse)


def num_pipelined_chunks(size: ModelSize, chunk_tokens: int, num_tokens: int) -> int:
    """Chunks that a CPU computes at once, one a core, while it reads up to `num_tokens`: 1 where they are too large,
    and all cores share each."""
    cores = min(torch.get_num_threads(), -(num_tokens // -chunk_tokens))
    bytes_each = activation_bytes(size, chunk_tokens, num_tokens, on_card=False)
    return cores if cores * bytes_each <= _SIDE_BY_SIDE_BYTES else 1


def _cpu_bytes(size: ModelSize, num_queries: int, num_tokens: int) -> int:
    """What a CPU has beside q, o and gate of a sparse layer: first the scores [kv heads, 256, blocks] of the queries at
    hand, what is searched of them, and coarse pooled keys in float32; then float32 queries, and of one kv head the
    values that every chosen block gives, in groups at least half full, in pieces and then in one.
    """
    config, sparse = size.config, size.config.sparse_config
    row = config.num_key_value_heads * config.head_dim
    blocks = -(num_tokens // -sparse.block_size)
    scores = 2 * config.num_key_value_heads * min(num_queries, QUERIES_SCORED_BY_CPU) * blocks * 4
    coarse = num_windows(num_tokens, sparse.coarse_size, sparse.coarse_stride) * row * 4
    q = num_queries * config.num_attention_heads * config.head_dim
    values = 4 * q // config.num_key_value_heads * sparse.num_selected_blocks * size.itemsize
    return max(scores + coarse, 4 * q + values)


def plan_memory(size: ModelSize, num_tokens: int, settings: Settings, *, on_card: bool = True) -> MemoryPlan:
    """Count what a stream of `num_tokens` tokens takes of the device."""
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


def settings_for_card(size: ModelSize, card_bytes: int, kv: KvKind | Literal["auto"] = "auto") -> Settings:
    """What a card of so much memory in all is set to: "plain" where a million tokens fit so, else "int8"; and the
    longest chunk with which they fit. On smaller cards, where only fewer do, chunks are short to leave room for more.
    Depends on nothing else, as saved states are bound to it."""
    kinds: tuple[KvKind, ...] = ("plain", "int8") if kv == "auto" else (kv,)
    room = card_bytes - int(card_bytes * _OTHERS)
    tried = [(PLANNED_TOKENS, kind, chunk) for kind in kinds for chunk in CARD_CHUNK_TOKENS]
    for num_tokens, kind, chunk in [*tried, (_FEWER_TOKENS, kinds[-1], _SHORT_CHUNK_TOKENS)]:
        settings = Settings(kv=kind, chunk_tokens=chunk)
        if plan_memory(size, num_tokens, settings).total_bytes <= room:
            return settings
    return Settings(kv=kinds[-1], chunk_tokens=CHUNK_TOKENS)


def device_settings(size: ModelSize, device: torch.device, kv: KvKind | Literal["auto"]) -> Settings:
    """What this device is set to. On the CPU "auto" is "plain": a reading ends long before memory does."""
    if device.type == "cuda":
        return settings_for_card(size, torch.cuda.get_device_properties(device).total_memory, kv)
    return Settings(kv="plain" if kv == "auto" else kv, chunk_tokens=CHUNK_TOKENS)


def free_device_bytes(device: torch.device) -> int:
    """Memory that can still be had: on a card what the driver and torch's own cache have left, else the computer's."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory has ended: torch has a class of its own for cards, and a plain RuntimeError for the computer's."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def check_weights_fit(folder: Path, device: torch.device) -> None:
    """Raise MemoryBudgetError, before anything is loaded, where a model's files do not fit into the card."""
    if device.type != "cuda":
        return
    needed, free = sum(file.stat().st_size for file in weight_files(folder)), free_device_bytes(device)
    if needed > free:
        raise MemoryBudgetError(
            f"the weights in {folder} take {needed / _GIB:.1f} GiB and {free / _GIB:.1f} GiB of the card is free; "
            "close other programs, give it int4 weights (launch.py quantize), or use --device cpu"
        )
