"""A cache that holds a limited number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class ByteCache(Generic[T]):
    """The values that were used last, up to a number of bytes. Safe to call from any thread."""

    def __init__(self, max_bytes: int, size_of: Callable[[T], int]) -> None:
        self._max_bytes, self._size_of = max_bytes, size_of
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()
        self.num_bytes = 0

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key; `make` is called where it is not held. What does not fit at all is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        size = self._size_of(value)
        with self._lock:
            if key not in self._values and size <= self._max_bytes:
                self._values[key] = value
                self.num_bytes += size
            while self.num_bytes > self._max_bytes:
                self.num_bytes -= self._size_of(self._values.popitem(last=False)[1])
        return value
