"""How kernels read a position or a count."""

import triton
import triton.language as tl


@triton.jit
def load_scalar(x):
    """The number x, or the value as int32 that x points to.

    x is an argument of a kernel that does not specialize on its value.
    """
    if x.dtype.is_ptr():
        return tl.load(x).to(tl.int32)
    else:
        return x
