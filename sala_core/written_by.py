"""Who wrote an answer that was not written by the session's own model, and from what."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

AnswerBasis = Literal["passages", "text", "state"]
"""What the writer had: passages that the reader here found; the whole text, sent with the question; or a state of its
own, because it has read the text itself."""


@dataclass(frozen=True, kw_only=True)
class WrittenBy:
    """An engine elsewhere, as the receipt of its answer tells it.

    engine: the model's name there. address: of the server, without a path or a key. basis: what it had. passages: how
    many, for that basis. tokens_again: tokens of the prompt that the server read for this answer; tokens_reused: those
    that it had kept. Both None where the server does not tell. turns_left_out: earlier turns that did not fit.
    quotations_checked: passages that the answer has in quotation marks; quotations_found: those of them that stand word
    for word in a document here.
    """

    engine: str
    address: str
    basis: AnswerBasis
    passages: int = 0
    tokens_again: int | None = None
    tokens_reused: int | None = None
    turns_left_out: int = 0
    quotations_checked: int = 0
    quotations_found: int = 0

    @property
    def is_made_up(self) -> bool:
        """Whether all that the answer quotes stands nowhere."""
        return self.quotations_checked > 0 and self.quotations_found == 0

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Any) -> Self | None:
        """The record that `to_json` wrote; None for anything else."""
        if not isinstance(raw, Mapping) or raw.get("basis") not in ("passages", "text", "state"):
            return None
        again, reused = raw.get("tokens_again"), raw.get("tokens_reused")
        return cls(
            engine=str(raw.get("engine", "")),
            address=str(raw.get("address", "")),
            basis=raw["basis"],
            passages=int(raw.get("passages", 0)),
            tokens_again=None if again is None else int(again),
            tokens_reused=None if reused is None else int(reused),
            turns_left_out=int(raw.get("turns_left_out", 0)),
            quotations_checked=int(raw.get("quotations_checked", 0)),
            quotations_found=int(raw.get("quotations_found", 0)),
        )
