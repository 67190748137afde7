"""Calibration text, and the held-out text on which the loss of quality is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from torch import Tensor

from sala_core.assets import ASSETS, IN_CHECKOUT, ROOT
from sala_core.errors import QuantizeError
from sala_core.ingest import Limits, SkippedFile, prepare, walk
from sala_core.quantize.solver import QuantizeStopped
from sala_core.stopping import never
from sala_core.text.chat_template import ChatLayout
from sala_core.text.prompt import SYSTEM_PROMPT, document_header
from sala_core.text.tokenizer import Tokenizer

_TEXTS = ASSETS / "quantize"
_GUIDES = (ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "LICENSE") if IN_CHECKOUT else ()
DEFAULT_CALIBRATION = (
    _TEXTS / "calibration",
    *_GUIDES,
    ASSETS / "embedded" / "README.md",
    ROOT / "sala_core",
)
"""Prose, dialogue and data in several languages, written for calibration; the program's guides, license and source.

An installed package has no guides and no license beside its source."""
DEFAULT_HELD_OUT = (_TEXTS / "held-out",)
_BYTES_PER_TOKEN = 4
_OVERSUPPLY = 4  # tokens read for each token used, so that the samples come from many files


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Texts of one length. ids: int64 [N, T]. Each text begins like a prompt of the program, with `num_prefix` ids.

    num_files, num_tokens_found: the files read and their tokens. hashes: of the files' texts.
    """

    ids: Tensor
    num_prefix: int
    num_files: int
    num_tokens_found: int
    hashes: frozenset[str]

    @property
    def digest(self) -> str:
        """xxh3-128 of the ids, hexadecimal."""
        return xxhash.xxh3_128_hexdigest(self.ids.numpy().tobytes())


def read_samples(
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    *,
    samples: int,
    sample_tokens: int,
    should_stop: Callable[[], bool] = never,
) -> Samples:
    """Cut evenly spaced samples of one length from the text under `paths`.

    If there is less text than asked for, the samples are fewer, and a little shorter so that all of it is used. Raises
    IngestError for a missing path, QuantizeError if the paths hold no text, QuantizeStopped.

    Args:
        paths: files and folders, as for `prepare`.
        tokenizer: of the model.
        samples: texts to return, at most.
        sample_tokens: length of each in tokens, at most; includes the prefix.
        should_stop: called during reading.
    """
    prefix = _prefix(tokenizer)
    enough_bytes = samples * sample_tokens * _BYTES_PER_TOKEN * _OVERSUPPLY
    pieces, hashes = [], set()
    for item in prepare(_choose_files(paths, enough_bytes), tokenizer, should_stop=should_stop):
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
    return Samples(
        ids=_spaced_rows(stream, prefix, samples, longest),
        num_prefix=len(prefix),
        num_files=len(pieces),
        num_tokens_found=len(stream),
        hashes=frozenset(hashes),
    )


def _spaced_rows(stream: np.ndarray, prefix: np.ndarray, samples: int, longest: int) -> Tensor:
    """At most `samples` evenly spaced parts of `stream`, up to `longest` long, each after the prefix; int64 [N, T]."""
    count = min(samples, -(-len(stream) // longest))
    length = min(longest, len(stream) // count)
    spacing = (len(stream) - length) // max(1, count - 1)
    rows = [np.concatenate([prefix, stream[i * spacing : i * spacing + length]]) for i in range(count)]
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def _choose_files(paths: Sequence[Path], enough_bytes: int) -> list[Path]:
    """The files under `paths`; from a large collection every n-th file, so that about `enough_bytes` remain."""
    files = [file for file in walk(paths, Limits(), open_archives=False) if not isinstance(file, SkippedFile)]
    step = max(1, min(sum(file.num_bytes for file in files) // enough_bytes, len(files) // 16))
    return [Path(file.path) for file in files[::step]]


def _prefix(tokenizer: Tokenizer) -> np.ndarray:
    """Start of the program's prompts: system message and document header; without a chat template at most `<s>`.

    int32 [n].
    """
    if tokenizer.chat_template is None:
        return tokenizer.stream_start
    chat = ChatLayout.from_tokenizer(tokenizer)
    system = chat.message("system", tokenizer.encode_content(SYSTEM_PROMPT))
    header = tokenizer.encode_content(document_header("text.txt"))
    return np.concatenate([system, chat.message_prefix("user"), header])
