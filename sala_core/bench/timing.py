"""Times calls on a device: the median of several runs, with a cold cache on a card."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

MAX_SHORT_S = 20.0
"""No run begins after this time, unless the number of runs is given."""

_FLUSH_BYTES = 256 << 20  # larger than the L2 cache of any card
_SLEEP_CYCLES = 1_000_000  # about half a millisecond, in which the host queues the launches of a short call
_MAX_WARM_UP_S = 5.0  # on a card, a slower first call is not repeated to warm up
_BUDGET_S = 0.3  # for the runs of one short call


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Median, fastest and spread (slowest minus fastest) of `runs` runs, in seconds."""

    median_s: float
    fastest_s: float
    spread_s: float
    runs: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """Statistics of one or more runs."""
        fastest = min(seconds)
        return cls(
            median_s=statistics.median(seconds),
            fastest_s=fastest,
            spread_s=max(seconds) - fastest,
            runs=len(seconds),
        )


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Times calls on one device."""

    def __init__(self, device: torch.device, *, budget_s: float = _BUDGET_S) -> None:
        """budget_s: about the time for all runs of a call. A call has 3 to 20 runs; 1 if one takes over the budget."""
        self._device, self._budget_s = device, budget_s
        cuda = device.type == "cuda"
        self._flush = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device=device) if cuda else None
        self._time_once = self._on_card if cuda else _on_host

    def time(self, call: Callable[[], object]) -> Timing:
        """Warm up (compilation, choice of algorithms), then measure. A call over the budget is measured once."""
        first = self._time_once(call)
        if first <= _MAX_WARM_UP_S or self._flush is None:
            first = self._time_once(call)
        if first > self._budget_s:
            return Timing.of([first])
        runs = min(20, max(3, int(self._budget_s / max(first, 1e-6))))
        return Timing.of([self._time_once(call) for _ in range(runs)])

    def _on_card(self, call: Callable[[], object]) -> float:
        """Seconds between two events. Before them the L2 cache is flushed, and a sleep lets the host queue launches."""
        assert self._flush is not None
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self._device)
        self._flush.zero_()
        torch.cuda._sleep(_SLEEP_CYCLES)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize(self._device)
        return start.elapsed_time(end) / 1e3


def _on_host(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
