"""What a saved state depends on. Two engines share states if, and only if, their fingerprints are equal."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
import xxhash

from sala_core.model.checkpoint import weight_files
from sala_core.model.config import SalaConfig
from sala_core.model.state import KvKind

STATE_FORMAT = 1
"""Raised whenever the same tokens would give other bytes in a state: layout, rounding, order of sums."""

CHUNK_TOKENS = 1024
"""Tokens computed at once while reading on a CPU, more on a card: a power of two times as many. Chunks end at multiples
of it, so that any split gives the same state."""

_LATER = {"attn_qk_norm": False}
"""Fields that configs got later, and what went without saying before: states saved then are still good."""

_ABSENT = object()
_READ_BYTES = 16 << 20


def state_fingerprint(
    folder: Path,
    config: SalaConfig,
    dtype: torch.dtype,
    tokenizer_fingerprint: str,
    *,
    kv: KvKind = "plain",
    chunk_tokens: int = CHUNK_TOKENS,
) -> str:
    """xxh3-128 over weights, config, tokenizer and template, dtype, chunk grid, how keys and values are held, and
    format, in hexadecimal. Plain ones go unnamed, as before there were others: states saved then are still good."""
    digest = xxhash.xxh3_128()
    facts = {
        "format": STATE_FORMAT,
        "chunk_tokens": chunk_tokens,
        "dtype": str(dtype),
        "config": {name: value for name, value in asdict(config).items() if _LATER.get(name, _ABSENT) != value},
        "tokenizer": tokenizer_fingerprint,
    }
    if kv != "plain":
        facts["kv"] = kv
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for file in weight_files(folder):
        with file.open("rb") as stream:
            while piece := stream.read(_READ_BYTES):
                digest.update(piece)
    return digest.hexdigest()
