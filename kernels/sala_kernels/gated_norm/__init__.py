"""What a mixer's output goes through before its last projection: normalisation over all heads, sigmoid gate."""

from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.gated_norm import reference

__all__ = ["gated_norm"]


def gated_norm(o: Tensor, gate: Tensor, weight: Tensor | None, *, eps: float, backend: Backend = "auto") -> Tensor:
    """`rms_norm(o, weight, eps) * sigmoid(gate)`, or `o * sigmoid(gate)` where weight is None; rounded as these are.

    gate: [..., D], before the sigmoid; o: as many elements in that order (of the same shape, or [..., H, d] with
    H * d = D), one dtype; weight: [D] of that dtype. Returns gate's shape and dtype. Raises ValueError for shapes
    that do not fit.
    """
    D = gate.shape[-1]
    if o.numel() != gate.numel() or o.shape[: gate.ndim - 1] != gate.shape[:-1]:
        raise ValueError(f"o {list(o.shape)} does not fit gate {list(gate.shape)}")
    if weight is not None and weight.shape != (D,):
        raise ValueError(f"weight is {list(weight.shape)}; needed is {[D]}")
    if use_triton(backend, o, gate, weight):
        from sala_kernels.gated_norm import kernels

        return kernels.gated_norm(o, gate, weight, eps=eps)
    return reference.gated_norm(o, gate, weight, eps=eps)
