"""The paper's figures for reading 64K tokens, which a measurement on a card is shown beside (arXiv:2602.11761)."""

from dataclasses import dataclass

SOURCE = "arXiv:2602.11761, one request of 64K tokens, GPTQ weights, 1,024 tokens decoded"
TOKENS = 1 << 16
_NEW_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class Published:
    """One row of the paper: a card, and seconds to the first token and to the last one."""

    card: str
    first_token_s: float
    end_to_end_s: float

    @property
    def prefill_tokens_per_s(self) -> float:
        """Tokens a second until the first token."""
        return TOKENS / self.first_token_s

    @property
    def ms_per_token(self) -> float:
        """Milliseconds per decoded token."""
        return 1e3 * (self.end_to_end_s - self.first_token_s) / (_NEW_TOKENS - 1)


RTX_5090 = Published(card="RTX 5090", first_token_s=10.9, end_to_end_s=17.6)
A6000D = Published(card="A6000D", first_token_s=12.6, end_to_end_s=21.1)

_CONSUMER_BYTES = 40 << 30  # cards up to this memory are compared with the consumer card of 32 GB


def nearest(memory_bytes: int) -> Published:
    """The published card that a card of this memory is compared with: there are two, for consumers and workstations."""
    return RTX_5090 if memory_bytes <= _CONSUMER_BYTES else A6000D
