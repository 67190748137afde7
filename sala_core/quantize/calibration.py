"""Text that a model sees while it is quantized, and other text that tells what this cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from torch import Tensor

from sala_core.assets import ASSETS, ROOT
from sala_core.errors import QuantizeError
from sala_core.ingest import Limits, SkippedFile, prepare, walk
from sala_core.quantize.solver import QuantizeStopped, never
from sala_core.text.chat_template import ChatLayout
from sala_core.text.prompt import SYSTEM_PROMPT, document_header
from sala_core.text.tokenizer import Tokenizer

_TEXTS = ASSETS / "quantize"
DEFAULT_CALIBRATION = (
    _TEXTS / "calibration",
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "LICENSE",
    ASSETS / "embedded" / "README.md",
    ROOT / "sala_core",
)
"""Prose, dialogue and data in several languages written for this purpose; the program's own guides, licence, source."""
DEFAULT_HELD_OUT = (_TEXTS / "held-out",)
_BYTES_A_TOKEN = 4
_OVERSUPPLY = 4  # text read for each token used, so that many files are drawn from


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Texts of one length. ids: int64 [N, T]; each text begins as a prompt does, with `num_prefix` ids."""

    ids: Tensor
    num_prefix: int
    num_files: int
    num_tokens_found: int
    hashes: frozenset[str]

    @property
    def digest(self) -> str:
        """Equal for equal ids, hexadecimal."""
        return xxhash.xxh3_128_hexdigest(self.ids.numpy().tobytes())


def read_samples(
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    *,
    samples: int,
    sample_tokens: int,
    should_stop: Callable[[], bool] = never,
) -> Samples:
    """Cut the text under `paths` into at most `samples` texts of `sample_tokens` tokens, evenly over all of it.

    Where there is less text, the samples are fewer, and a little shorter so that all of it is used. Raises IngestError
    for a missing path, QuantizeError where the paths hold no text, Stopped.
    """
    prefix = _prefix(tokenizer)
    wanted = samples * sample_tokens * _BYTES_A_TOKEN * _OVERSUPPLY
    pieces, hashes = [], set()
    for item in prepare(_some_files(paths, wanted), tokenizer, should_stop=should_stop):
        if not isinstance(item, SkippedFile):
            pieces.append(item.token_ids)
            hashes.add(xxhash.xxh3_128_hexdigest(item.document.text.encode()))
    if should_stop():
        raise QuantizeStopped
    stream = np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
    longest = sample_tokens - len(prefix)
    if longest < 2 or len(stream) < 2:
        shown = ", ".join(map(str, paths))
        raise QuantizeError(f"{shown}: {len(stream)} tokens cannot fill texts of {sample_tokens}; give more of both")
    count = min(samples, -(-len(stream) // longest))
    length = min(longest, len(stream) // count)
    spacing = (len(stream) - length) // max(1, count - 1)
    rows = [np.concatenate([prefix, stream[i * spacing : i * spacing + length]]) for i in range(count)]
    return Samples(
        ids=torch.from_numpy(np.stack(rows).astype(np.int64)),
        num_prefix=len(prefix),
        num_files=len(pieces),
        num_tokens_found=len(stream),
        hashes=frozenset(hashes),
    )


def _some_files(paths: Sequence[Path], wanted_bytes: int) -> list[Path]:
    """The files under `paths`; of a large collection every second, third ... one, still about `wanted_bytes`."""
    found = [file for file in walk(paths, Limits()) if not isinstance(file, SkippedFile)]
    step = max(1, min(sum(file.num_bytes for file in found) // wanted_bytes, len(found) // 16))
    return [Path(file.path) for file in found[::step]]


def _prefix(tokenizer: Tokenizer) -> np.ndarray:
    """What the program's own prompts begin with; nothing for a model without a chat template. int32 [n]."""
    if tokenizer.chat_template is None:
        return np.zeros(0, dtype=np.int32)
    chat = ChatLayout.from_tokenizer(tokenizer)
    system = chat.message("system", tokenizer.encode_content(SYSTEM_PROMPT))
    header = tokenizer.encode_content(document_header("text.txt"))
    return np.concatenate([system, chat.message_prefix("user"), header])
