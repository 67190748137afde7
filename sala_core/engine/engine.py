"""The engine: one loaded model with its tokenizer. The rest of the program reaches tensors through it alone."""

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
from sala_core.engine.device import choose_device
from sala_core.engine.generate import Answering, Finished, TextStreamer, Token
from sala_core.engine.memory_plan import (
    ModelSize,
    check_weights_fit,
    device_settings,
    memory_errors,
    num_pipelined_chunks,
    packed_dtype,
)
from sala_core.engine.sampling import PENALTY_TAIL_TOKENS, Sampler, SamplingParams
from sala_core.engine.speculation import DraftIndex
from sala_core.engine.warm_up import compile_kernels
from sala_core.errors import ModelError
from sala_core.events import DeviceNote, LoadEvent, PromptProgress
from sala_core.evidence.lookup import MAX_LOOKUP_TOKENS, attend_to_question, question_ids
from sala_core.evidence.verbatim import Quoting
from sala_core.model.checkpoint import EMBEDDED, load_config_json, load_generation_config, load_weights, resolve_model
from sala_core.model.config import SalaConfig
from sala_core.model.fingerprint import KV_AT_REST, KvAtRest, at_rest_fingerprint, model_fingerprint
from sala_core.model.forward import AttentionTrace, SalaModel
from sala_core.model.state import KvKind, SalaState
from sala_core.model.state_file import read_state, write_state
from sala_core.stopping import never
from sala_core.text.chat_template import ChatLayout
from sala_core.text.stream_start import BosChoice
from sala_core.text.thinking import ThinkSplitter
from sala_core.text.tokenizer import Tokenizer

Ids = Sequence[int] | np.ndarray | Tensor

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


class Engine:
    """A loaded model on a device: prefill, decoding, and the states they work on. For one thread at a time.

    States are independent of each other. Example::

        engine = Engine.load("embedded")
        state = engine.new_state()
        for _ in engine.read(state, engine.tokenizer.encode_content("Lena lives in Oslo.")):
            pass
        for event in engine.generate(state, engine.tokenizer.encode_content(" Who lives in Oslo?")):
            print(event)
    """

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
        """Wrap a model that is loaded already; `load` is the usual way.

        Args:
            model: the model, on its device.
            name: what messages and sessions call it.
            folder: where it was loaded from. Saved states are bound to it.
            tokenizer: needed for text, not for ids.
            dense_below: use full attention in calls that end before this position, as the reference code does.
            chunk_tokens: tokens per prefill chunk. None: what fits the card, or CHUNK_TOKENS on the CPU.
        """
        self.model = model
        self.name = name
        self.size = ModelSize.of(model.config, model.weights, model.dtype)
        self.chunk_tokens = chunk_tokens or device_settings(self.size, model.device, model.kv).chunk_tokens
        self.device_note = ""  # of `DeviceChoice`
        self.kv_at_rest: KvAtRest = "same"  # of new sessions; one that was read in another format keeps that
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
        bos: BosChoice = "auto",
        kv_at_rest: KvAtRest = "same",
        reference_dense_len: bool = False,
        report: Callable[[LoadEvent], None] = lambda event: None,
    ) -> "Engine":
        """Load a model.

        Args:
            name_or_path: "embedded", a folder, or "org/name" after its download.
            device: "cpu", "cuda" or "auto", as `choose_device` takes them.
            dtype: "float32" or "bfloat16". None: by `packed_dtype` or `config.json`, or float32 where that is faster.
            kv: number format of keys and values. "auto" depends on the size of the card, and is "plain" on the CPU.
            bos: whether streams begin with the tokenizer's `<s>`. "auto" as its settings ask. States differ.
            kv_at_rest: how new sessions store keys and values. "int8" changes nothing where memory has int8 or fp8.
            reference_dense_len: switch to full attention by `dense_len`, as the reference code does. For parity tests
                only: a state then depends on how the ids were split into calls.
            report: receives what the user should know about the device, and the progress of compiling kernels.

        Raises ModelError (missing, damaged, another family), DeviceError, MemoryBudgetError.
        """
        folder = resolve_model(name_or_path)
        choice = choose_device(device)
        if choice.note:
            report(DeviceNote(text=choice.note))
        place, raw = choice.device, load_config_json(folder)
        config = SalaConfig.from_dict(raw)
        wanted, stored = dtype or packed_dtype(folder, config, place), raw.get("dtype") or raw.get("torch_dtype")
        torch_dtype = resolve_dtype(wanted, stored, place)
        check_weights_fit(folder, config, place, torch_dtype)
        with memory_errors(lambda: f"{place} has no room for the weights in {folder}; close other programs"):
            weights = load_weights(folder, config, dtype=torch_dtype, device=place)
        model = SalaModel(config, weights, kv=device_settings(ModelSize.of(config, weights, torch_dtype), place, kv).kv)
        tokenizer = Tokenizer.from_folder(folder, bos=bos) if (folder / "tokenizer.json").is_file() else None
        dense_below = config.sparse_config.dense_len if reference_dense_len else 0
        engine = cls(model, name=str(name_or_path), folder=folder, tokenizer=tokenizer, dense_below=dense_below)
        engine.device_note, engine.kv_at_rest = choice.note, kv_at_rest
        compile_kernels(model, engine.chunk_tokens, report)
        return engine

    @property
    def config(self) -> SalaConfig:
        """The model's configuration."""
        return self.model.config

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer. Raises ModelError if its folder has none."""
        if self._tokenizer is None:
            raise ModelError(f"{self.name} has no tokenizer.json; copy the tokenizer's files into its folder")
        return self._tokenizer

    @cached_property
    def chat(self) -> ChatLayout:
        """The pieces that the model's chat template puts around messages. Raises TokenizerError."""
        return ChatLayout.from_tokenizer(self.tokenizer)

    @property
    def thinks(self) -> bool:
        """Whether the model can think before it answers, as its chat template tells."""
        return self._tokenizer is not None and self._tokenizer.chat_template is not None and self.chat.thinks

    @cached_property
    def sampling_defaults(self) -> SamplingParams:
        """What the model's `generation_config.json` recommends. Raises ModelError for what cannot be followed."""
        raw = load_generation_config(self._folder) if self._folder else {}
        try:
            return SamplingParams.from_generation_config(raw, thinks=self.thinks)
        except ValueError as error:
            raise ModelError(f"generation_config.json of {self.name}: {error}") from error

    @cached_property
    def own_fingerprint(self) -> str:
        """What states in memory are bound to. Raises ModelError for a model that was not loaded from a folder."""
        if self._folder is None:
            raise ModelError(f"{self.name} was not loaded from a folder, so its states cannot be saved")
        own, size = self._tokenizer.fingerprint if self._tokenizer else "", self.chunk_tokens
        return model_fingerprint(self.model, self._folder, own, chunk_tokens=size, packed=self.size.packed)

    @property
    def fingerprint(self) -> str:
        """What the stored states of new sessions are bound to. Raises as `own_fingerprint`."""
        return at_rest_fingerprint(self.own_fingerprint, self.kv_at_rest, self.model.kv)

    def at_rest(self, fingerprint: str) -> KvAtRest | None:
        """How keys and values are stored in states of this fingerprint; None if this engine cannot continue them."""
        return dict(zip(self.stored_fingerprints[::-1], KV_AT_REST[::-1], strict=True)).get(fingerprint)

    @property
    def stored_fingerprints(self) -> list[str]:
        """Those of all states that this engine can continue, one for each of KV_AT_REST."""
        return [at_rest_fingerprint(self.own_fingerprint, kind, self.model.kv) for kind in KV_AT_REST]

    def new_state(self) -> SalaState:
        """An empty state."""
        return self.model.new_state()

    def forward(self, state: SalaState, ids: Ids, *, choices: list[dict[int, Tensor]] | None = None) -> Tensor:
        """Prefill ids and return the logits after each: [len(ids), vocab] float32, on the model's device.

        `state` advances by len(ids). choices: if given, one dict per chunk is appended, with the blocks that every
        sparse layer chose. Raises as `read`.
        """
        logits = []
        tensor = self._ids(ids)
        dense = state.position + len(tensor) < self._dense_below
        for chunk in _chunks_on_grid(tensor, state.position, self.chunk_tokens):
            chosen: dict[int, Tensor] | None = None
            if choices is not None:
                choices.append(chosen := {})
            with _memory_errors(state, len(chunk)):
                logits.append(self.model.logits(self.model.prefill(state, chunk, dense=dense, choices=chosen)))
        return torch.cat(logits) if logits else torch.empty(0, self.config.vocab_size, device=self.model.device)

    def read(
        self, state: SalaState, ids: Ids, *, trace: AttentionTrace | None = None, blocks: Tensor | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Prefill ids, a chunk at a time; on a CPU several chunks at a time, one per core (`num_pipelined_chunks`).

        Yields (tokens done, last hidden state [1, D]) after each step. Closing the iterator stops the prefill; the
        state is then at the end of the last chunk.

        Args:
            state: advances by len(ids).
            ids: token ids [T].
            trace: the attention of these tokens is added to it.
            blocks: [slots] int64, the blocks that every query attends to. None: each query chooses its own.

        Raises MemoryBudgetError where memory runs out, ValueError for ids outside the vocabulary.
        """
        tensor = self._ids(ids)
        done, throttle = 0, _ChunkThrottle(self.model.device)
        at_once = 1 if trace or blocks is not None else self._num_pipelined(state.position + len(tensor))
        chunks = _chunks_on_grid(tensor, state.position, self.chunk_tokens)
        while batch := list(islice(chunks, at_once)):
            with _memory_errors(state, len(tensor) - done):
                if len(batch) > 1:
                    hidden = self.model.prefill_pipelined(state, batch)
                else:
                    hidden = self.model.prefill(state, batch[0], trace=trace, blocks=blocks, last_only=trace is None)
            throttle.wait()
            done += sum(map(len, batch))
            yield done, hidden[-1:]

    def look_up(self, state: SalaState, question: str, trace: AttentionTrace) -> Tensor | None:
        """Attend from a question's words to every key of `state`, and add each key's relevance to `trace`.

        The state is the same afterwards. Returns the most relevant blocks, [slots] int64, for the question to be
        prefilled with (`generate(blocks=...)`); None, and nothing added, for a question of more than
        MAX_LOOKUP_TOKENS. Raises TokenizerError where the model has no chat template, MemoryBudgetError.
        """
        ids = question_ids(self.tokenizer, question)
        if len(ids) > MAX_LOOKUP_TOKENS:
            return None
        with _memory_errors(state, len(ids)):
            return attend_to_question(self.model, self.chat, state, ids, trace)

    def generate(
        self,
        state: SalaState,
        ids: Ids,
        sampling: SamplingParams | None = None,
        *,
        blocks: Tensor | None = None,
        trace: AttentionTrace | None = None,
        should_stop: Callable[[], bool] = never,
        drafts: DraftIndex | None = None,
        quoting: Quoting | None = None,
    ) -> Iterator[PromptProgress | Token | Finished]:
        """Prefill the prompt, then decode an answer.

        Yields PromptProgress per chunk of the prompt, Token per piece of text, Finished at the end. Whenever the
        iterator is closed, the state holds exactly the prompt and the tokens yielded. A leading <think> block is
        separated from the answer (`Token.thinking`); it ends at `sampling.thinking_budget` tokens.

        Args:
            state: what came before the prompt; advances.
            ids: token ids of the prompt, at least one. It ends as `chat.generation_prompt(sampling.think)` does.
            sampling: None takes the model's defaults.
            blocks: what `look_up` returned for the question in this prompt. The prompt's own attention is then not
                traced, since the look-up has measured the question.
            trace: the attention of the prompt and of the answer is added to it.
            should_stop: is asked before every chunk and every decoding step. The iterator then ends without Finished.
            drafts: all tokens up to the prompt's end, from which drafts are copied; the tokens yielded are added. The
                answer's distribution stays the same up to rounding.
            quoting: the quotations of a verbatim answer. Needs `trace`, by which they are ranked.

        Raises as `read`; ValueError for an empty prompt.
        """
        params = sampling or self.sampling_defaults
        prompt = self._ids(ids)
        if not len(prompt):
            raise ValueError("generate needs at least one prompt token")
        hidden = None
        for done, last in self.read(state, prompt, trace=trace if blocks is None else None, blocks=blocks):
            hidden = last
            yield PromptProgress(tokens_done=done, tokens_total=len(prompt))
            if should_stop():
                return
        assert hidden is not None
        sampler = Sampler(params, self.config.vocab_size, prompt[-PENALTY_TAIL_TOKENS:].tolist(), self.model.device)
        splitter = ThinkSplitter(inside=self._tokenizer is not None and self.chat.opens_thinking(params.think))
        streamer = TextStreamer(self._tokenizer, params, splitter)
        answering = Answering(
            self.model,
            state,
            sampler,
            streamer,
            ends=self._end_ids(),
            thinking_end=self.chat.thinking_end.tolist() if self._tokenizer else (),
            trace=trace,
            drafts=drafts,
            quoting=quoting,
        )
        with _memory_errors(state, params.max_tokens):
            yield from answering.answer(hidden, should_stop, lambda: self._decoder(state, sampler, trace is not None))

    def _num_pipelined(self, num_tokens: int) -> int:
        """How many chunks to compute at once in a stream of `num_tokens` tokens."""
        if self.model.device.type != "cpu" or self.model.backend == "triton":
            return 1
        return num_pipelined_chunks(self.size, self.chunk_tokens, num_tokens)

    def _decoder(self, state: SalaState, sampler: Sampler, traced: bool) -> Decoder:
        """The decoder of the state's last answer where it still fits. On a card it holds captured CUDA graphs."""
        key = Decoder.key(state, sampler, traced=traced)
        known = self._decoders.get(state)
        if known is None or known[0] != key:
            self._decoders[state] = known = (key, Decoder(self.model, state, sampler, traced=traced))
        return known[1]

    def save_state(self, state: SalaState, file: str | Path) -> None:
        """Write a whole state to one file, atomically; sessions do not use it. Raises DiskFullError, LibraryError."""
        write_state(state, Path(file), self.own_fingerprint)

    def load_state(self, file: str | Path) -> SalaState:
        """Read a state that `save_state` wrote, bit for bit.

        Raises StateMismatchError for another model, dtype or format, CorruptStateError for damaged bytes.
        """
        return read_state(self.new_state(), Path(file), self.own_fingerprint)

    def _ids(self, ids: Ids) -> Tensor:
        tensor = torch.as_tensor(ids, dtype=torch.int64).to(self.model.device).reshape(-1)
        if len(tensor) and not 0 <= int(tensor.min()) <= int(tensor.max()) < self.config.vocab_size:
            raise ValueError(f"token ids must be in 0 ... {self.config.vocab_size - 1}")
        return tensor

    def _end_ids(self) -> frozenset[int]:
        return self._tokenizer.eos_token_ids if self._tokenizer else frozenset(self.config.eos_token_id)


def resolve_dtype(requested: str | None, stored: str | None, device: torch.device) -> torch.dtype:
    """The requested dtype; by default the one that `config.json` names, or float32 where bfloat16 is slow."""
    if requested is None and stored != "float32":
        fast = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        requested = "bfloat16" if fast else "float32"
    name = requested or "float32"
    if name not in _DTYPES:
        raise ModelError(f"unknown dtype {name!r}; choose one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _chunks_on_grid(ids: Tensor, position: int, chunk_tokens: int) -> Iterator[Tensor]:
    """Cut ids, the first of which stands at `position`, at the multiples of chunk_tokens."""
    start = 0
    while start < len(ids):
        stop = start + chunk_tokens - (position + start) % chunk_tokens
        yield ids[start:stop]
        start = stop


class _ChunkThrottle:
    """Keeps the host at most one chunk ahead of the card, so that progress reports finished work."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: torch.cuda.Event | None = None

    def wait(self) -> None:
        """Call after a chunk was launched on the card: waits for the chunk before it."""
        if self._device.type != "cuda":
            return
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        if self._before is not None:
            self._before.synchronize()
        self._before = event


@contextmanager
def _memory_errors(state: SalaState, left: int) -> Iterator[None]:
    """Turn out-of-memory errors into MemoryBudgetError. left: at most this many tokens were still to be computed."""

    def message() -> str:
        done = f"{state.position:,} tokens ({state.num_bytes / 2**30:.1f} GiB of state)"
        return f"the device's memory is full after {done}, {left:,} are left; read fewer files, or use a larger device"

    with memory_errors(message):
        yield
