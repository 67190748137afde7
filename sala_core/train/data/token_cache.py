"""Token ids of the training text, made once and memory-mapped, and windows of them in shuffled order."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sala_core.errors import TrainError
from sala_core.text.tokenizer import Tokenizer
from sala_core.train.data.corpus import read_texts, text_files
from sala_core.train.files import read_json, write_json
from sala_core.train.recipe import Data

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class TokenCache:
    """Ids of all documents, each after a separator token. train, held_out: [n] uint16 or int32, memory-mapped.

    replaced: one sentence about characters that the tokenizer cannot write, or None.
    """

    train: np.ndarray
    held_out: np.ndarray
    replaced: str | None = None

    @classmethod
    def open(cls, data: Data, tokenizer: Tokenizer, separator: int, folder: Path) -> TokenCache:
        """Open the cache of these texts; make it if it does not exist. Raises TrainError, LibraryError, DiskFullError.

        Args:
            data: the texts.
            tokenizer: encodes the texts.
            separator: token id in front of every document.
            folder: of the cache files, one set for each combination of the above.
        """
        stem = folder / f"tokens-{_digest(data, tokenizer, separator)}"
        if not stem.with_suffix(".json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            _build(stem, data, tokenizer, separator)
        facts = read_json(stem.with_suffix(".json"))
        parts = {name: _map_file(_file(stem, name), facts["dtype"], facts[name]) for name in ("train", "held_out")}
        return cls(**parts, replaced=tokenizer.note_of_replaced(facts.get("replaced", {})))


def num_windows(num_tokens: int, length: int) -> int:
    """Return how many windows of `length` inputs and `length` targets `num_tokens` tokens have."""
    return max(0, (num_tokens - 1) // length)


def window(tokens: np.ndarray, length: int, sample: int, seed: str) -> np.ndarray:
    """Return the ids of a sample, [length + 1] int64. Raises TrainError if there is too little text.

    An epoch has every window once. Each epoch has another order and another offset of the windows.

    Args:
        tokens: [n], the text.
        length: tokens of a window.
        sample: number of the sample, over all epochs.
        seed: of orders and offsets.
    """
    count = num_windows(len(tokens) - length, length)
    if count < 1:
        raise TrainError(f"{len(tokens):,} tokens of text are too few for windows of {length:,} tokens; give more text")
    epoch, index = divmod(sample, count)
    offset = _mix(f"{seed}/{epoch}/offset") % length
    start = offset + shuffled(index, count, f"{seed}/{epoch}") * length
    return tokens[start : start + length + 1].astype(np.int64)


def shuffled(index: int, count: int, seed: str) -> int:
    """Return item `index` of a pseudo-random permutation of 0 ... count - 1, computed without a table.

    The permutation is a Feistel cipher over the next even number of bits, with cycle walking.
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask, keys = (1 << half) - 1, [_mix(f"{seed}/{number}") for number in range(4)]
    while True:  # encipher again until in range: the cipher has at most 4 * count values
        left, right = index >> half, index & mask
        for key in keys:
            mixed = (right + key) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
            left, right = right, left ^ ((mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9 >> 17 & mask)
        index = left << half | right
        if index < count:
            return index


def _mix(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _digest(data: Data, tokenizer: Tokenizer, separator: int) -> str:
    """Hash of the files' names, sizes and times, of the held-out names, the tokenizer and the separator."""
    files = [
        (str(file), file.stat().st_size, file.stat().st_mtime_ns)
        for _, _, file in text_files(data.texts, library=data.python_library)
    ]
    facts = [_FORMAT, files, sorted(data.held_out), tokenizer.fingerprint, separator]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()


def _file(stem: Path, part: str) -> Path:
    return stem.with_name(f"{stem.name}-{part.replace('_', '-')}.bin")


def _build(stem: Path, data: Data, tokenizer: Tokenizer, separator: int) -> None:
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "int32"
    replaced: Counter[str] = Counter()
    facts: dict[str, object] = {"dtype": dtype, "replaced": replaced}
    for name in ("train", "held_out"):
        temporary, count = _file(stem, name).with_suffix(f".{os.getpid()}.new"), 0
        with temporary.open("wb") as file:
            for ids in _documents(data, tokenizer, separator, replaced, only_held_out=name == "held_out"):
                file.write(ids.astype(dtype).tobytes())
                count += len(ids)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, _file(stem, name))
        facts[name] = count
    write_json(stem.with_suffix(".json"), facts)


def _documents(
    data: Data, tokenizer: Tokenizer, separator: int, replaced: Counter[str], *, only_held_out: bool
) -> Iterator[np.ndarray]:
    """The ids of each document. Characters that the tokenizer cannot write are added to `replaced`."""
    texts = read_texts(data.texts, data.held_out, only_held_out=only_held_out, library=data.python_library)
    for source in texts:
        replaced.update(tokenizer.unencodable(source.text))
        yield np.concatenate([np.array([separator], np.int32), tokenizer.encode_content(source.text)])


def _map_file(file: Path, dtype: str, count: int) -> np.ndarray:
    if not count:
        return np.zeros(0, dtype)
    try:
        return np.memmap(file, dtype=dtype, mode="r", shape=(count,))
    except (OSError, ValueError) as error:
        raise TrainError(f"the token cache {file} is damaged ({error}); delete it") from error
