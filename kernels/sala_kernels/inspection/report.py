"""Resources, errors and counted work of every operation, as records."""

import importlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sala_kernels.inspection.bf16_interpreter import emulated_bf16
from sala_kernels.inspection.cases import Comparison, Numbers
from sala_kernels.inspection.compiler import CARDS, MAX_REGISTERS, Card, CompiledLaunch, compile_launch, distinct
from sala_kernels.inspection.machine_code import MachineCode, read_machine_code
from sala_kernels.launch import Launch, as_card, capability, recorded

OPERATIONS = (
    "rms_norm",
    "rotary",
    "lightning_attention",
    "gated_norm",
    "swiglu",
    "key_compression",
    "block_scores",
    "block_choice",
    "block_attention",
    "kv_quantization",
    "kv_append",
    "int4_linear",
)
"""The folders of this package with an operation that has Triton kernels and a `cases.py`."""

_Variant = tuple[Launch, CompiledLaunch, MachineCode]


@dataclass(frozen=True, kw_only=True)
class CompiledKernel:
    """One kernel compiled for one GPU, in all variants that the workloads launch.

    Attributes:
        operation, kernel, card: names.
        variants: different code for the kernel's arguments and launches.
        registers, stack_bytes, shared_bytes, local_accesses: the highest of a variant.
        max_shared_bytes: of a thread block on this card.
        tensor_cores: variants with instructions for tensor cores.
        needs_tensor_cores: whether the operation says so of this kernel, by `TENSOR_CORE_KERNELS` of its `cases.py`.
        pipelined, async_copies: variants that multiply on tensor cores and are launched with several stages; and how
            many of those copy asynchronously to shared memory.
    """

    operation: str
    kernel: str
    card: str
    variants: int
    registers: int
    stack_bytes: int
    shared_bytes: int
    max_shared_bytes: int
    local_accesses: int
    tensor_cores: int
    needs_tensor_cores: bool
    pipelined: int
    async_copies: int

    @property
    def good(self) -> bool:
        """Whether the GPU runs the kernel, without local memory, and as the operation and the launches ask for."""
        fits = self.shared_bytes <= self.max_shared_bytes and self.registers <= MAX_REGISTERS
        local = self.stack_bytes > 0 or self.local_accesses > 0
        multiplies = self.tensor_cores == (self.variants if self.needs_tensor_cores else 0)
        return fits and not local and multiplies and self.async_copies == self.pipelined


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The error of the kernels against the reference in one comparison.

    Attributes:
        operation, comparison: names.
        dtype: "float32" or "bfloat16", of activations, weights, keys and values.
        cards: the GPUs for which it holds, by the compiler's names: this machine's own, or those as which the
            interpreter launched these kernels with these arguments.
        emulated: computed by Triton's interpreter on a CPU.
        error: relative root-mean-square error.
        limit: largest error that passes.
    """

    operation: str
    comparison: str
    dtype: str
    cards: tuple[str, ...]
    emulated: bool
    error: float
    limit: float

    @property
    def good(self) -> bool:
        """Whether the error is within the limit. NaN is not."""
        return self.error <= self.limit


@dataclass(frozen=True, kw_only=True)
class Work:
    """Bytes and FLOPs of one call at the released model's shapes."""

    operation: str
    workload: str
    num_bytes: int
    num_flops: int


Record = CompiledKernel | Agreement | Work


def compiled_kernels(operations: Iterable[str] = OPERATIONS, cards: Iterable[Card] = CARDS) -> Iterator[CompiledKernel]:
    """Compile every kernel that the workloads launch, for each GPU. Not in a process that runs Triton's interpreter."""
    for operation in operations:
        for card in cards:
            with recorded(card.capability) as launches:
                for workload in _cases(operation).workloads():
                    workload.prepare(torch.device("meta"))()
            different = distinct(launches)
            compiled = [compile_launch(launch, card) for launch in different]
            codes = read_machine_code([c.cubin for c in compiled], card.capability)
            kernels: dict[str, list[_Variant]] = {}
            for variant in zip(different, compiled, codes, strict=True):
                kernels.setdefault(variant[0].kernel.__name__, []).append(variant)
            needing: frozenset[str] = getattr(_cases(operation), "TENSOR_CORE_KERNELS", frozenset())
            assert needing <= set(kernels), f"{operation} launches no {sorted(needing - set(kernels))}"
            for name, variants in kernels.items():
                yield _compiled_kernel(operation, name, card, variants, name in needing)


def _compiled_kernel(
    operation: str, kernel: str, card: Card, variants: list[_Variant], needs_tensor_cores: bool
) -> CompiledKernel:
    pipelined = [code for launch, _, code in variants if code.tensor_core_instructions and launch.num_stages > 1]
    return CompiledKernel(
        operation=operation,
        kernel=kernel,
        card=card.name,
        variants=len(variants),
        registers=max(code.registers for _, _, code in variants),
        stack_bytes=max(code.stack_bytes for _, _, code in variants),
        shared_bytes=max(compiled.shared_bytes for _, compiled, _ in variants),
        max_shared_bytes=card.max_shared_bytes,
        local_accesses=max(code.local_accesses for _, _, code in variants),
        tensor_cores=sum(code.tensor_core_instructions > 0 for _, _, code in variants),
        needs_tensor_cores=needs_tensor_cores,
        pipelined=len(pipelined),
        async_copies=sum(code.async_copies > 0 for code in pipelined),
    )


def agreements(
    device: torch.device,
    operations: Iterable[str] = OPERATIONS,
    dtype: torch.dtype = torch.float32,
    cards: Iterable[Card] = CARDS,
) -> Iterator[Agreement]:
    """Run every comparison on a GPU, or on the CPU in a process with TRITON_INTERPRET=1.

    In the interpreter a comparison runs as on each of `cards`. Cards on which it launches the same kernels with the
    same arguments share a run. A GPU runs it once, as itself.

    Args:
        device: where.
        operations: names of `OPERATIONS`.
        dtype: float32, compared with the reference in float32, or bfloat16, compared with the reference in float64.
            Comparisons without bfloat16 are left out there.
        cards: as which the interpreter launches kernels. Ignored on a GPU.
    """
    for operation in operations:
        for comparison in _cases(operation).comparisons():
            if comparison.limit_in(dtype) is not None:
                yield from agreements_of(operation, comparison, device, dtype, cards)


def agreements_of(
    operation: str,
    comparison: Comparison,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    cards: Iterable[Card] = CARDS,
) -> Iterator[Agreement]:
    """`agreements` of one comparison, which has this dtype.

    Args:
        operation: its name.
        comparison: of that operation.
        device, dtype, cards: as in `agreements`.
    """
    limit = comparison.limit_in(dtype)
    assert limit is not None, f"{comparison.name} has no {dtype}"
    record = partial(
        Agreement,
        operation=operation,
        comparison=comparison.name,
        dtype=str(dtype).removeprefix("torch."),
        limit=limit,
    )
    if device.type == "cuda":
        name = f"sm_{capability(torch.empty(0, device=device))}"
        yield record(cards=(name,), emulated=False, error=comparison.error(device, dtype))
        return
    with emulated_bf16() if dtype == torch.bfloat16 else nullcontext():
        for group in _same_launches(comparison, dtype, cards):
            with as_card(group[0].capability):
                error = comparison.error(device, dtype)
            yield record(cards=tuple(card.name for card in group), emulated=True, error=error)


def _same_launches(comparison: Comparison, dtype: torch.dtype, cards: Iterable[Card]) -> list[list[Card]]:
    """Groups of cards on which the interpreter computes the same: warps and stages do not concern it."""
    groups: dict[str, list[Card]] = {}
    for card in cards:
        with recorded(card.capability) as launches:
            comparison.run("triton", torch.device("cpu"), *([] if dtype == torch.float32 else [Numbers(dtype=dtype)]))
        described = [(launch.kernel.__name__, launch.grid, _described(launch.arguments)) for launch in launches]
        groups.setdefault(repr(described), []).append(card)
    return list(groups.values())


def _described(arguments: dict[str, Any]) -> list[tuple[str, Any]]:
    """Numbers as they are; of tensors the dtype, shape and strides."""
    return [
        (name, (value.dtype, value.shape, value.stride()) if isinstance(value, Tensor) else value)
        for name, value in arguments.items()
    ]


def work(operations: Iterable[str] = OPERATIONS) -> Iterator[Work]:
    """Yield the bytes and FLOPs of every workload."""
    for operation in operations:
        for workload in _cases(operation).workloads():
            yield Work(
                operation=operation,
                workload=workload.name,
                num_bytes=workload.num_bytes,
                num_flops=workload.num_flops,
            )


def _cases(operation: str) -> ModuleType:
    return importlib.import_module(f"sala_kernels.{operation}.cases")
