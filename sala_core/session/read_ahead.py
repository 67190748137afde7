"""Loads the next segment on a thread of its own while the present one is copied into the state."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

_AHEAD = 2
"""Loads under way or done while one item is used; each holds the memory of one segment."""


def read_ahead(items: Iterable[Item], load: Callable[[Item], Loaded]) -> Iterator[tuple[Item, Future[Loaded]]]:
    """Yield each item with the future of load(item), in order. The result raises what `load` raised.

    Reading, checksums and copies release the interpreter's lock, so that disk and memory are used at the same time.
    When the iterator is closed, what is under way is finished and dropped.
    """
    pending: deque[tuple[Item, Future[Loaded]]] = deque()
    with ThreadPoolExecutor(1, "sala-load") as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(load, item)))
                if len(pending) == _AHEAD:
                    yield pending.popleft()
            while pending:
                yield pending.popleft()
        finally:
            for _, future in pending:
                future.cancel()
