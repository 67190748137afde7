"""Compile recorded launches on the GPU that is there, before their first use."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from sala_kernels.launch import Launch

_MAX_THREADS = 8


def compile_launches(launches: Sequence[Launch], report: Callable[[int], None]) -> None:
    """Compile each launch for the current GPU, several at a time, as Triton's launcher would at its first use.

    What Triton's cache on disk has is only loaded. The tensors of the launches may be on the meta device: only their
    dtypes matter, and their addresses, which count as multiples of 16 bytes there.

    launches: as `sala_kernels.launch.recorded` yields them. report: called with the number of launches done so far, in
    the calling thread. Raises RuntimeError for Triton's own errors, and what its build raises, once all have ended.
    """
    from triton import AsyncCompileMode, FutureKernel
    from triton.errors import TritonError

    threads = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1), "sala-compile")
    # errors are raised below: raised by its __exit__, the first one would leave the mode active
    with threads, AsyncCompileMode(threads, ignore_errors=True) as mode:
        try:
            kernels = [
                launch.kernel.warmup(
                    grid=launch.grid, num_warps=launch.num_warps, num_stages=launch.num_stages, **launch.arguments
                )
                for launch in launches
            ]
            known = len(launches) - len(mode.raw_futures)
            for done, _ in enumerate(as_completed(mode.raw_futures), start=known + 1):
                report(done)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    for kernel in kernels:
        if isinstance(kernel, FutureKernel):
            try:
                kernel.result()
            except TritonError as error:
                raise RuntimeError(str(error)) from error
