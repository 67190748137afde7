"""Output gate of an attention layer: RMSNorm over all heads, then a sigmoid gate, before the output projection."""

from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.gated_norm import reference

__all__ = ["gated_norm"]


def gated_norm(o: Tensor, gate: Tensor, weight: Tensor | None, *, eps: float, backend: Backend = "auto") -> Tensor:
    """Return `rms_norm(o, weight, eps) * sigmoid(gate)`, or `o * sigmoid(gate)` if weight is None.

    The roundings are those of the separate operations. The result has gate's shape and dtype.
    Raises ValueError if the shapes do not match.

    Args:
        o: [..., D], or [..., H, d] with H * d = D.
        gate: [..., D] of o's dtype, before the sigmoid.
        weight: [D] of that dtype, or None for no normalization.
        eps: added to the mean square.
        backend: see `sala_kernels.backend.use_triton`.
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
