from sala_kernels.block_scores.reference import block_scores

__all__ = ["block_scores"]
