"""Which session each open window looks at, so that a tail of another one ends at once."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

MAX_WINDOWS = 1000
SETTLE_S = 5.0


class Windows:
    """The last choice made in each window, by Gradio's session hash. Safe to use from any thread.

    What a window itself reports wins after `SETTLE_S`: the answer to the choice may have been lost on its way.
    """

    def __init__(self) -> None:
        self._chosen: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def choose(self, window: str | None, session_id: str) -> None:
        """Note that the window was just told to show this session ('' for none)."""
        with self._lock:
            self._set(window or "", session_id)

    def looks_at(self, window: str | None, session_id: str) -> bool:
        """Whether the window, which says that it shows `session_id`, has not been told to show another since."""
        window = window or ""
        with self._lock:
            chosen, since = self._chosen.get(window, (session_id, 0.0))
            if chosen != session_id and time.monotonic() - since < SETTLE_S:
                return False
            if chosen != session_id or window not in self._chosen:
                self._set(window, session_id)
            return True

    def _set(self, window: str, session_id: str) -> None:
        self._chosen[window] = (session_id, time.monotonic())
        self._chosen.move_to_end(window)
        while len(self._chosen) > MAX_WINDOWS:
            self._chosen.popitem(last=False)
