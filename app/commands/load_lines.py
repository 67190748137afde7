"""Lines on stderr about the device and the kernels, while a model is loaded."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from app.commands.live_line import LiveLine
from app.wording import compiling

if TYPE_CHECKING:
    from sala_core.events import LoadEvent


class LoadLines:
    """Shows what `Engine.load` reports. A context manager: the line of progress is gone after the block."""

    def __init__(self) -> None:
        self._line = LiveLine(sys.stderr)

    def show(self, event: LoadEvent) -> None:
        """Print a note, or show how many kernels are compiled."""
        from sala_core.events import DeviceNote

        if isinstance(event, DeviceNote):
            print(f"Note: {event.text}", file=sys.stderr, flush=True)
        else:
            self._line.show(compiling(event.kernels_done, event.kernels_total))

    def __enter__(self) -> LoadLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.clear()


def print_device_note(device: str, *, kernels: bool = False) -> None:
    """Print why the card is not used, or which one is, for commands that do not load an engine.

    kernels: also check that Triton compiles. Raises DeviceError for a device that is not there.
    """
    from sala_core.engine.device import choose_device

    note = choose_device(device, kernels=kernels).note
    if note:
        print(f"Note: {note}", file=sys.stderr, flush=True)
