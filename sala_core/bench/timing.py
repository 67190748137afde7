"""How long a call takes on a device: the median of several runs, caches cold."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

MAX_SHORT_S = 20.0
"""A figure that takes longer than this is measured once."""

_FLUSH_BYTES = 256 << 20  # beyond every card's second-level cache
_AHEAD_CYCLES = 1_000_000  # about half a millisecond in which the host can queue the launches of a short call
_PATIENCE_S = 5.0  # of a card, for a call that compiles
_BUDGET_S = 0.3  # for the repetitions of one short call


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Median, fastest, and spread (slowest less fastest) of `runs` runs, in seconds."""

    median_s: float
    fastest_s: float
    spread_s: float
    runs: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """Summed up; at least one."""
        fastest = min(seconds)
        return cls(
            median_s=statistics.median(seconds),
            fastest_s=fastest,
            spread_s=max(seconds) - fastest,
            runs=len(seconds),
        )


def synchronize(device: torch.device) -> None:
    """Wait for the device's work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Times calls on one device."""

    def __init__(self, device: torch.device, *, budget_s: float = _BUDGET_S) -> None:
        """budget_s: about what the repetitions of a call may take together; there are 3 to 20 of them, 1 of a call
        that takes longer than the budget."""
        self._device, self._budget_s = device, budget_s
        cuda = device.type == "cuda"
        self._flush = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device=device) if cuda else None
        self._time_once = self._on_card if cuda else _on_host

    def time(self, call: Callable[[], object]) -> Timing:
        """Warm up (compile, choose algorithms), then measure. What is slow even so is not run again."""
        first = self._time_once(call)
        if first <= _PATIENCE_S or self._flush is None:
            first = self._time_once(call)
        if first > self._budget_s:
            return Timing.of([first])
        runs = min(20, max(3, int(self._budget_s / max(first, 1e-6))))
        return Timing.of([self._time_once(call) for _ in range(runs)])

    def _on_card(self, call: Callable[[], object]) -> float:
        """Between two events, behind a flush of the cache and a pause long enough to queue the call's launches."""
        assert self._flush is not None
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self._device)
        self._flush.zero_()
        torch.cuda._sleep(_AHEAD_CYCLES)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize(self._device)
        return start.elapsed_time(end) / 1e3


def _on_host(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
