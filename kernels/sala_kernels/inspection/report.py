"""Resources, errors and counted work of every operation, as records."""

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType

import torch

from sala_kernels.inspection.compiler import CARDS, MAX_REGISTERS, Card, compile_launch, distinct
from sala_kernels.launch import recorded

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


@dataclass(frozen=True, kw_only=True)
class CompiledKernel:
    """One kernel compiled for one GPU. Each number is the highest over the variants that the workloads launch."""

    operation: str
    kernel: str
    card: str
    variants: int
    registers: int
    stack_bytes: int
    shared_bytes: int
    max_shared_bytes: int

    @property
    def good(self) -> bool:
        """Whether the GPU can run the kernel without spilling registers."""
        return self.shared_bytes <= self.max_shared_bytes and self.registers <= MAX_REGISTERS and self.stack_bytes == 0


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The error of the kernels against the reference in one comparison."""

    operation: str
    comparison: str
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
            kernels: dict[str, list] = {}
            for launch in distinct(launches):
                kernels.setdefault(launch.kernel.__name__, []).append(compile_launch(launch, card))
            for name, variants in kernels.items():
                yield CompiledKernel(
                    operation=operation,
                    kernel=name,
                    card=card.name,
                    variants=len(variants),
                    registers=max(v.registers for v in variants),
                    stack_bytes=max(v.stack_bytes for v in variants),
                    shared_bytes=max(v.shared_bytes for v in variants),
                    max_shared_bytes=card.max_shared_bytes,
                )


def agreements(device: torch.device, operations: Iterable[str] = OPERATIONS) -> Iterator[Agreement]:
    """Run every comparison on a GPU, or on the CPU in a process with TRITON_INTERPRET=1."""
    for operation in operations:
        for comparison in _cases(operation).comparisons():
            yield Agreement(
                operation=operation,
                comparison=comparison.name,
                error=comparison.error(device),
                limit=comparison.limit,
            )


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
