"""Chunks of one text computed side by side on a CPU: each by one thread, one behind the other through the layers.

Of the chunk before it, a chunk needs in each layer only what that layer remembers, and this is there long before the
layer's output. Threads that share every operation wait for each other at the end of each, thousands of times a chunk;
threads with a chunk of their own do so twice a layer.
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
    """Lets chunks 0, 1, ... into the memory of every layer in this order."""

    def __init__(self) -> None:
        self._entered: Counter[int] = Counter()  # chunks that have been in each layer
        self._changed = Condition()
        self._given_up = False

    @contextmanager
    def take(self, chunk: int, layer: int) -> Iterator[None]:
        """Wait until the chunk before has left the layer's memory; the next one waits until this block ends.

        Raises GivenUp where that will not happen any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._given_up or self._entered[layer] == chunk)
            if self._given_up:
                raise PipelineAborted
        yield
        with self._changed:
            self._entered[layer] += 1
            self._changed.notify_all()

    def give_up(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()


class PipelineAborted(Exception):
    """A chunk before this one failed."""


def run_pipelined(compute: Callable[[int, LayerOrder], T], count: int) -> list[T]:
    """The results of compute(chunk, turns) for `count` chunks, each by one core; as many at a time as torch may use.

    Raises what the first chunk that failed raised, once no thread computes any more.
    """
    turns = LayerOrder()
    pool = _workers(torch.get_num_threads())
    futures: list[Future[T]] = [pool.submit(_stopping_others, compute, chunk, turns) for chunk in range(count)]
    try:
        wait(futures)
    finally:
        if not all(future.done() for future in futures):  # interrupted
            turns.give_up()
            wait(futures)
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, PipelineAborted):
            raise error
    return [future.result() for future in futures]


def _stopping_others(compute: Callable[[int, LayerOrder], T], chunk: int, turns: LayerOrder) -> T:
    try:
        return compute(chunk, turns)
    except BaseException:
        turns.give_up()
        raise


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    """Threads whose operations take one core each; there are `count` of them, and they stay."""
    ready = Barrier(count)

    def use_one_core() -> None:
        torch.set_num_threads(1)  # of this thread, once torch has computed in it
        torch.zeros(1 << 16).add_(1)

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix="chunk", initializer=use_one_core)
    for future in [pool.submit(ready.wait) for _ in range(count)]:
        future.result()
    torch.set_num_threads(before)  # what threads that begin later will use
    return pool
