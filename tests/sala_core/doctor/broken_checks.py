"""Groups of checks that end in every bad way. A child process of the tests imports this module."""

import os
import signal
import subprocess
import sys
import time

from sala_core.doctor.records import failed, ok
from sala_core.errors import CheckpointError, MemoryBudgetError


def sound(examination):
    """Both checks are right, and a library writes to stdout."""
    print("a library's words")
    yield ok("first", {"model": examination.model})
    yield ok("second", {})


def segmentation_fault(_examination):
    """The process dies after its first check."""
    yield ok("first", {"seen": 1})
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


def killed(_examination):
    """As the system does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    yield failed("first", "never", "reached")


def endless(_examination):
    """Writes a lot, starts another process, whose id it writes at last, and never ends."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    sys.stderr.write("a line of the error output\n" * 10_000 + f"{process.pid}\n")
    sys.stderr.flush()
    process.wait()
    yield ok("first", {})


def silent(_examination):
    """Ends as if all were well, without an outcome."""
    sys.exit(0)
    yield ok("first", {})


def traceback(_examination):
    """An error that nothing has foreseen, with a private path in it."""
    raise RuntimeError("CUDA error: an illegal memory access was encountered in /mnt/quixwood/kernel.cu")
    yield ok("first", {})


def foreseen(_examination):
    """An error of the program's own tree."""
    yield ok("first", {})
    raise CheckpointError("model.safetensors is cut short; download it again")


def too_large(_examination):
    """The memory of this machine is too small, which is nothing wrong."""
    raise MemoryBudgetError("the weights take 18 GiB and 8 GiB is free; close other programs")
    yield ok("first", {})
