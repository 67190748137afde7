"""The model of a workspace: how it is chosen, and how it stands."""

from dataclasses import dataclass
from typing import Literal

from sala_core.engine.sampling import SamplingParams
from sala_core.events import KernelProgress
from sala_core.model.state import KvKind


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The model that answers. max_tokens: its longest stream. error: why it could not be loaded."""

    name: str
    status: Literal["loading", "ready", "failed"]
    is_demonstration: bool
    device: str
    dtype: str
    max_tokens: int
    sampling: SamplingParams | None
    """The model's own sampling parameters; None until it is loaded."""
    error: str | None
    device_note: str = ""
    """What the user should know about the device, such as why the card is not used."""
    kernels: KernelProgress | None = None
    """Kernels that are compiled so far, while the model is loaded for the first time on a card."""
    thinks_by_default: bool | None = None
    """Whether the model thinks before it answers where nothing is set; None if it cannot, or is not loaded."""
    switch_failure: str = ""
    """Why the model that was chosen last could not be loaded; the former one is active again."""
    writer: str = ""
    """The engine elsewhere that writes the answers; "" where this model does."""


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """A model and how it is loaded, as `Engine.load` takes it."""

    model: str
    device: str = "auto"
    kv: KvKind | Literal["auto"] = "auto"
