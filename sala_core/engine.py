"""One model ready to read and to answer. The only door to the tensors for the rest of the program."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sala_core.chat import ChatLayout
from sala_core.checkpoint import EMBEDDED, load_config_json, load_generation_config, load_weights, resolve_model
from sala_core.config import SalaConfig
from sala_core.errors import DeviceError, MemoryBudgetError, ModelError
from sala_core.fingerprint import CHUNK_TOKENS, state_fingerprint
from sala_core.model import AttentionTrace, SalaModel
from sala_core.sampling import Sampler, SamplingParams, StopMatcher
from sala_core.state import SalaState
from sala_core.state_file import read_state, write_state
from sala_core.thinking import Piece, ThinkSplitter
from sala_core.tokenizer import Tokenizer

Ids = Sequence[int] | np.ndarray | Tensor
FinishReason = Literal["stop", "length", "stop_string"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
_REPETITION_TAIL_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Tokens of the prompt read so far."""

    tokens_done: int
    tokens_total: int


@dataclass(frozen=True, kw_only=True)
class Token:
    """Text that may be shown. `id` is the token just added to the state; None for text that was held back."""

    id: int | None
    text: str
    thinking: bool


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The end of an answer: `ids` are in the state, an end-of-sequence token is not."""

    reason: FinishReason
    ids: tuple[int, ...]


class Engine:
    """A model on a device. One thread at a time; states are independent of each other."""

    def __init__(
        self,
        model: SalaModel,
        *,
        name: str,
        folder: Path | None = None,
        tokenizer: Tokenizer | None = None,
        dense_below: int = 0,
    ) -> None:
        """dense_below: attend densely in calls that end before this position, as the reference code does."""
        self.model = model
        self.name = name
        self._folder = folder
        self._tokenizer = tokenizer
        self._dense_below = dense_below

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = EMBEDDED,
        device: str = "cpu",
        dtype: str | None = None,
        *,
        reference_dense_len: bool = False,
    ) -> "Engine":
        """Load a model: "embedded", a folder, or "org/name" once downloaded.

        device: "cpu", "cuda" or "auto". dtype: "float32" or "bfloat16"; None takes what `config.json` names, or
        float32 where the device is slow in bfloat16. reference_dense_len: for parity runs, switch by `dense_len` as
        the reference code does; states are then not independent of how the ids were split.
        Raises ModelError (missing, damaged, another family) and DeviceError.
        """
        folder = resolve_model(name_or_path)
        place = resolve_device(device)
        raw = load_config_json(folder)
        config = SalaConfig.from_dict(raw)
        kind = _resolve_dtype(dtype, raw.get("dtype") or raw.get("torch_dtype"), place)
        model = SalaModel(config, load_weights(folder, config, dtype=kind, device=place))
        tokenizer = Tokenizer.from_folder(folder) if (folder / "tokenizer.json").is_file() else None
        dense_below = config.sparse_config.dense_len if reference_dense_len else 0
        return cls(model, name=str(name_or_path), folder=folder, tokenizer=tokenizer, dense_below=dense_below)

    @property
    def config(self) -> SalaConfig:
        """The model's configuration."""
        return self.model.config

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises ModelError if the model's folder has none."""
        if self._tokenizer is None:
            raise ModelError(f"{self.name} has no tokenizer.json; copy the tokenizer's files into its folder")
        return self._tokenizer

    @cached_property
    def chat(self) -> ChatLayout:
        """The pieces that the model's chat template puts around messages. Raises TokenizerError."""
        return ChatLayout.from_tokenizer(self.tokenizer)

    @cached_property
    def sampling_defaults(self) -> SamplingParams:
        """What the model's `generation_config.json` recommends. Raises ModelError for values out of range."""
        try:
            return SamplingParams.from_generation_config(load_generation_config(self._folder) if self._folder else {})
        except ValueError as error:
            raise ModelError(f"generation_config.json of {self.name}: {error}") from error

    @cached_property
    def fingerprint(self) -> str:
        """What saved states are bound to. Raises ModelError for a model that was not loaded from a folder."""
        if self._folder is None:
            raise ModelError(f"{self.name} was not loaded from a folder, so its states cannot be saved")
        own = self._tokenizer.fingerprint if self._tokenizer else ""
        return state_fingerprint(self._folder, self.config, self.model.dtype, own)

    def new_state(self) -> SalaState:
        """A state that has read nothing."""
        return self.model.new_state()

    def forward(self, state: SalaState, ids: Ids, *, choices: list[dict[int, Tensor]] | None = None) -> Tensor:
        """Read ids and return the logits after each: [len(ids), vocab] float32, on the model's device.

        The state moves on by len(ids). choices: if given, one dict a chunk is appended to it with the blocks chosen in
        every sparse layer. Raises ValueError for ids outside the vocabulary.
        """
        pieces = []
        tensor = self._ids(ids)
        dense = state.position + len(tensor) < self._dense_below
        for chunk in _on_grid(tensor, state.position):
            chosen: dict[int, Tensor] | None = None
            if choices is not None:
                choices.append(chosen := {})
            pieces.append(self.model.logits(self.model.advance(state, chunk, dense=dense, choices=chosen)))
        return torch.cat(pieces) if pieces else torch.empty(0, self.config.vocab_size, device=self.model.device)

    def read(self, state: SalaState, ids: Ids, *, trace: AttentionTrace | None = None) -> Iterator[tuple[int, Tensor]]:
        """Read ids a chunk at a time. After each chunk yields (tokens done, last hidden state [1, D]).

        Closing the iterator stops between chunks, with the state at the end of the last one.
        Raises MemoryBudgetError where the machine has not the memory, ValueError for ids outside the vocabulary.
        """
        tensor = self._ids(ids)
        done = 0
        for chunk in _on_grid(tensor, state.position):
            try:
                hidden = self.model.advance(state, chunk, trace=trace)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                raise MemoryBudgetError(_no_memory(state, len(tensor) - done)) from error
            done += len(chunk)
            yield done, hidden[-1:]

    def generate(
        self,
        state: SalaState,
        ids: Ids,
        sampling: SamplingParams | None = None,
        *,
        trace: AttentionTrace | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        think: bool = True,
    ) -> Iterator[Progress | Token | Finished]:
        """Read the prompt ids, then answer.

        Yields Progress for every chunk of the prompt, Token for every piece of text, Finished at the end. The state
        holds exactly the prompt and the tokens yielded, whenever the iterator is closed. think: tell a leading
        <think> block from the answer. should_stop is looked at before every token and chunk; the iterator then ends
        without Finished. Raises as `read`; ValueError for an empty prompt.
        """
        params = sampling or self.sampling_defaults
        prompt = self._ids(ids)
        if not len(prompt):
            raise ValueError("generate needs at least one prompt token")
        hidden = None
        for done, last in self.read(state, prompt, trace=trace):
            hidden = last
            yield Progress(tokens_done=done, tokens_total=len(prompt))
            if should_stop():
                return
        assert hidden is not None
        sampler = Sampler(params, self.config.vocab_size, prompt[-_REPETITION_TAIL_TOKENS:].tolist())
        ends = self._ends()
        writer = _Writer(self, params, think)
        made: list[int] = []
        reason: FinishReason = "length"
        while len(made) < params.max_tokens:
            if should_stop():
                return
            token = sampler.sample(self.model.logits(hidden)[0])
            if token in ends:
                reason = "stop"
                break
            hidden = self.model.advance(state, self._ids([token]), trace=trace)
            made.append(token)
            yield from writer.push(token)
            if writer.stopped:
                reason = "stop_string"
                break
        yield from writer.flush()
        yield Finished(reason=reason, ids=tuple(made))

    def free_device_bytes(self) -> int | None:
        """Free memory of the CUDA device; None on the CPU."""
        return torch.cuda.mem_get_info(self.model.device)[0] if self.model.device.type == "cuda" else None

    def save_state(self, state: SalaState, file: str | Path) -> None:
        """Write the whole state to one file, all or nothing. Raises DiskFullError, LibraryError."""
        write_state(state, Path(file), self.fingerprint)

    def load_state(self, file: str | Path) -> SalaState:
        """Read a state that `save_state` wrote, equal bit by bit.

        Raises StateMismatchError for another model, dtype or format, CorruptStateError for damaged bytes.
        """
        return read_state(self.new_state(), Path(file), self.fingerprint)

    def _ids(self, ids: Ids) -> Tensor:
        tensor = torch.as_tensor(ids, dtype=torch.int64).to(self.model.device).reshape(-1)
        if len(tensor) and not 0 <= int(tensor.min()) <= int(tensor.max()) < self.config.vocab_size:
            raise ValueError(f"token ids must be in 0 ... {self.config.vocab_size - 1}")
        return tensor

    def _ends(self) -> frozenset[int]:
        return self._tokenizer.eos_token_ids if self._tokenizer else frozenset(self.config.eos_token_id)


class _Writer:
    """From token ids to text that may be shown: whole characters, nothing of a stop string, thinking told apart."""

    def __init__(self, engine: Engine, params: SamplingParams, think: bool) -> None:
        self._decoder = engine._tokenizer.stream_decoder() if engine._tokenizer else None
        self._stops = StopMatcher(params.stop)
        inside = engine._tokenizer is not None and engine.chat.opens_thinking
        self._splitter = ThinkSplitter(inside=inside) if think else None

    @property
    def stopped(self) -> bool:
        """Whether a stop string has been written."""
        return self._stops.stopped

    def push(self, token: int) -> Iterator[Token]:
        """At least one Token, the first with the id."""
        text = self._stops.push(self._decoder.push(token) if self._decoder else "")
        pieces = self._split(text)
        head = pieces[0] if pieces else Piece(text="", thinking=False)
        yield Token(id=token, text=head.text, thinking=head.thinking)
        for piece in pieces[1:]:
            yield Token(id=None, text=piece.text, thinking=piece.thinking)

    def flush(self) -> Iterator[Token]:
        """Text that was held back until the end."""
        held = "" if self.stopped else self._stops.push(self._decoder.flush() if self._decoder else "")
        pieces = self._split(held + self._stops.flush())
        for piece in pieces + (self._splitter.flush() if self._splitter else []):
            yield Token(id=None, text=piece.text, thinking=piece.thinking)

    def _split(self, text: str) -> list[Piece]:
        if self._splitter:
            return self._splitter.push(text)
        return [Piece(text=text, thinking=False)] if text else []


def resolve_device(device: str) -> torch.device:
    """ "auto", "cpu" or "cuda" as a torch device. Raises DeviceError if it is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"unknown device {device!r}; choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("no CUDA device is available; choose --device cpu, or install a driver for the card")
    return torch.device(device)


def _resolve_dtype(asked: str | None, stored: str | None, device: torch.device) -> torch.dtype:
    """The dtype asked for; else the one `config.json` names, or float32 where the device is slow in bfloat16."""
    if asked is None and stored != "float32":
        fast = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        asked = "bfloat16" if fast else "float32"
    name = asked or "float32"
    if name not in _DTYPES:
        raise ModelError(f"unknown dtype {name!r}; choose one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _on_grid(ids: Tensor, position: int) -> Iterator[Tensor]:
    """Cut ids that begin at `position` at the multiples of CHUNK_TOKENS."""
    start = 0
    while start < len(ids):
        stop = start + CHUNK_TOKENS - (position + start) % CHUNK_TOKENS
        yield ids[start:stop]
        start = stop


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Torch raises a class of its own for cards, and a plain RuntimeError when the computer's memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _no_memory(state: SalaState, left: int) -> str:
    return (
        f"the device's memory is full after {state.position:,} tokens ({state.num_bytes / 2**30:.1f} GiB of state), "
        f"{left:,} are left; read fewer files, or use a device with more memory"
    )
