"""Readings in poisoned memory are right, and the check finds a result that depends on what was never written."""

import json
import subprocess
import sys

import pytest
import torch
from sala_kernels import has_triton

from sala_core.doctor import poisoned_memory
from sala_core.doctor.poisoned_memory import KINDS, check_poisoned_memory, poison_spare_rows
from sala_core.model import forward
from sala_core.model.forward import SalaModel

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
STEPS = [
    "reading, every key", "tails of 1 to 16 tokens, every key", "look-up", "decoding, every key",
    "reading, chosen blocks", "decoding, chosen blocks", "verification of drafts", "restored state",
]  # fmt: skip

SCRIPT = """
import json, torch
from contextlib import nullcontext
from dataclasses import asdict
from sala_core.doctor.poisoned_memory import check_poisoned_memory
from sala_kernels.inspection.addresses import checked_addresses

torch.set_num_threads(1)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
with nullcontext() if device.type == "cuda" else checked_addresses() as check:
    results = check_poisoned_memory(device, backend="triton")
for result in results:
    print(json.dumps(asdict(result) | {"good": result.good}))
print(json.dumps({"launches": -1 if check is None else check.num_launches, "strays": [] if check is None else
                  [str(stray) for stray in check.strays]}))
"""


@pytest.mark.timeout(600)
@pytest.mark.skipif(not has_triton(), reason="Triton is not installed on this platform")
def test_the_kernels_compute_the_same_in_poisoned_memory_and_stay_within_their_tensors(environment):
    """In a process of its own: on a card without the interpreter, elsewhere with it."""
    on_card = torch.cuda.is_available()
    environ = environment | {"TRITON_INTERPRET": "0" if on_card else "1"}
    output = subprocess.run([sys.executable, "-c", SCRIPT], env=environ, capture_output=True, encoding="utf-8")
    assert output.returncode == 0, output.stderr[-2000:]
    *results, addresses = map(json.loads, output.stdout.splitlines())
    assert [result for result in results if not result["good"]] == []
    assert [(result["kv"], result["step"]) for result in results if result["expected"] == "the reference"] == [
        (kv, step) for kv in KINDS for step in STEPS
    ]
    assert addresses["strays"] == []
    assert on_card or addresses["launches"] > 500


def test_the_implementations_for_a_cpu_compute_the_same_in_poisoned_memory():
    results = check_poisoned_memory(CPU, backend="auto")
    assert [result for result in results if not result.good] == []
    assert len(results) == len(KINDS) * len(STEPS)


def test_other_dtypes_are_compared_with_a_run_without_poison(monkeypatch):
    monkeypatch.setattr(poisoned_memory, "KINDS", ("int8",))
    results = check_poisoned_memory(CPU, backend="auto", dtype=torch.bfloat16)
    assert [result.step for result in results] == STEPS
    assert {result.expected for result in results} == {"no poison"}
    assert all(result.good for result in results)


@pytest.mark.parametrize("factor", [0.0, 1.0])
def test_a_result_that_depends_on_a_row_without_a_token_is_found(monkeypatch, factor):
    """A value after the last key, times 0 as in a masked tile, or added as it is."""
    real = forward.block_attention

    def attend(q, k, v, *args, **options):
        after = v.as_strided((1,), (1,), v.storage_offset() + v.shape[1] * v.stride(1))
        return real(q, k, v, *args, **options) + factor * after

    monkeypatch.setattr(forward, "block_attention", attend)
    monkeypatch.setattr(poisoned_memory, "KINDS", ("plain",))
    found = {result.step: result for result in check_poisoned_memory(CPU, backend="reference")}
    assert not found["reading, every key"].finite
    assert not found["reading, every key"].good
    assert found["reading, every key"].error == float("inf")


@pytest.mark.parametrize("kv", KINDS)
def test_spare_rows_are_poisoned_and_rows_of_tokens_are_not(small_engine, ids, kv):
    model = SalaModel(small_engine.config, small_engine.model.weights, kv=kv)
    state = model.new_state()
    state.reserve(100)
    model.prefill(state, ids[:50])
    before = {name: rows.clone() for name, rows in state.segment(0, 50).items()}
    poison_spare_rows(state)
    for name, rows in state.segment(0, 50).items():
        assert torch.equal(rows, before[name])
    for cache in state.sparse.values():
        for buffer in cache.buffers.values():
            for rows in buffer.parts(buffer.length, buffer.capacity).values():
                assert rows.numel()
                assert (rows.isnan() if rows.is_floating_point() else rows == torch.iinfo(rows.dtype).max).all()


def test_the_settings_of_torch_are_the_same_after_a_check(monkeypatch):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)

    def fail_in_poisoned_memory():
        with poisoned_memory.poisoned_memory(CPU):
            assert torch.empty(3).isnan().all()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_poisoned_memory()
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
