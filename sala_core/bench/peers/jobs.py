"""What one process measures: one engine at one length."""

import ctypes
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sala_core.bench.models.answer_job import AnswerJob, open_engine, random_ids
from sala_core.bench.peers.gguf_model import write_gguf
from sala_core.bench.peers.records import PeerRow
from sala_core.bench.sizes import full_config
from sala_core.engine.decode import Decoder
from sala_core.engine.sampling import Sampler, SamplingParams
from sala_core.errors import BenchError
from sala_core.model.state_file import read_state, write_state

_BATCH_TOKENS = 512  # that llama.cpp computes at once: its default, and no slower than 1,024 here
_WARM_TOKENS = 1024
_FINGERPRINT = "bench"


@dataclass(frozen=True, kw_only=True)
class PeerJob:
    """engine: "sala" or "llama.cpp". length: tokens to read. new_tokens: to decode. weights: "fp32" or "bf16"."""

    engine: str
    length: int
    new_tokens: int
    weights: str


def measure_peer(job: PeerJob) -> PeerRow:
    """Measure in this process. Raises BenchError if the engine fails."""
    with tempfile.TemporaryDirectory() as folder:
        return (_sala if job.engine == "sala" else _llama)(job, Path(folder))


def _sala(job: PeerJob, folder: Path) -> PeerRow:
    engine, _ = open_engine(
        AnswerJob(
            model="sala", size="embedded", length=job.length, weights=job.weights, kv="auto", device="cpu",
            new_tokens=job.new_tokens,
        )
    )  # fmt: skip
    ids = random_ids(job.length, engine.config.vocab_size)
    for _ in engine.read(engine.new_state(), ids[:_WARM_TOKENS]):
        pass
    state = engine.new_state()
    state.reserve(job.length + job.new_tokens + 64)
    reading = _Clock()
    for _ in engine.read(state, ids):
        pass
    read = reading.stop()
    sampler = Sampler(SamplingParams(temperature=0), engine.config.vocab_size, [])
    decoder = Decoder(engine.model, state, sampler, traced=False)

    def decode(token: int) -> int:
        (chosen,) = decoder.step(state, [token], sampler)
        decoder.confirm(state, 1)
        return chosen

    decoded = _decode(decode, job.new_tokens)
    file = folder / "state"
    saving = _Clock()
    write_state(state, file, _FINGERPRINT)
    save_s, _ = saving.stop()
    restoring = _Clock()
    restored = read_state(engine.new_state(), file, _FINGERPRINT)
    restore_s, _ = restoring.stop()
    if restored.position != state.position:
        raise BenchError(f"{restored.position} of {state.position} tokens were restored")
    note = f"torch {torch.__version__}; the state is synced to disk and has a checksum"
    return _row(job, read, decoded, file, save_s=save_s, restore_s=restore_s, note=note)


def _llama(job: PeerJob, folder: Path) -> PeerRow:
    import llama_cpp

    config = full_config("embedded")
    context = job.length + job.new_tokens + 64
    model = folder / "model.gguf"
    write_gguf(config, model, weights=job.weights, context=context + 256)  # llama.cpp rounds it up
    threads = torch.get_num_threads()
    llama = llama_cpp.Llama(
        str(model), n_ctx=context, n_batch=_BATCH_TOKENS, n_threads=threads, n_threads_batch=threads, flash_attn=True,
        verbose=False,
    )  # fmt: skip
    ids = random_ids(job.length, config.vocab_size).tolist()
    llama.eval(ids[:_WARM_TOKENS])
    llama.reset()
    reading = _Clock()
    llama.eval(ids)
    read = reading.stop()

    def decode(token: int) -> int:
        llama.eval([token])
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(llama.ctx), shape=(config.vocab_size,))
        return int(logits.argmax())

    decoded = _decode(decode, job.new_tokens)
    file, count = folder / "state", llama.n_tokens
    tokens = (ctypes.c_int32 * count)(*ids[:count])
    saving = _Clock()
    if not llama_cpp.llama_state_save_file(llama.ctx, os.fsencode(file), tokens, len(tokens)):
        raise BenchError("llama.cpp did not save its state")
    save_s, _ = saving.stop()
    llama.reset()
    restoring = _Clock()
    found = ctypes.c_size_t()
    if not llama_cpp.llama_state_load_file(llama.ctx, os.fsencode(file), tokens, len(tokens), ctypes.byref(found)):
        raise BenchError("llama.cpp did not restore its state")
    restore_s, _ = restoring.stop()
    note = f"llama-cpp-python {llama_cpp.__version__}, flash attention, keys and values in float16"
    return _row(job, read, decoded, file, save_s=save_s, restore_s=restore_s, note=note)


def _row(
    job: PeerJob,
    read: tuple[float, float],
    decoded: tuple[float, float],
    file: Path,
    *,
    save_s: float,
    restore_s: float,
    note: str,
) -> PeerRow:
    """What was measured. read: seconds, decoded: milliseconds a token, wall and CPU each. file: holds the state."""
    return PeerRow(
        engine=job.engine,
        length=job.length,
        weights=job.weights,
        read_s=read[0],
        read_processor_s=read[1],
        decode_ms=decoded[0],
        decode_processor_ms=decoded[1],
        save_s=save_s,
        restore_s=restore_s,
        state_bytes=file.stat().st_size,
        note=note,
    )


class _Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def stop(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._processor


def _decode(step: Callable[[int], int], count: int) -> tuple[float, float]:
    """Decode greedily. Returns the median milliseconds of a token, wall and CPU."""
    token, times = step(1), []
    for _ in range(count - 1):
        clock = _Clock()
        token = step(token)
        times.append(clock.stop())
    walls, processors = zip(*times, strict=True)
    return 1e3 * statistics.median(walls), 1e3 * statistics.median(processors)
