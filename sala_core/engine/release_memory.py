"""Gives memory that the C library holds for later back to the system, once a reading or an answer has ended."""

import ctypes
from collections.abc import Callable
from functools import cache


def release_memory() -> bool:
    """Return freed memory to the system; returns whether this system's C library can do so (glibc's can).

    glibc keeps freed blocks between those in use, and every answer has other sizes: without this call the gaps grow by
    about a quarter of what a process needs. It takes 1 to 3 ms.
    """
    trim = _malloc_trim()
    if trim is None:
        return False
    trim(0)
    return True


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`; None where the C library has none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # TypeError: on Windows, None is no library
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim  # type: ignore[no-any-return]
