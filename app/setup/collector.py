"""What the import of many modules costs: the garbage collector meanwhile and at the end, and packages for nothing.

torch makes some 400,000 objects that live as long as the process. By default each start searches them for garbage many
times while they are made (0.1 s) and once more when the interpreter ends (0.5 s of 2.3 s, on one core of an AMD EPYC).
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """In this block nothing is searched for garbage; what exists at its end never is."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def without(package: str) -> Iterator[None]:
    """In this block a package is as if it were not installed, unless it is imported already.

    Gradio imports `mcp` where it is installed, for servers that this program does not use: 0.6 s of a start.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


def leave_to_the_system() -> None:
    """Search nothing for garbage when the interpreter ends: the system takes all memory back. For the last moment."""
    gc.freeze()
