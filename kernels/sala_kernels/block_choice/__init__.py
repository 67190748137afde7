from sala_kernels.block_choice.reference import choose_blocks, selected_mask

__all__ = ["choose_blocks", "selected_mask"]
