"""The 9B shape with packed int4 weights on a CPU: time of a chunk and of a token at several positions, peak memory.

`python tests/measure/int4_on_cpu.py [POSITION ...]`, in a checkout. Weights are random. Before the chunks that end at a
position, keys, values and linear states are filled with random numbers instead of being read, which would take hours on
two cores; memory and time of what follows are the same. Processor time is that of all threads: other programs on the
machine lengthen it little, unlike the time that passes.
"""

import json
import sys
import time

import torch

from sala_core.bench.models.answer_job import AnswerJob, open_engine, random_ids
from sala_core.bench.models.peak_memory import PeakMemory
from sala_core.engine.engine import Engine
from sala_core.engine.memory_budget import plan_for
from sala_core.engine.sampling import SamplingParams
from sala_core.model.state import SalaState

POSITIONS = (1024, 8192, 16_384)
NEW_TOKENS = 12


def fill(engine: Engine, state: SalaState, position: int) -> None:
    """Bring a state to `position` with random keys, values and linear states."""
    config, generator = engine.config, torch.Generator().manual_seed(0)
    shape = (config.num_key_value_heads, position - state.position, config.head_dim)
    if shape[1] > 0:
        for cache in state.sparse.values():
            k, v = (torch.randn(shape, generator=generator).to(engine.model.dtype) for _ in range(2))
            cache.append(k, v)
    state.linear_states.normal_(0, 1, generator=generator)
    state.position = position


def seconds(began: tuple[float, float]) -> dict[str, float]:
    """Seconds that passed, and of all processors, since `began`."""
    return {"s": time.perf_counter() - began[0], "processor_s": time.process_time() - began[1]}


def measure(engine: Engine, position: int) -> dict[str, object]:
    """Read what ends at `position`: as many chunks as the engine computes at once. Then decode."""
    state = engine.new_state()
    state.reserve(position + NEW_TOKENS + 64)
    chunks = engine._num_pipelined(position)
    with torch.inference_mode():
        fill(engine, state, position - chunks * engine.chunk_tokens)
    ids = random_ids(chunks * engine.chunk_tokens, engine.config.vocab_size)
    began = time.perf_counter(), time.process_time()
    for _ in engine.read(state, ids):
        pass
    row: dict[str, object] = {"position": position, "tokens": len(ids), "chunks_at_once": chunks, **seconds(began)}
    began, count = (time.perf_counter(), time.process_time()), 0
    sampling = SamplingParams(temperature=0, stop_repetition=False, max_tokens=NEW_TOKENS)
    for _ in engine.generate(state, ids[:1], sampling):
        count += 1
    row["decoding"] = {"passes": count, **seconds(began)}
    memory = PeakMemory(engine.model.device)
    memory.note()
    row |= {"peak_bytes": memory.peak, "planned_bytes": plan_for(engine, position + NEW_TOKENS + 64).total_bytes}
    return row


def main() -> None:
    """Measure and print one JSON object for each position."""
    job = AnswerJob(
        model="sala", size="9b", length=1024, weights="int4", kv="auto", device="cpu", new_tokens=NEW_TOKENS
    )
    began = time.perf_counter(), time.process_time()
    engine, _ = open_engine(job)
    print(json.dumps({"weights_bytes": engine.size.weights_bytes, "made": seconds(began)}), flush=True)
    with torch.inference_mode():
        for position in map(int, sys.argv[1:]) if len(sys.argv) > 1 else POSITIONS:
            print(json.dumps(measure(engine, position)), flush=True)


if __name__ == "__main__":
    main()
