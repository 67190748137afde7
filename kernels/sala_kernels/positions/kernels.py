"""How kernels read a position."""

import triton
import triton.language as tl


@triton.jit
def number(x):
    """x, or the number that it points to, as int32. An argument of a kernel that is not specialized on its value."""
    if x.dtype.is_ptr():
        return tl.load(x).to(tl.int32)
    else:
        return x
