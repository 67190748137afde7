"""SwiGLU, the gated activation of the feed-forward layer (arXiv:2002.05202)."""

from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.swiglu import reference

__all__ = ["swiglu"]


def swiglu(gate: Tensor, up: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Return silu(gate) * up, contiguous. silu is rounded to the dtype before the product.

    gate, up: [..., F], of one shape and dtype. Rows may be strided, as those of the two halves of [..., 2 F] are.
    Raises ValueError if the shapes or dtypes differ.
    """
    if gate.shape != up.shape or gate.dtype != up.dtype:
        raise ValueError(f"gate is {list(gate.shape)} {gate.dtype} and up {list(up.shape)} {up.dtype}")
    if use_triton(backend, gate, up):
        from sala_kernels.swiglu import kernels

        return kernels.swiglu(gate, up)
    return reference.swiglu(gate, up)
