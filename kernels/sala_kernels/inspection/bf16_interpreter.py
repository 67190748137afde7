"""bfloat16 in Triton's interpreter, as a GPU computes it: rounded to nearest even, products accumulated in float32.

The interpreter stores bfloat16 as uint16. Outside `emulated_bf16` it truncates casts, and it adds, compares and
multiplies the stored integers. Within it, casts, arithmetic, comparisons and `tl.dot` are those of PTX (`cvt.rn.bf16`,
`add.rn.bf16`, `mma` with float32 accumulators). An operation that is not emulated raises TypeError: no result of
integers can pass for a result of numbers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_NAN = 0x7FC0  # as torch writes it
_ABSENT = object()
_EMULATED = frozenset(
    {
        np.add,
        np.subtract,
        np.multiply,
        np.divide,
        np.maximum,
        np.minimum,
        np.fmax,
        np.fmin,
        np.less,
        np.less_equal,
        np.greater,
        np.greater_equal,
        np.equal,
        np.not_equal,
    }
)


def widened(bits: np.ndarray) -> np.ndarray:
    """The numbers of bfloat16 bit patterns: uint16 of any shape to float32. Exact."""
    return np.left_shift(bits, 16, dtype=np.uint32).view(np.float32)


def rounded(values: np.ndarray) -> np.ndarray:
    """The bit patterns of the nearest bfloat16 numbers, ties to even: float32 of any shape to uint16. NaN stays NaN."""
    wide = np.ascontiguousarray(values, dtype=np.float32).reshape(np.shape(values))
    bits = wide.view(np.uint32)
    nearest = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(wide), _NAN, nearest).astype(np.uint16)


@contextmanager
def emulated_bf16() -> Iterator[None]:
    """Compute bfloat16 in Triton's interpreter as a GPU does. On leaving, the interpreter is as before.

    Sums of `tl.dot` are those of the installed BLAS in float32; a GPU's tensor cores add in another order. The whole
    process is affected. Does nothing in a process whose kernels are compiled.
    """
    from triton.runtime import interpreter

    changes = [
        (owner, name, new(vars(owner).get(name)))
        for owner, methods in (
            (interpreter.InterpreterBuilder, _builder_methods()),
            (interpreter.ReduceScanOpInterface, {"check_tensor": _refused_reduction}),
        )
        for name, new in methods.items()
    ]
    before = [(owner, name, vars(owner).get(name, _ABSENT)) for owner, name, _ in changes]
    try:
        for owner, name, method in changes:
            setattr(owner, name, method)
        yield
    finally:
        for owner, name, method in before:
            if method is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, method)


def _builder_methods() -> dict[str, Callable[[Any], Any]]:
    """For each method of the interpreter's builder that changes: from the original to its replacement."""
    return {
        "get_bf16": lambda _: _constant,
        "cast_impl": _cast,
        "create_fp_to_fp": _float_cast,
        "binary_op": _binary,
        "create_maxnumf": lambda _: lambda self, a, b: self.binary_op(a, b, np.fmax),  # the number, if one is NaN
        "create_minnumf": lambda _: lambda self, a, b: self.binary_op(a, b, np.fmin),
        "create_clampf": _clamp,
        "create_fma": _fma,
        "create_dot": _dot,
        "unary_op": _refused,
        "create_atomic_rmw": _refused,
        "create_histogram": _refused,
    }


def _is_bf16(value: Any) -> bool:
    """Whether a handle or a type of the interpreter is bfloat16. Pointers to bfloat16 are not."""
    import triton.language as tl

    return bool(getattr(value, "dtype", value).scalar == tl.bfloat16)


def _handle(bits: np.ndarray) -> Any:
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    return TensorHandle(bits, tl.bfloat16)


def _wide(handle: Any) -> Any:
    """The handle, with bfloat16 as float32."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    return TensorHandle(widened(handle.data), tl.float32) if _is_bf16(handle) else handle


def _constant(_: Any, value: float) -> Any:
    return _handle(rounded(np.array([value], dtype=np.float32)))


def _cast(original: Any) -> Callable[..., Any]:
    def cast_impl(self: Any, source: Any, target: Any) -> Any:
        if _is_bf16(target):
            return source if _is_bf16(source) else _handle(rounded(source.data.astype(np.float32)))
        return original(self, _wide(source), target)

    return cast_impl


def _float_cast(original: Any) -> Callable[..., Any]:
    def create_fp_to_fp(self: Any, source: Any, target: Any, rounding: Any) -> Any:
        import triton.language as tl
        from triton._C.libtriton import ir

        if not (_is_bf16(source) or _is_bf16(target)):
            return original(self, source, target, rounding)
        wide = _wide(source)
        if wide.dtype.scalar.is_fp8():
            wide = original(self, wide, tl.float32, rounding)
        if not _is_bf16(target):
            return self.cast_impl(wide, target) if target.scalar.is_fp32() else original(self, wide, target, rounding)
        if rounding == ir.ROUNDING_MODE.RTZ:
            values = wide.data.astype(np.float32)
            shorter = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
            return _handle(rounded(np.where(np.isnan(values), values, shorter)))
        return self.cast_impl(wide, target)

    return create_fp_to_fp


def _binary(original: Any) -> Callable[..., Any]:
    def binary_op(self: Any, left: Any, right: Any, op: Any) -> Any:
        if not _is_bf16(left):
            return original(self, left, right, op)
        if op not in _EMULATED:
            raise TypeError(f"bfloat16 is not emulated in {op.__name__}")
        result = op(widened(left.data), widened(right.data))
        # float32 has more than twice the digits: rounding its result gives the correctly rounded result
        return _handle(rounded(result)) if result.dtype == np.float32 else original(self, _wide(left), _wide(right), op)

    return binary_op


def _clamp(original: Any) -> Callable[..., Any]:
    def create_clampf(self: Any, value: Any, low: Any, high: Any, propagate_nans: Any) -> Any:
        clamped = original(self, _wide(value), _wide(low), _wide(high), propagate_nans)
        return _handle(rounded(clamped.data)) if _is_bf16(value) else clamped

    return create_clampf


def _fma(original: Any) -> Callable[..., Any]:
    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        if not _is_bf16(z):
            return original(self, x, y, z)
        a, b, c = (widened(part.data).astype(np.float64) for part in (x, y, z))
        return _handle(rounded((a * b + c).astype(np.float32)))

    return create_fma


def _dot(original: Any) -> Callable[..., Any]:
    def create_dot(self: Any, a: Any, b: Any, sums: Any, *options: Any) -> Any:
        if _is_bf16(sums):
            raise TypeError("bfloat16 is not emulated as the accumulator of tl.dot")
        return original(self, _wide(a), _wide(b), sums, *options)

    return create_dot


def _refused(original: Any) -> Callable[..., Any]:
    def refuse(self: Any, *arguments: Any) -> Any:
        import triton.language as tl
        from triton.runtime.interpreter import TensorHandle

        if any(isinstance(x, TensorHandle) and x.get_element_ty() == tl.bfloat16 for x in arguments):
            raise TypeError(f"bfloat16 is not emulated in {getattr(original, '__name__', 'this operation')}")
        return original(self, *arguments)

    return refuse


def _refused_reduction(original: Any) -> Callable[..., Any]:
    def check_tensor(self: Any, inputs: Any) -> None:
        original(self, inputs)
        if any(x.dtype.scalar.is_bf16() for x in inputs):
            raise TypeError("bfloat16 is not emulated in reductions and scans; convert to float32 first")

    return check_tensor
