"""The garbage collector while many modules are imported, and when the process ends.

torch makes some 400,000 objects that live as long as the process. By default each start searches them for garbage many
times while they are made (0.1 s) and once more when the interpreter ends (0.5 s of 2.3 s, on one core of an AMD EPYC).
"""

import gc
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


def leave_to_the_system() -> None:
    """Search nothing for garbage when the interpreter ends: the system takes all memory back. For the last moment."""
    gc.freeze()
