"""What NVIDIA's disassembler shows of compiled kernels: tensor cores, local memory, asynchronous copies.

Both tools come with Triton. The disassembler takes longer to start than to work, so that the code of many kernels is
given to it as one piece.
"""

import functools
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+)")
_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)")
# HMMA until sm_89 and on sm_120, HGMMA (wgmma) on sm_90, UTCHMMA and its like (tcgen05) on sm_100
_TENSOR_CORE = re.compile(r"HMMA|HGMMA|UTC\w*MMA")
_LOCAL = re.compile(r"LDL|STL")
_ASYNC_COPY = re.compile(r"LDGSTS|UTMALDG|UBLKCP")


@dataclass(frozen=True, kw_only=True)
class MachineCode:
    """What the code of one kernel contains.

    Attributes:
        registers, stack_bytes: of a thread. Spilled registers are on the stack.
        instructions: all of them.
        tensor_core_instructions: matrix products on tensor cores.
        local_accesses: loads and stores of local memory, where spilled registers and indexed arrays are.
        async_copies: instructions that copy from global to shared memory while the program goes on.
    """

    registers: int
    stack_bytes: int
    instructions: int
    tensor_core_instructions: int
    local_accesses: int
    async_copies: int


def read_machine_code(cubins: Sequence[bytes], capability: int) -> list[MachineCode]:
    """Disassemble compiled kernels of one compute capability, as Triton's compiler returns them."""
    codes = [_code(cubin) for cubin in cubins]
    starts = [sum(map(len, codes[:i])) for i in range(len(codes))]
    names: list[list[str]] = [[] for _ in codes]
    kernel = -1
    for match in _INSTRUCTION.finditer(_disassembled(b"".join(codes), capability)):
        while kernel + 1 < len(starts) and int(match[1], 16) >= starts[kernel + 1]:
            kernel += 1
        names[kernel].append(match[2])
    return [_counted(*_resource_usage(cubin), found) for cubin, found in zip(cubins, names, strict=True)]


def _counted(registers: int, stack_bytes: int, names: list[str]) -> MachineCode:
    def count(pattern: re.Pattern[str]) -> int:
        return sum(pattern.fullmatch(name) is not None for name in names)

    return MachineCode(
        registers=registers,
        stack_bytes=stack_bytes,
        instructions=len(names),
        tensor_core_instructions=count(_TENSOR_CORE),
        local_accesses=count(_LOCAL),
        async_copies=count(_ASYNC_COPY),
    )


def _code(cubin: bytes) -> bytes:
    """The instructions of a cubin: the sections `.text.*` of a 64-bit ELF file."""
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    size, number, names_at = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, table + i * size) for i in range(number)]
    names = sections[names_at][4]
    return b"".join(
        cubin[offset : offset + length]
        for name, _, _, _, offset, length in sections
        if cubin.startswith(b".text.", names + name)
    )


def _disassembled(code: bytes, capability: int) -> str:
    architecture = f"SM{capability}" + "a" * (capability >= 90)  # as Triton compiles
    with tempfile.NamedTemporaryFile() as file:
        file.write(code)
        file.flush()
        return _output("nvdisasm", "--no-dataflow", "--binary", architecture, file.name)


def _resource_usage(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack of a thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        output = _output("cuobjdump", "--dump-resource-usage", file.name)
    found = _RESOURCES.search(output)
    assert found, output
    return int(found[1]), int(found[2])


def _output(tool: str, *arguments: str) -> str:
    command = [str(_tools() / tool), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout


@functools.cache
def _tools() -> Path:
    import triton

    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
