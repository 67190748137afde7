"""How InfLLM-V2 (arXiv:2509.24663) divides the keys of a sparse layer into windows and blocks."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BlockLayout:
    """Sizes of windows and blocks, and how many blocks a query attends to.

    Attributes:
        stride: tokens from the start of a fine window (K1) to the start of the next. A fine window has 2 * stride
            tokens. Coarse windows (K2) have 8 * stride tokens and start every 4 * stride.
        block: tokens of a key block.
        init: initial blocks, which every query attends to.
        local: local blocks, which every query attends to: its own block and those just before it.
        slots: top-k blocks, which every query chooses by score from all others.
    """

    stride: int
    block: int
    init: int
    local: int
    slots: int

    @property
    def max_blocks(self) -> int:
        """Most blocks that a query attends to. Attention is dense for a query with at most as many up to its own."""
        return self.init + self.local + self.slots

    def num_touched(self, num_windows: int) -> int:
        """Blocks that overlap the first `num_windows` fine windows. The last window has two strides."""
        return -(-(num_windows + 1) * self.stride // self.block) if num_windows else 0

    def num_candidates(self, query_block: int) -> int:
        """Blocks from which a query in block `query_block` chooses: neither initial nor local."""
        return max(0, query_block - self.local + 1 - self.init)
