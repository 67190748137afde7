"""Copies of what is to be saved are made at once; a thread writes them to disk while the prefill goes on."""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from sala_core.engine.memory_plan import PENDING_SAVES

Save = Callable[[dict[str, Tensor], dict[str, Tensor]], object]
"""(segment, snapshot), both on the CPU."""

_ALIGNMENT = 64


class SegmentWriter:
    """Saves in the given order, with at most PENDING_SAVES waiting. For use by one thread.

    On a GPU the copies go to pinned memory on their own CUDA stream, and only the writing thread waits for them. No
    CUDA graph may be captured during that time: call `flush` first.
    """

    def __init__(self, device: torch.device) -> None:
        """device: of the states."""
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, "sala-save")
        self._pending: deque[Future[None]] = deque()
        self._buffers: list[_StagingBuffer] = []
        self._failed = False

    @torch.inference_mode()
    def put(self, segment: Mapping[str, Tensor], snapshot: Mapping[str, Tensor], save: Save) -> None:
        """Copy the tensors, and have `save` called with the copies on the writing thread.

        segment: tensors that do not change any more. snapshot: tensors that may change in place as soon as this
        returns. Waits while PENDING_SAVES saves are pending. Raises the error of an earlier save; this save and those
        behind the failed one are then dropped.
        """
        while self._pending and (len(self._pending) >= PENDING_SAVES or self._pending[0].done()):
            if (error := self._pending.popleft().exception()) is not None:
                self.settle()
                raise error
        buffer = self._buffers.pop() if self._buffers else _StagingBuffer(pinned=self._stream is not None)
        if self._stream is None:
            segment_copy, snapshot_copy = buffer.copy(segment, snapshot)
            write: Callable[[], object] = partial(save, segment_copy, snapshot_copy)
        else:
            snapshot = {name: tensor.clone() for name, tensor in snapshot.items()}
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                segment_copy, snapshot_copy = buffer.copy(segment, snapshot)
                copied = torch.cuda.Event(blocking=True)
                copied.record(self._stream)
            sources = [*segment.values(), *snapshot.values()]  # references, or the allocator would reuse the memory
            write = partial(_save_after, copied, sources, partial(save, segment_copy, snapshot_copy))
        self._pending.append(self._thread.submit(self._write, buffer, write))

    def flush(self) -> None:
        """Wait until everything is saved. Raises the error of a failed save; the saves behind it are dropped."""
        if (error := self.settle()) is not None:
            raise error

    def settle(self) -> BaseException | None:
        """Wait until all writes have ended, and return the first error. Saves behind a failed one are dropped."""
        error = None
        while self._pending:
            failure = self._pending.popleft().exception()
            error = error or failure
        self._failed = False
        return error

    def _write(self, buffer: "_StagingBuffer", write: Callable[[], object]) -> None:
        """Save, then make the buffer free for the next one. Runs on the writing thread."""
        try:
            if not self._failed:
                write()
        except BaseException:
            self._failed = True
            raise
        finally:
            self._buffers.append(buffer)


def _save_after(copied: torch.cuda.Event, sources: list[Tensor], save: Callable[[], object]) -> None:
    """Wait for the copies, release the tensors that were copied, save."""
    copied.synchronize()
    sources.clear()
    save()


class _StagingBuffer:
    """Host memory for the copies of one checkpoint. It is reused for later ones."""

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def copy(self, *groups: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return contiguous copies of the tensors of every group. Earlier copies are overwritten.

        From a GPU the copies are asynchronous, on the current stream.
        """
        needed = sum(_padded(tensor.nbytes) for group in groups for tensor in group.values())
        if needed > self._bytes.shape[0]:
            num_bytes = needed + needed // 16  # the next run may have a few more compressed keys
            self._bytes = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=self._pinned)
        start = 0
        copies: list[dict[str, Tensor]] = []
        for group in groups:
            copies.append({})
            for name, tensor in group.items():
                end = start + tensor.nbytes
                target = self._bytes[start:end].view(tensor.dtype).view(tensor.shape)
                _copy(tensor, target)
                copies[-1][name] = target
                start += _padded(tensor.nbytes)
        return copies


def _copy(source: Tensor, target: Tensor) -> None:
    """Copy; where the heads are not contiguous, one transfer per head, which needs no temporary copy."""
    if source.is_contiguous():
        target.copy_(source, non_blocking=True)
    else:
        for to, rows in zip(target, source, strict=True):
            to.copy_(rows, non_blocking=True)


def _padded(num_bytes: int) -> int:
    return -(num_bytes // -_ALIGNMENT) * _ALIGNMENT
