"""Timing of single operations, their baselines, and operations that fail. No time is asserted."""

import math

import pytest
import torch
from sala_kernels import Int4Matrix, swiglu
from sala_kernels.block_attention import cases as attention_cases
from sala_kernels.inspection.cases import Workload

from sala_core.bench import bench_kernels
from sala_core.bench.child import ChildFailed
from sala_core.bench.kernels.baselines import baselines, closure_inputs, fill_with_noise, reference_only
from sala_core.bench.kernels.ceilings import measure_ceilings
from sala_core.bench.kernels.cpu_workloads import cpu_workloads
from sala_core.bench.kernels.measure import measure_kernels
from sala_core.bench.machine import Machine, slug
from sala_core.bench.timing import Stopwatch, Timing
from sala_core.errors import BenchError

CPU = torch.device("cpu")


def test_timing_is_median_and_spread():
    assert Timing.of([3.0, 1.0, 9.0]) == Timing(median_s=3.0, fastest_s=1.0, spread_s=8.0, runs=3)


def test_a_long_call_is_run_twice_and_a_short_one_more_often():
    calls = []
    assert Stopwatch(CPU, budget_s=0.0).time(lambda: calls.append(1)).runs == 1
    assert len(calls) == 2
    assert Stopwatch(CPU).time(lambda: calls.append(1)).runs == 20


def test_ceilings_and_machine_are_measured(monkeypatch):
    ceilings = measure_ceilings(CPU, torch.float32, shrink=16)
    assert ceilings.bytes_per_s > 1e6
    assert ceilings.flops_per_s > 1e6
    assert ceilings.dtype == "float32"
    machine = Machine.here(CPU)
    assert machine.hardware.startswith("CPU ")
    assert machine.torch == torch.__version__
    assert slug(machine.hardware) == "cpu"
    assert slug("NVIDIA H200") == "nvidia-h200"
    monkeypatch.setenv("SALA_COMMIT", "told")
    assert Machine.here(CPU).commit == "told"


def test_every_operation_of_the_embedded_model_has_a_workload_that_runs(one_thread):
    seen = set()
    for operation, workload in cpu_workloads():
        seen.add(operation)
        assert workload.num_bytes > 0
        if "256K" not in workload.name:
            workload.prepare(CPU)()
    assert seen >= {"rms_norm", "rotary", "lightning_attention", "block_scores", "block_attention", "key_compression"}


def test_every_workload_is_announced_and_can_be_skipped(one_thread, facts):
    found = list(measure_kernels("cpu", facts["ceilings"], only=["swiglu"]))
    assert [record["begin"] for record in found if "begin" in record] == [0, 1]
    row = found[1]
    assert row["implementation"] == "reference, as used on a CPU"
    assert row["fraction"] == pytest.approx(row["num_bytes"] / 1e9 / (row["time_us"] * 1e-6))
    rest = measure_kernels("cpu", facts["ceilings"], only=["swiglu"], skip=1)
    assert [record["begin"] for record in rest if "begin" in record] == [1]


def test_after_a_workload_that_ends_its_process_the_next_one_is_measured(children, tmp_path):
    def answer(job, options):
        for number in range(options["skip"], 3):
            yield {"begin": number, "operation": "swiglu", "workload": f"w{number}"}
            if number == 1:
                raise ChildFailed("exit code 1")
            yield {"operation": "swiglu", "workload": f"w{number}", "implementation": "Triton", "time_us": 1.0}

    children(answer)
    rows = [row for _, row in bench_kernels("cpu", tmp_path)]
    assert [(row.workload, row.status) for row in rows] == [
        ("w0", "measured"), ("w1", "failed: exit code 1"), ("w2", "measured"),
    ]  # fmt: skip


def test_a_process_that_fails_before_its_first_workload_ends_the_run(children, tmp_path):
    def answer(job, options):
        raise ChildFailed("exit code 1")
        yield

    children(answer)
    assert [row.status for _, row in bench_kernels("cpu", tmp_path)] == ["failed: exit code 1"]
    with pytest.raises(BenchError, match="softmax"):
        next(bench_kernels("cpu", tmp_path, ["softmax"]))


def test_noise_replaces_constant_inputs_and_leaves_small_ones():
    x, decay = torch.zeros(100, 100), torch.full((32,), -0.1)
    matrix = Int4Matrix(
        words=torch.zeros(64, 16, dtype=torch.int32), scales=torch.ones(1, 64), zeros=None, group_size=128,
        in_features=128,
    )  # fmt: skip
    drawn = torch.rand(100, 100)
    before = drawn.clone()
    call = lambda: (x, decay, matrix, drawn)  # noqa: E731
    fill_with_noise(call)
    assert x.std() > 0.5
    assert torch.equal(decay, torch.full((32,), -0.1))
    assert matrix.words.unique().numel() > 500
    assert torch.equal(drawn, before)
    assert set(closure_inputs(call)) == {"x", "decay", "matrix", "drawn"}
    assert closure_inputs(print) == {}


def test_attention_to_every_key_is_a_baseline_of_plain_block_attention_alone():
    """Of the prepared call itself: its inputs must be found in it. Shorter than the workloads are."""
    workloads = {workload.name: workload for workload in attention_cases.workloads()}
    ((name, call),) = baselines("block_attention", workloads["decode at 64K bf16"].prepare(CPU, n=300))
    assert name == "torch SDPA, every key"
    assert call().shape == (1, 32, 1, 128)
    for other in ("decode at 64K int8", "mass of 16 at a tensor, 64K bf16"):
        assert list(baselines("block_attention", workloads[other].prepare(CPU, n=300))) == []


def test_within_reference_only_triton_is_not_chosen(monkeypatch):
    from sala_kernels import use_triton

    meta = torch.empty(3, device="meta")
    before = use_triton("auto", meta)
    with reference_only():
        assert not use_triton("auto", meta)
    assert use_triton("auto", meta) == before


def test_baselines_compute_the_same_result():
    from sala_kernels import int4_linear
    from sala_kernels.int4_linear.cases import random_matrix

    matrix = random_matrix(256, 64, 128, symmetric=True, permuted=False, device=CPU)
    x = torch.randn(5, 256)
    call = lambda: int4_linear(x, matrix)  # noqa: E731
    [(name, implementation)] = baselines("int4_linear", call)
    assert "F.linear" in name
    torch.testing.assert_close(implementation(), call(), rtol=1e-4, atol=1e-4)
    gate = up = matrix
    other = lambda: (x, gate, up)  # noqa: E731
    [(name, implementation)] = baselines("int4_linear", other)
    torch.testing.assert_close(implementation(), swiglu(call(), call()), rtol=1e-4, atol=1e-4)


def test_the_baseline_of_block_attention_is_dense_attention():
    q, rows = torch.randn(1, 4, 16), [torch.randn(2, 40, 16) for _ in range(2)]
    call = lambda: (q, rows)  # noqa: E731
    [(name, implementation)] = baselines("block_attention", call)
    k, v = (x.repeat_interleave(2, 0) for x in rows)
    weights = (torch.einsum("thd,hnd->htn", q, k) / 4).softmax(-1)
    expected = torch.einsum("htn,hnd->htd", weights, v)[None]
    assert "every key" in name
    torch.testing.assert_close(implementation(), expected, rtol=1e-4, atol=1e-5)


def test_rates_are_the_counted_work_divided_by_the_time(facts):
    rows = [
        record
        for record in measure_kernels("cpu", facts["ceilings"], only=["rms_norm"], max_workloads=1)
        if "bound" in record
    ]
    assert len(rows) == 1
    seconds = rows[0]["time_us"] * 1e-6
    assert rows[0]["flops_per_s"] == pytest.approx(rows[0]["num_flops"] / seconds)
    assert math.isfinite(rows[0]["fraction"])


def test_a_workload_out_of_memory_is_a_row(monkeypatch, facts):
    def prepare(device):
        raise torch.OutOfMemoryError("no")

    workload = Workload(name="huge", prepare=prepare, num_bytes=1, num_flops=1)
    monkeypatch.setattr("sala_core.bench.kernels.measure.cpu_workloads", lambda: iter([("swiglu", workload)]))
    [_, row] = measure_kernels("cpu", facts["ceilings"])
    assert row["status"] == "out of memory"


def test_a_failing_baseline_is_a_row_and_a_failing_operation_an_error(monkeypatch, facts):
    def broken():
        raise RuntimeError("no such kernel\nand more")

    workload = Workload(name="w", prepare=lambda device: lambda: None, num_bytes=1, num_flops=1)
    monkeypatch.setattr("sala_core.bench.kernels.measure.cpu_workloads", lambda: iter([("swiglu", workload)]))
    monkeypatch.setattr("sala_core.bench.kernels.measure.baselines", lambda operation, call: [("other", broken)])
    [_, own, other] = measure_kernels("cpu", facts["ceilings"])
    assert (own["status"], other["status"]) == ("measured", "failed: no such kernel")
    workload = Workload(name="w", prepare=lambda device: broken, num_bytes=1, num_flops=1)
    monkeypatch.setattr("sala_core.bench.kernels.measure.cpu_workloads", lambda: iter([("swiglu", workload)]))
    with pytest.raises(RuntimeError, match="no such kernel"):
        list(measure_kernels("cpu", facts["ceilings"]))
