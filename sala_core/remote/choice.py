"""An engine as the user has chosen it, and how that choice is kept."""

from dataclasses import dataclass
from typing import Literal

from sala_core.remote.access import Access

Sends = Literal["auto", "passages", "text"]
"""What is sent: the whole text where it fits ("auto"), always passages, or always the text."""


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """Which engine writes.

    model: "" for the only one that the server has. context_tokens: None asks the server for it.
    """

    access: Access
    model: str = ""
    context_tokens: int | None = None
    sends: Sends = "auto"
