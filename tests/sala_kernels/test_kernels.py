"""Every operation's kernels: compared with the reference on this machine, and compiled for GPUs that it lacks."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from sala_kernels.backend import use_triton
from sala_kernels.inspection.cases import Comparison, relative_error
from sala_kernels.inspection.compiler import CARDS
from sala_kernels.inspection.report import OPERATIONS, CompiledKernel


def comparisons() -> list:
    return [
        pytest.param(comparison, id=f"{operation}: {comparison.name}")
        for operation in OPERATIONS
        for comparison in importlib.import_module(f"sala_kernels.{operation}.cases").comparisons()
    ]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("comparison", comparisons())
def test_the_kernels_agree_with_the_reference(comparison: Comparison, device):
    assert comparison.error(device) <= comparison.limit


@pytest.fixture(scope="module")
def compiled(root) -> dict[str, list[CompiledKernel]]:
    """Every kernel that is launched at the released model's shapes, compiled for every GPU."""
    environ = os.environ | {"PYTHONPATH": str(root / "kernels"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sala_kernels.inspection", "compile", *OPERATIONS]
    output = subprocess.run(command, env=environ, capture_output=True, encoding="utf-8", check=False)
    assert output.returncode == 0, output.stderr[-2000:]
    found: dict[str, list[CompiledKernel]] = {operation: [] for operation in OPERATIONS}
    for record in map(json.loads, output.stdout.splitlines()):
        record.pop("good")
        found[record["operation"]].append(CompiledKernel(**record))
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_kernels_fit_every_gpu_and_their_machine_code_is_as_asked(compiled, operation):
    """No local memory; tensor cores in the kernels that the operation names; copies ahead where stages ask for them."""
    assert {kernel.card for kernel in compiled[operation]} == {card.name for card in CARDS}
    assert [kernel for kernel in compiled[operation] if not kernel.good] == []
    named = getattr(importlib.import_module(f"sala_kernels.{operation}.cases"), "TENSOR_CORE_KERNELS", frozenset())
    assert {kernel.kernel for kernel in compiled[operation] if kernel.tensor_cores} == named


GOOD_KERNEL = CompiledKernel(
    operation="o",
    kernel="k",
    card="sm_90",
    variants=3,
    registers=255,
    stack_bytes=0,
    shared_bytes=1024,
    max_shared_bytes=1024,
    local_accesses=0,
    tensor_cores=3,
    needs_tensor_cores=True,
    pipelined=2,
    async_copies=2,
)


@pytest.mark.parametrize(
    "fault",
    [
        {"registers": 256},
        {"stack_bytes": 8},
        {"shared_bytes": 1025},
        {"local_accesses": 1},
        {"tensor_cores": 2},
        {"needs_tensor_cores": False},
        {"async_copies": 1},
    ],
    ids=str,
)
def test_a_kernel_with_any_fault_is_not_good(fault):
    assert GOOD_KERNEL.good
    assert not replace(GOOD_KERNEL, **fault).good


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_has_distinct_workloads_with_counted_work(operation):
    workloads = list(importlib.import_module(f"sala_kernels.{operation}.cases").workloads())
    assert workloads
    assert len({workload.name for workload in workloads}) == len(workloads)
    assert all(workload.num_bytes > 0 and workload.num_flops >= 0 for workload in workloads)


def test_every_folder_with_cases_is_listed(root):
    folders = {file.parent.name for file in (root / "kernels" / "sala_kernels").glob("*/cases.py")}
    assert folders - {"inspection"} == set(OPERATIONS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_full_size_workloads_run_on_the_gpu(operation):
    device = torch.device("cuda")
    for workload in importlib.import_module(f"sala_kernels.{operation}.cases").workloads():
        workload.prepare(device)()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def test_the_backend_is_chosen_by_where_the_tensors_are():
    cpu, meta = torch.zeros(1), torch.zeros(1, device="meta")
    assert not use_triton("auto", cpu)
    assert use_triton("auto", meta, None)
    assert not use_triton("auto", meta.double())
    assert not use_triton("reference", meta)
    with pytest.raises(ValueError, match="float64"):
        use_triton("triton", cpu.double())
    with pytest.raises(ValueError, match="unknown backend"):
        use_triton("cuda", cpu)


def test_cpu_tensors_need_the_interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="TRITON_INTERPRET"):
        use_triton("triton", torch.zeros(1))


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.1, 0.0], [1.0, 0.0], pytest.approx(0.1, rel=1e-5)),
        ([float("nan"), 0.0], [1.0, 0.0], float("inf")),
        ([float("inf"), 1.0], [float("inf"), 1.0], 0.0),
        ([float("inf"), 1.0], [float("-inf"), 1.0], float("inf")),
        ([1.0], [1.0, 0.0], float("inf")),
        ([1e-3], [0.0], pytest.approx(1e-3)),
    ],
)
def test_the_error_is_relative_and_infinite_for_nan_infinity_and_other_shapes(found, expected, error):
    assert relative_error(torch.tensor(found), torch.tensor(expected)) == error


def test_integers_must_be_equal():
    assert relative_error(torch.tensor([1, 2]), torch.tensor([1, 2])) == 0.0
    assert relative_error(torch.tensor([1, 2]), torch.tensor([1, 3])) == float("inf")
    assert relative_error(torch.tensor([1]), torch.tensor([1.0])) == float("inf")
