"""Compile recorded launches for GPUs that need not be present."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sala_kernels.launch import Launch


@dataclass(frozen=True, kw_only=True)
class Card:
    """A compute capability, and the most shared memory of a thread block there (CUDA C++ Programming Guide)."""

    capability: int
    examples: str
    max_shared_bytes: int

    @property
    def name(self) -> str:
        """The name that NVIDIA's compilers use."""
        return f"sm_{self.capability}"


CARDS = (
    Card(capability=80, examples="A100", max_shared_bytes=163 * 1024),
    Card(capability=86, examples="RTX 3090", max_shared_bytes=99 * 1024),
    Card(capability=89, examples="RTX 4090", max_shared_bytes=99 * 1024),
    Card(capability=90, examples="H100, H200", max_shared_bytes=227 * 1024),
    Card(capability=100, examples="B200", max_shared_bytes=227 * 1024),
    Card(capability=120, examples="RTX 5090", max_shared_bytes=99 * 1024),
)
MAX_REGISTERS = 255  # of a thread, on all of these
_TYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.bool: "i1",
}


@dataclass(frozen=True, kw_only=True)
class CompiledLaunch:
    """The code for a launch, and the bytes of shared memory of a thread block."""

    cubin: bytes
    shared_bytes: int


def compile_launch(launch: Launch, card: Card) -> CompiledLaunch:
    """Compile one launch for `card`, which need not be present. Not in a process that runs Triton's interpreter."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = _specialize(launch)
    compiled = triton.compile(
        ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", card.capability, 32),
        options={"num_warps": launch.num_warps, "num_stages": launch.num_stages},
    )
    return CompiledLaunch(cubin=compiled.asm["cubin"], shared_bytes=compiled.metadata.shared)


def distinct(launches: Iterable[Launch]) -> list[Launch]:
    """Return the first launch of each kernel and specialization. The others compile to the same code."""
    seen: dict[str, Launch] = {}
    for launch in launches:
        key = repr((launch.kernel.__name__, *_specialize(launch), launch.num_warps, launch.num_stages))
        seen.setdefault(key, launch)
    return list(seen.values())


def _specialize(launch: Launch) -> tuple[dict[str, str], dict[tuple[int, ...], Any], dict[tuple[int, ...], Any]]:
    """(signature, constants, attributes) as Triton's launcher derives them.

    Integers equal to 1 become constants, and pointers and integers that are multiples of 16 are marked as such, except
    for arguments on which the kernel does not specialize.
    """
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    unknown = set(launch.arguments) - {parameter.name for parameter in launch.kernel.params}
    assert not unknown, f"{launch.kernel.__name__} has no parameter {sorted(unknown)}"
    for i, parameter in enumerate(launch.kernel.params):
        value = launch.arguments.get(parameter.name, parameter.default)
        whole = type(value) is int and not parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (whole and value == 1):
            signature[parameter.name] = "constexpr"
            constants[(i,)] = value
            continue
        signature[parameter.name] = _type(value)
        unaligned = parameter.do_not_specialize or parameter.do_not_specialize_on_alignment
        if (isinstance(value, Tensor) and not unaligned) or (whole and value % 16 == 0):
            attributes[(i,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def _type(value: Any) -> str:
    if isinstance(value, Tensor):
        return "*" + _TYPES[value.dtype]
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, int):
        return "i32" if -(2**31) <= value < 2**31 else "i64"
    assert isinstance(value, float), f"a kernel takes no {type(value).__name__}"
    return "fp32"
