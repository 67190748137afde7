"""Check that kernels access memory within their arguments only, in Triton's interpreter.

On a GPU, a load beyond a tensor mostly reads other memory of the same process and reports nothing. The interpreter
computes every address on the host, so that each can be compared with the tensors of its launch.
"""

import functools
import linecache
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from sala_kernels.backend import interpreted

Access = Literal["load", "store", "atomic"]


@dataclass(frozen=True, kw_only=True)
class StrayAccess:
    """Accesses of one line of a kernel outside all arguments of its launches.

    Attributes:
        kernel: the launched kernel.
        access: how memory was accessed.
        file, line: of the access, which may be in a function that the kernel calls.
        code: the text of that line.
        argument: the tensor argument nearest to the farthest access.
        num_bytes: how far that access is before the argument's first or after its last byte; 0 if it is between them,
            in a gap of a view.
        in_storage: whether all accesses are within the storage of some argument, so that they are outside a view alone.
        num_accesses: lanes that accessed memory outside.
    """

    kernel: str
    access: Access
    file: str
    line: int
    code: str
    argument: str
    num_bytes: int
    in_storage: bool
    num_accesses: int

    def __str__(self) -> str:
        where = f"{self.num_bytes} bytes from {self.argument}" if self.num_bytes else f"in a gap of {self.argument}"
        memory = "inside a storage, outside its view" if self.in_storage else "outside every argument"
        return (
            f"{self.kernel}: {self.num_accesses} {self.access} accesses {memory}, up to {where}; "
            f"{Path(self.file).name}:{self.line}: {self.code}"
        )


class AddressCheck:
    """What a check has found so far.

    Attributes:
        num_launches: launches with a grid that is not empty.
        num_accesses: lanes that accessed memory, masked ones excluded.
    """

    def __init__(self) -> None:
        self.num_launches = 0
        self.num_accesses = 0
        self._kernel = ""
        self._tensors: list[_TensorBytes] = []
        self._strays: dict[tuple[str, Access, str, int], StrayAccess] = {}

    @property
    def strays(self) -> list[StrayAccess]:
        """Accesses outside the arguments, one record for each line of a kernel, in the order of their first access."""
        return list(self._strays.values())

    def start(self, kernel: str, tensors: dict[str, Tensor]) -> None:
        """Begin a launch of `kernel` with these tensor arguments, by name."""
        self.num_launches += 1
        self._kernel = kernel
        self._tensors = [_TensorBytes(name, x) for name, x in tensors.items() if x.numel()]

    def stray_lanes(self, access: Access, pointers: np.ndarray, mask: np.ndarray, size: int) -> np.ndarray | None:
        """Check one access of the launch, and record what is outside.

        Args:
            access: how memory is accessed.
            pointers: addresses in bytes, uint64, of any shape.
            mask: 0 for lanes without access, of a shape that broadcasts to that of the pointers.
            size: bytes of each element.

        Returns which lanes are outside, bool in the shape of the pointers, or None if none is.
        """
        mask = np.broadcast_to(mask.astype(bool), pointers.shape)
        addresses = pointers[mask].astype(np.int64)
        if not addresses.size:
            return None
        self.num_accesses += addresses.size
        first, last = int(addresses.min()), int(addresses.max()) + size
        if any(tensor.holds_range(first, last) for tensor in self._tensors):
            return None
        outside = np.ones(addresses.shape, dtype=bool)
        for tensor in self._tensors:
            outside &= ~tensor.holds(addresses, size)
        if not outside.any():
            return None
        self._record(access, addresses[outside], size)
        stray = np.zeros(pointers.shape, dtype=bool)
        stray[mask] = outside
        return stray

    def _record(self, access: Access, addresses: np.ndarray, size: int) -> None:
        distances = np.stack([tensor.distances(addresses, size) for tensor in self._tensors])
        farthest = distances.min(0).argmax()
        nearest = int(distances[:, farthest].argmin())
        file, line = _kernel_line()
        key = (self._kernel, access, file, line)
        found = StrayAccess(
            kernel=self._kernel,
            access=access,
            file=file,
            line=line,
            code=linecache.getline(file, line).strip(),
            argument=self._tensors[nearest].name,
            num_bytes=int(distances[nearest, farthest]),
            in_storage=bool(np.any([tensor.stores(addresses, size) for tensor in self._tensors], axis=0).all()),
            num_accesses=addresses.size,
        )
        before = self._strays.get(key)
        if before is not None:
            farther = found if found.num_bytes > before.num_bytes else before
            found = replace(
                farther,
                in_storage=found.in_storage and before.in_storage,
                num_accesses=found.num_accesses + before.num_accesses,
            )
        self._strays[key] = found


class _TensorBytes:
    """The bytes of one tensor argument, which may be a view with gaps."""

    def __init__(self, name: str, x: Tensor) -> None:
        self.name = name
        self._item = x.element_size()
        self._start = x.data_ptr()
        dims = [(n, stride * self._item) for n, stride in zip(x.shape, x.stride(), strict=True) if n > 1 and stride]
        self._dims = sorted(dims, key=lambda dim: -dim[1])
        self._end = self._start + sum((n - 1) * stride for n, stride in dims) + self._item
        self._storage_start = x.untyped_storage().data_ptr()
        self._storage_end = self._storage_start + x.untyped_storage().nbytes()
        self._dense = math.prod(n for n, _ in dims) * self._item == self._end - self._start
        spans = [*((n * stride) for n, stride in self._dims[1:]), self._item]
        nested = all(stride >= span for (_, stride), span in zip(self._dims, spans, strict=False))
        self._has_gaps = nested and not self._dense  # rows of a view that overlap leave no gap to look for

    def holds_range(self, first: int, last: int) -> bool:
        """Whether all bytes from `first` to `last` belong to the tensor. False also if that is not certain."""
        return self._start <= first and last <= self._end and not self._has_gaps

    def holds(self, addresses: np.ndarray, size: int) -> np.ndarray:
        """Which elements, of `size` bytes at these addresses, belong to the tensor. bool."""
        held = (addresses >= self._start) & (addresses + size <= self._end)
        if self._has_gaps:
            rest = addresses - self._start
            for n, stride in self._dims:
                held &= rest < n * stride
                rest = rest % stride
            held &= rest + size <= self._item
        return held

    def stores(self, addresses: np.ndarray, size: int) -> np.ndarray:
        """Which elements are within the storage of the tensor. bool."""
        return (addresses >= self._storage_start) & (addresses + size <= self._storage_end)

    def distances(self, addresses: np.ndarray, size: int) -> np.ndarray:
        """Bytes of each element's distance before the tensor's start or after its end, 0 between them. int64."""
        return np.maximum(0, np.maximum(self._start - addresses, addresses + size - self._end))


@contextmanager
def checked_addresses() -> Iterator[AddressCheck]:
    """Check every load, store and atomic operation of the kernels that run within the context.

    Masked lanes access nothing and are not checked. Lanes outside all arguments are recorded, and do not access memory:
    a load gives 0 or its `other` there. For one thread at a time. Raises ValueError outside Triton's interpreter.
    """
    if not interpreted():
        raise ValueError(
            "addresses can be checked in Triton's interpreter only; set TRITON_INTERPRET=1 before the start"
        )
    from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

    check = AddressCheck()
    with ExitStack() as restored:
        for owner, name, wrap in (
            (GridExecutor, "_init_args_hst", _watched_arguments),
            (InterpreterBuilder, "create_masked_load", _masked("load", mask_at=1)),
            (InterpreterBuilder, "create_masked_store", _masked("store", mask_at=2)),
            (InterpreterBuilder, "create_atomic_rmw", _masked("atomic", mask_at=3, pointers_at=1)),
            (InterpreterBuilder, "create_atomic_cas", _unmasked_atomic),
        ):
            original = getattr(owner, name)
            restored.callback(setattr, owner, name, original)
            setattr(owner, name, wrap(check, original))
        yield check


def _watched_arguments(check: AddressCheck, original: Callable[..., Any]) -> Callable[..., Any]:
    """The interpreter's method that takes a launch's arguments, which also tells them to `check`."""

    def take(self: Any, args: Any, kwargs: Any) -> Any:
        hosted = original(self, args, kwargs)
        by_name = dict(zip(self.arg_names, hosted[0], strict=False)) | hosted[1]
        check.start(self.fn.__name__, {name: x for name, x in by_name.items() if isinstance(x, Tensor)})
        return hosted

    return take


def _masked(access: Access, *, mask_at: int, pointers_at: int = 0) -> Callable[..., Callable[..., Any]]:
    """Wraps a method of the interpreter's builder whose arguments at these places are pointers and a mask."""

    def wrap(check: AddressCheck, original: Callable[..., Any]) -> Callable[..., Any]:
        def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            pointers, mask = args[pointers_at], args[mask_at]
            stray = check.stray_lanes(access, pointers.data, mask.data, _element_bytes(pointers))
            if stray is not None:
                mask = type(mask)(np.broadcast_to(mask.data.astype(bool), stray.shape) & ~stray, mask.dtype)
                args = (*args[:mask_at], mask, *args[mask_at + 1 :])
            return original(self, *args, **kwargs)

        return checked

    return wrap


def _unmasked_atomic(check: AddressCheck, original: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps the builder's compare-and-swap. It has no mask, so that nothing is swapped if one lane is outside."""

    def checked(self: Any, pointers: Any, compared: Any, *args: Any) -> Any:
        everything = np.ones(pointers.data.shape, dtype=bool)
        if check.stray_lanes("atomic", pointers.data, everything, _element_bytes(pointers)) is not None:
            return compared
        return original(self, pointers, compared, *args)

    return checked


def _element_bytes(pointers: Any) -> int:
    return max(1, pointers.get_element_ty().primitive_bitwidth // 8)  # a boolean takes a byte


def _kernel_line() -> tuple[str, int]:
    """File and line of the innermost frame that belongs to a kernel."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_folders_between()):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


@functools.cache
def _folders_between() -> tuple[str, ...]:
    """Folders whose frames are between a kernel's line and this module."""
    import triton

    return str(Path(triton.__file__).parent), str(Path(__file__).parent)
