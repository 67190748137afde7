"""Block scores of InfLLM-V2 (arXiv:2509.24663): how relevant each block of keys is to each query."""

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
    """Score every block of keys for every query from pooled keys.

    A query sees the windows that end at or before its own token. For each query head, lse is the logsumexp of
    scale * q.k2_i over the coarse windows i that it sees, or 0 if it sees none. For a kv head, p_j is the sum of
    exp(scale * q.k1_j - lse) over its query heads. The score of a block is the largest p_j of the fine windows j that
    the query sees and that overlap the block, or 0 if there is none.

    Returns [kv heads, T, blocks] fp32 for the blocks that the fine windows seen by the last query overlap. If there is
    such a window, these are at least all blocks before the query's own. If position is a tensor, the result has the
    blocks that all rows of k1 overlap. Memory grows with T times the number of blocks.
    For up to 16 queries, the bits of a query's scores do not depend on the number of queries. With the kernels they do
    not depend on the number of rows of k1 and k2 either.
    Raises ValueError if there are fewer windows than the last query sees and the host knows its position, if the
    shapes do not match, or if scale is not positive.

    Args:
        q: [T, H, d], any strides.
        k1, k2: fine and coarse windows from `compress_keys`, [kv heads, N1, d] and [kv heads, N2, d], at least those
            that the last query sees. Further rows may have any values. With another dtype than q's, products are
            computed in float32.
        position: of the first query, a number, or int64 [1] on the device for at most 16 tokens.
        scale: factor of the products q.k1 and q.k2.
        layout: sizes of windows and blocks.
        backend: see `sala_kernels.backend.use_triton`.
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
        implementation = reference if backend == "reference" or T <= MAX_TOKENS else cpu
        return implementation.block_scores(q, k1, k2, position=position, scale=scale, layout=layout)
    scores = reference.block_scores(q, k1, k2, position=int(position), scale=scale, layout=layout)
    return pad(scores, (0, layout.num_touched(k1.shape[1]) - scores.shape[-1]))
