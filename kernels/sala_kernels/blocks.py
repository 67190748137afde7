"""How InfLLM-V2 (arXiv:2509.24663) cuts the keys of a sparse layer into windows and blocks."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BlockLayout:
    """Sizes in tokens and blocks.

    stride: tokens between fine windows K1 (window 2 * stride); coarse windows K2 are four times both.
    block: tokens of a key block. init: blocks at the start that every query keeps. local: blocks at the end that it
    keeps, its own counted. slots: further blocks that it chooses by score.
    """

    stride: int
    block: int
    init: int
    local: int
    slots: int

    @property
    def max_blocks(self) -> int:
        """Blocks a query attends to at most; with no more before it, attention is dense."""
        return self.init + self.local + self.slots

    def num_touched(self, num_windows: int) -> int:
        """Blocks that the first `num_windows` fine windows touch: the last one reaches a stride beyond its own."""
        return -(-(num_windows + 1) * self.stride // self.block) if num_windows else 0

    def num_candidates(self, query_block: int) -> int:
        """Blocks that a query of block `query_block` may choose from: neither first nor local."""
        return max(0, query_block - self.local + 1 - self.init)
