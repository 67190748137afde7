"""Block scores of InfLLM-V2 (arXiv:2509.24663, spec of the released model): which blocks matter to each query."""

from torch import Tensor
from torch.nn.functional import pad

from sala_kernels.backend import Backend, use_triton
from sala_kernels.block_scores import cpu, reference
from sala_kernels.blocks import BlockLayout
from sala_kernels.key_compression import num_windows
from sala_kernels.positions import MAX_TOKENS, Position, check_position

__all__ = ["block_scores"]


def block_scores(
    q: Tensor,
    k1: Tensor,
    k2: Tensor,
    *,
    position: Position,
    scale: float,
    layout: BlockLayout,
    backend: Backend = "auto",
) -> Tensor:
    """Score every block that pooled keys tell of, for every query.

    q: [T, H, d], the queries at `position` ... `position + T - 1`. k1, k2: [kv heads, N1, d] and [kv heads, N2, d],
    fine and coarse windows (see `compress_keys`), at least those that the last query sees. All may be views; pooled
    keys of another dtype than q's are compared in float32. position: a number, or int64 [1] on the device for at most
    16 tokens; k1 and k2 may then hold more rows, of any values.
    With lse = logsumexp over the coarse windows seen and p_j = exp(scale q.k1_j - lse) summed over the query heads of
    a kv head, a block's score is the largest p_j of the fine windows that touch it; windows not wholly before the
    query (its own token counted) are not seen. Memory is T times the number of blocks.
    Returns [kv heads, T, blocks] fp32 for the blocks that the fine windows seen by the last query touch: as soon as
    there is one, at least every block before its own. If position is a tensor, for the blocks that all rows of k1
    touch, 0 where none is seen. For up to 16 queries, each one's bits depend neither on how many there are nor, with
    the kernels, on how many rows are given.
    Raises ValueError if there are fewer windows than the last query sees (where the host knows its position), if heads
    or d do not fit, or if scale is not positive.
    """
    T, H, d = q.shape
    kv_heads = k1.shape[0]
    check_position(position, T, q.device)
    last = position + T if isinstance(position, int) else 0
    for name, pooled, size in (("k1", k1, 2), ("k2", k2, 8)):
        seen = num_windows(last, size * layout.stride, size // 2 * layout.stride)
        if pooled.shape[0] != kv_heads or pooled.shape[2] != d or pooled.shape[1] < seen:
            raise ValueError(f"{name} must be [{kv_heads}, {seen} or more, {d}], not {list(pooled.shape)}")
    if H % kv_heads:
        raise ValueError(f"{H} query heads cannot share {kv_heads} kv heads")
    if not scale > 0:
        raise ValueError(f"scale must be positive, not {scale}")
    if use_triton(backend, q, k1, k2):
        from sala_kernels.block_scores import kernels

        return kernels.block_scores(q, k1, k2, position=position, scale=scale, layout=layout)
    if isinstance(position, int):
        plain = reference if backend == "reference" or T <= MAX_TOKENS else cpu
        return plain.block_scores(q, k1, k2, position=position, scale=scale, layout=layout)
    scores = reference.block_scores(q, k1, k2, position=int(position), scale=scale, layout=layout)
    return pad(scores, (0, layout.num_touched(k1.shape[1]) - scores.shape[-1]))
