"""Peak memory of a measuring process."""

import os
from pathlib import Path

import psutil
import torch


class PeakMemory:
    """Peak memory of this process: allocated and reserved bytes on a card, resident bytes on a CPU."""

    def __init__(self, device: torch.device) -> None:
        """Begins to count. Memory that is already allocated counts too."""
        self._device = device
        self.peak = 0
        self.reserved: int | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def note(self) -> None:
        """Take the peak after the first run. Later runs may still hold memory of earlier ones, so they do not count."""
        if self.peak:
            return
        if self._device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self._device)
            self.reserved = torch.cuda.max_memory_reserved(self._device)
        else:
            self.peak = _peak_resident_bytes()


def _peak_resident_bytes() -> int:
    """Of this process alone. getrusage may report the peak of the parent, from before exec."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return int(psutil.Process(os.getpid()).memory_info().rss)
