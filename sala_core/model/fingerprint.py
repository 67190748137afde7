"""Fingerprint of everything that a saved state depends on. Engines can share states only if theirs are equal."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
import xxhash
from sala_kernels import MAX_QUERIES, queries_at_once

from sala_core.model.checkpoint import weight_files
from sala_core.model.config import SalaConfig
from sala_core.model.forward import SalaModel
from sala_core.model.state import KvKind
from sala_core.model.weight_digests import digest_weights

STATE_FORMAT = 1
"""Increment with every change that gives other state bytes for the same tokens: layout, rounding, order of sums."""

INT4_ON_CPU_FORMAT = 1
"""Increment with every change of the products of packed matrices on a CPU (`sala_kernels.int4_linear.cpu`)."""

CHUNK_TOKENS = 1024
"""Tokens per prefill chunk on a CPU; on a card, this times a power of two. Chunks end at multiples of their length, so
that calls which end there give the same state, bit for bit, as one call, with any number of CPU threads. A call that
ends between two multiples cuts a chunk in two; the sums then have another order, and the state differs by rounding. A
session therefore never goes on between two multiples, except where every reading of its stream cuts it
(`sala_core.session.stream.is_fixed`). Products of packed 4-bit matrices on a CPU keep this: which of two ways they take
depends on their number of rows alone, which is the chunk's."""

KvAtRest = Literal["same", "int8"]
"""Number format of keys and values in stored states: that of the memory, or one byte per number with a scale."""

KV_AT_REST: tuple[KvAtRest, ...] = ("same", "int8")

_IMPLIED = {"attn_qk_norm": False}
"""Config fields that are left out of the fingerprint at this value. States saved before a field existed imply it."""

_ABSENT = object()


def state_fingerprint(
    folder: Path,
    config: SalaConfig,
    dtype: torch.dtype,
    tokenizer_fingerprint: str,
    *,
    kv: KvKind = "plain",
    chunk_tokens: int = CHUNK_TOKENS,
    cpu: Mapping[str, int] | None = None,
) -> str:
    """xxh3-128 digest, in hexadecimal, of the weight files and of every fact that changes the bytes of a state.

    `kv` and `cpu` enter only where they are not the defaults, so that states saved before they existed stay valid.
    Unchanged weight files are not read again (`weight_digests.py`).

    Args:
        folder: the model's folder, with its weight files.
        config: the model's configuration.
        dtype: the model's dtype.
        tokenizer_fingerprint: of the tokenizer and its chat template.
        kv: number format of keys and values.
        chunk_tokens: tokens per prefill chunk.
        cpu: `cpu_facts` of a model on a CPU.
    """
    facts: dict[str, object] = {
        "format": STATE_FORMAT,
        "chunk_tokens": chunk_tokens,
        "dtype": str(dtype),
        "config": {name: value for name, value in asdict(config).items() if _IMPLIED.get(name, _ABSENT) != value},
        "tokenizer": tokenizer_fingerprint,
    }
    if kv != "plain":
        facts["kv"] = kv
    if cpu:
        facts["cpu"] = dict(cpu)
    return digest_weights(json.dumps(facts, sort_keys=True).encode(), weight_files(folder))


def model_fingerprint(
    model: SalaModel, folder: Path, tokenizer_fingerprint: str, *, chunk_tokens: int, packed: bool
) -> str:
    """The fingerprint of a loaded model's states.

    Args:
        model: the model.
        folder: its folder.
        tokenizer_fingerprint, chunk_tokens: as for `state_fingerprint`.
        packed: whether 4-bit matrices are packed.
    """
    return state_fingerprint(
        folder,
        model.config,
        model.dtype,
        tokenizer_fingerprint,
        kv=model.kv,
        chunk_tokens=chunk_tokens,
        cpu=cpu_facts(model, packed=packed),
    )


def cpu_facts(model: SalaModel, *, packed: bool) -> dict[str, int]:
    """What a large model computes on a CPU in another order than a small one; {} for a small one, and on a card.

    packed: whether 4-bit matrices are packed. Their sums have another order than those of dequantized matrices, and
    few rows are multiplied by rounded scales.
    """
    if model.device.type != "cpu":
        return {}
    facts = {"int4": INT4_ON_CPU_FORMAT} if packed else {}
    config = model.config
    heads = config.num_attention_heads // config.num_key_value_heads
    queries = queries_at_once(model.layout.slots, heads, config.head_dim)
    return facts if queries == MAX_QUERIES else facts | {"queries": queries}


def at_rest_fingerprint(own: str, kv_at_rest: KvAtRest, kv: KvKind) -> str:
    """The fingerprint of a model's states that are stored in one format: the model's own if that is as in memory.

    They differ because states do: keys and values are rounded in memory too when they are stored, so that a state is
    the same whether it was stored and loaded or not.

    Args:
        own: `state_fingerprint` of the model.
        kv_at_rest: number format of stored keys and values.
        kv: of those in memory. One byte per number is stored as it is.
    """
    if kv_at_rest == "same" or kv != "plain":
        return own
    return xxhash.xxh3_128_hexdigest(f"sala-kv-at-rest\0{kv_at_rest}\0{own}")
