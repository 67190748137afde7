"""One model ready to read and to answer. The only door to the tensors for the rest of the program."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from sala_core.engine.decode import Decoder
from sala_core.engine.generate import Answering, Finished, PromptProgress, TextStreamer, Token
from sala_core.engine.memory_plan import (
    ModelSize,
    check_weights_fit,
    device_settings,
    is_out_of_memory,
    num_pipelined_chunks,
)
from sala_core.engine.sampling import PENALTY_TAIL_TOKENS, Sampler, SamplingParams
from sala_core.engine.speculation import DraftIndex
from sala_core.errors import DeviceError, MemoryBudgetError, ModelError
from sala_core.evidence.lookup import MAX_LOOKUP_TOKENS, attend_to_question
from sala_core.evidence.verbatim import Quoting
from sala_core.model.checkpoint import EMBEDDED, load_config_json, load_generation_config, load_weights, resolve_model
from sala_core.model.config import SalaConfig
from sala_core.model.fingerprint import state_fingerprint
from sala_core.model.forward import AttentionTrace, SalaModel
from sala_core.model.state import KvKind, SalaState
from sala_core.model.state_file import read_state, write_state
from sala_core.text.chat_template import ChatLayout
from sala_core.text.thinking import ThinkSplitter
from sala_core.text.tokenizer import Tokenizer

Ids = Sequence[int] | np.ndarray | Tensor

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


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
        chunk_tokens: int | None = None,
    ) -> None:
        """dense_below: attend densely in calls that end before this position, as the reference code does.

        chunk_tokens: tokens computed at once; None takes what fits the card, or CHUNK_TOKENS on the CPU.
        """
        self.model = model
        self.name = name
        self.size = ModelSize.of(model.config, model.weights, model.dtype)
        self.chunk_tokens = chunk_tokens or device_settings(self.size, model.device, model.kv).chunk_tokens
        self._folder = folder
        self._tokenizer = tokenizer
        self._dense_below = dense_below
        self._decoders: WeakKeyDictionary[SalaState, tuple[object, Decoder]] = WeakKeyDictionary()

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = EMBEDDED,
        device: str = "cpu",
        dtype: str | None = None,
        *,
        kv: KvKind | Literal["auto"] = "auto",
        reference_dense_len: bool = False,
    ) -> "Engine":
        """Load a model: "embedded", a folder, or "org/name" once downloaded.

        device: "cpu", "cuda" or "auto". dtype: "float32" or "bfloat16"; None takes what `config.json` names, or
        float32 where the device is slow in bfloat16. kv: how keys and values are held; "auto" goes by the size of the
        card, and is "plain" on the CPU. reference_dense_len: for parity runs, switch by `dense_len` as the reference
        code does; states are then not independent of how the ids were split.
        Raises ModelError (missing, damaged, another family), DeviceError, MemoryBudgetError.
        """
        folder = resolve_model(name_or_path)
        place = resolve_device(device)
        raw = load_config_json(folder)
        config = SalaConfig.from_dict(raw)
        kind = _resolve_dtype(dtype, raw.get("dtype") or raw.get("torch_dtype"), place)
        check_weights_fit(folder, place)
        weights = load_weights(folder, config, dtype=kind, device=place)
        settings = device_settings(ModelSize.of(config, weights, kind), place, kv)
        model = SalaModel(config, weights, kv=settings.kv)
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
        return state_fingerprint(
            self._folder, self.config, self.model.dtype, own, kv=self.model.kv, chunk_tokens=self.chunk_tokens
        )

    def new_state(self) -> SalaState:
        """A state that has read nothing."""
        return self.model.new_state()

    def forward(self, state: SalaState, ids: Ids, *, choices: list[dict[int, Tensor]] | None = None) -> Tensor:
        """Read ids and return the logits after each: [len(ids), vocab] float32, on the model's device.

        The state moves on by len(ids). choices: if given, one dict a chunk is appended to it with the blocks chosen in
        every sparse layer. Raises as `read`.
        """
        pieces = []
        tensor = self._ids(ids)
        dense = state.position + len(tensor) < self._dense_below
        for chunk in _on_grid(tensor, state.position, self.chunk_tokens):
            chosen: dict[int, Tensor] | None = None
            if choices is not None:
                choices.append(chosen := {})
            with _out_of_memory_told(state, len(chunk)):
                pieces.append(self.model.logits(self.model.prefill(state, chunk, dense=dense, choices=chosen)))
        return torch.cat(pieces) if pieces else torch.empty(0, self.config.vocab_size, device=self.model.device)

    def read(
        self, state: SalaState, ids: Ids, *, trace: AttentionTrace | None = None, blocks: Tensor | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Read ids a chunk at a time, or as many chunks as a CPU computes side by side (`num_pipelined_chunks`). After
        them yields (tokens done, last hidden state [1, D]). trace, blocks: as `SalaModel.prefill` takes them.

        Closing the iterator stops there, with the state at the end of the last chunk.
        Raises MemoryBudgetError where the machine has not the memory, ValueError for ids outside the vocabulary.
        """
        tensor = self._ids(ids)
        done, pace = 0, _ChunkThrottle(self.model.device)
        together = 1 if trace or blocks is not None else self._num_pipelined(state.position + len(tensor))
        chunks = _on_grid(tensor, state.position, self.chunk_tokens)
        while batch := list(islice(chunks, together)):
            with _out_of_memory_told(state, len(tensor) - done):
                if len(batch) > 1:
                    hidden = self.model.prefill_pipelined(state, batch)
                else:
                    hidden = self.model.prefill(state, batch[0], trace=trace, blocks=blocks, last_only=trace is None)
            pace.wait()
            done += sum(map(len, batch))
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
        lookup: DraftIndex | None = None,
        quoting: Quoting | None = None,
    ) -> Iterator[PromptProgress | Token | Finished]:
        """Read the prompt ids, then answer.

        Yields Progress for every chunk of the prompt, Token for every piece of text, Finished at the end. The state
        holds exactly the prompt and the tokens yielded, whenever the iterator is closed. think: tell a leading
        <think> block from the answer. should_stop is looked at before every pass and chunk; the iterator then ends
        without Finished. lookup: all tokens before the answer, those of the prompt too, from which drafts are copied;
        what is said, or how likely, does not change. It is extended by the tokens yielded. quoting: what quotations
        are made of, if they are to be word for word; looks into the trace, which must be given. A question then looks
        at every key (`attend_to_question`) before it is read, and is read with the blocks that it found.
        Raises as `read`; ValueError for an empty prompt.
        """
        params = sampling or self.sampling_defaults
        prompt = self._ids(ids)
        if not len(prompt):
            raise ValueError("generate needs at least one prompt token")
        hidden, reading_trace, blocks = None, trace, None
        if quoting is not None and trace is not None:
            question = self.chat.question(prompt.cpu().numpy())
            if question is not None and len(question) <= MAX_LOOKUP_TOKENS:
                with _out_of_memory_told(state, len(prompt)):
                    blocks = attend_to_question(self.model, self.tokenizer, self.chat, state, question, trace)
                reading_trace = None
        for done, last in self.read(state, prompt, trace=reading_trace, blocks=blocks):
            hidden = last
            yield PromptProgress(tokens_done=done, tokens_total=len(prompt))
            if should_stop():
                return
        assert hidden is not None
        sampler = Sampler(params, self.config.vocab_size, prompt[-PENALTY_TAIL_TOKENS:].tolist(), self.model.device)
        answering = Answering(
            self.model,
            state,
            sampler,
            TextStreamer(self._tokenizer, params, self._think_splitter() if think else None),
            ends=self._ends(),
            max_tokens=params.max_tokens,
            trace=trace,
            lookup=lookup,
            quoting=quoting,
        )
        with _out_of_memory_told(state, params.max_tokens):
            yield from answering.answer(hidden, should_stop, lambda: self._decoder(state, sampler, trace is not None))

    def _num_pipelined(self, num_tokens: int) -> int:
        """Chunks to compute at once of a stream of so many tokens."""
        if self.model.device.type != "cpu" or self.model.backend == "triton":
            return 1
        return num_pipelined_chunks(self.size, self.chunk_tokens, num_tokens)

    def _think_splitter(self) -> ThinkSplitter:
        return ThinkSplitter(inside=self._tokenizer is not None and self.chat.opens_thinking)

    def _decoder(self, state: SalaState, sampler: Sampler, traced: bool) -> Decoder:
        """The decoder of the state's last answer where it still fits: on a card it holds graphs."""
        key = Decoder.key(state, sampler, traced=traced)
        known = self._decoders.get(state)
        if known is None or known[0] != key:
            self._decoders[state] = known = (key, Decoder(self.model, state, sampler, traced=traced))
        return known[1]

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


def _on_grid(ids: Tensor, position: int, chunk_tokens: int) -> Iterator[Tensor]:
    """Cut ids that begin at `position` at the multiples of chunk_tokens."""
    start = 0
    while start < len(ids):
        stop = start + chunk_tokens - (position + start) % chunk_tokens
        yield ids[start:stop]
        start = stop


class _ChunkThrottle:
    """Keeps the host at most one chunk ahead of the card, so that progress tells of work that is done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: torch.cuda.Event | None = None

    def wait(self) -> None:
        """Called after a chunk has been handed to the card: waits for the chunk before it."""
        if self._device.type != "cuda":
            return
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        if self._before is not None:
            self._before.synchronize()
        self._before = event


@contextmanager
def _out_of_memory_told(state: SalaState, left: int) -> Iterator[None]:
    """Raise MemoryBudgetError where memory ends within. left: tokens that were to be computed, at most."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryBudgetError(
            f"the device's memory is full after {state.position:,} tokens ({state.num_bytes / 2**30:.1f} GiB of state)"
            f", {left:,} are left; read fewer files, or use a device with more memory"
        ) from error
