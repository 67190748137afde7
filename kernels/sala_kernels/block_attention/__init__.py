from sala_kernels.block_attention.reference import block_attention

__all__ = ["block_attention"]
