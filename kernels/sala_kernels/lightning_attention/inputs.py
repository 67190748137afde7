"""The record of what `lightning_decode` and `lightning_verify` are given."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class DecodeInputs:
    """The arguments that `lightning_decode` and `lightning_verify` share, in the same order.

    N is the number of sequences of `lightning_decode`, and of tokens of `lightning_verify`.

    Attributes:
        q, k, v: [N, H, K], [N, Hk, K] and [N, Hk, V].
        state: [N, H, K, V] of `lightning_decode`, [H, K, V] of `lightning_verify`.
        log_decay: [H].
        scale: factor of the queries.
        q_norm, k_norm: [K] or None, weights of the norms.
        eps: of the norms.
        cos_sin: [2, N, K / 2], [2, 1, K / 2] or None, rotary angles.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    state: Tensor
    log_decay: Tensor
    scale: float
    q_norm: Tensor | None
    k_norm: Tensor | None
    eps: float
    cos_sin: Tensor | None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All tensors, by which the backend is chosen."""
        return (self.q, self.k, self.v, self.state, self.log_decay, self.q_norm, self.k_norm, self.cos_sin)
