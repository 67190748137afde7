"""Pipelined prefill on a CPU: several chunks of one text at a time, one thread and one core per chunk.

Within a layer, a chunk needs only the cache or state that the chunk before it left there, and that is ready long before
the layer's output. So each chunk follows the one before it through the layers and waits twice per layer. Threads that
share every operation instead wait for each other thousands of times per chunk.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from threading import Barrier, Condition
from typing import TypeVar

import torch

T = TypeVar("T")


class LayerOrder:
    """Admits chunks 0, 1, ... to the cache or state of each layer, in this order."""

    def __init__(self) -> None:
        self._entered: Counter[int] = Counter()  # per layer: chunks that are done with its cache or state
        self._changed = Condition()
        self._aborted = False

    @contextmanager
    def take(self, chunk: int, layer: int) -> Iterator[None]:
        """Hold a layer's cache or state. Waits for the chunk before; the next chunk waits until this block ends.

        Raises PipelineAborted after another chunk has failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or self._entered[layer] == chunk)
            if self._aborted:
                raise PipelineAborted
        yield
        with self._changed:
            self._entered[layer] += 1
            self._changed.notify_all()

    def abort(self) -> None:
        """Wake all waiting chunks; each raises PipelineAborted."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()


class PipelineAborted(Exception):
    """Another chunk failed, so this one cannot be computed."""


def run_pipelined(compute: Callable[[int, LayerOrder], T], count: int) -> list[T]:
    """Compute `count` chunks, each on one core, as many at a time as torch may use threads.

    compute: called with the chunk's number and the order in which layers are taken. Reorder its results. Raises the
    error of the first chunk that failed, after all threads have stopped.
    """
    order = LayerOrder()
    pool = _workers(torch.get_num_threads())
    futures: list[Future[T]] = [pool.submit(_compute_or_abort, compute, chunk, order) for chunk in range(count)]
    try:
        wait(futures)
    finally:
        if not all(future.done() for future in futures):  # interrupted
            order.abort()
            wait(futures)
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, PipelineAborted):
            raise error
    return [future.result() for future in futures]


def _compute_or_abort(compute: Callable[[int, LayerOrder], T], chunk: int, order: LayerOrder) -> T:
    try:
        return compute(chunk, order)
    except BaseException:
        order.abort()
        raise


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    """A permanent pool of `count` threads whose torch operations use one core each."""
    ready = Barrier(count)

    def use_one_core() -> None:
        torch.set_num_threads(1)  # applies to this thread alone, after its first torch operation
        torch.zeros(1 << 16).add_(1)

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix="chunk", initializer=use_one_core)
    for future in [pool.submit(ready.wait) for _ in range(count)]:
        future.result()
    torch.set_num_threads(before)  # for threads that start later
    return pool
