"""What is to be saved leaves the state at once and is written by a thread of its own, while reading goes on."""

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
    """Saves in the order given, at most PENDING_SAVES waiting. Belongs to one thread.

    On a card nothing waits for the copies but the writing thread: rows go through pinned memory on a stream of their
    own. No CUDA graph may be captured meanwhile: `flush` before.
    """

    def __init__(self, device: torch.device) -> None:
        """device: where the states are."""
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, "sala-save")
        self._pending: deque[Future[None]] = deque()
        self._rooms: list[_StagingBuffer] = []
        self._failed = False

    @torch.inference_mode()
    def put(self, segment: Mapping[str, Tensor], snapshot: Mapping[str, Tensor], save: Save) -> None:
        """Copy the tensors and have `save` called with the copies on the writing thread.

        segment: rows that do not change any more. snapshot: may change in place as soon as this returns. Waits while
        PENDING_SAVES others do. Raises what an earlier save raised; those behind it are given up, as is this one.
        """
        while self._pending and (len(self._pending) >= PENDING_SAVES or self._pending[0].done()):
            if (error := self._pending.popleft().exception()) is not None:
                self.settle()
                raise error
        room = self._rooms.pop() if self._rooms else _StagingBuffer(pinned=self._stream is not None)
        if self._stream is None:
            segment_copy, snapshot_copy = room.copy(segment, snapshot)
            write: Callable[[], object] = partial(save, segment_copy, snapshot_copy)
        else:
            snapshot = {name: tensor.clone() for name, tensor in snapshot.items()}
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                segment_copy, snapshot_copy = room.copy(segment, snapshot)
                copied = torch.cuda.Event(blocking=True)
                copied.record(self._stream)
            held = [*segment.values(), *snapshot.values()]  # or the allocator would give their memory away
            write = partial(_save_when, copied, held, partial(save, segment_copy, snapshot_copy))
        self._pending.append(self._thread.submit(self._write, room, write))

    def flush(self) -> None:
        """Wait until all is saved. Raises what a save raised; those behind it are given up."""
        if (error := self.settle()) is not None:
            raise error

    def settle(self) -> BaseException | None:
        """Wait until nothing is being written; what is behind a failed save is given up. Returns the failure."""
        error = None
        while self._pending:
            failure = self._pending.popleft().exception()
            error = error or failure
        self._failed = False
        return error

    def _write(self, room: "_StagingBuffer", write: Callable[[], object]) -> None:
        """On the writing thread."""
        try:
            if not self._failed:
                write()
        except BaseException:
            self._failed = True
            raise
        finally:
            self._rooms.append(room)


def _save_when(copied: torch.cuda.Event, held: list[Tensor], save: Callable[[], object]) -> None:
    """Save once the copies are there; what they were made of is held until then."""
    copied.synchronize()
    held.clear()
    save()


class _StagingBuffer:
    """Memory of the computer for the copies of one checkpoint, kept for those of the next."""

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def copy(self, *groups: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Copies of the tensors of every group, contiguous; from a card they are only begun, on the current stream.

        The copies made before are overwritten.
        """
        needed = sum(_padded(tensor.nbytes) for group in groups for tensor in group.values())
        if needed > self._bytes.shape[0]:
            roomy = needed + needed // 16  # the next run may complete some windows more
            self._bytes = torch.empty(roomy, dtype=torch.uint8, pin_memory=self._pinned)
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
    """One head's rows at a time where these do not lie side by side: each is one transfer, without a temporary copy."""
    if source.is_contiguous():
        target.copy_(source, non_blocking=True)
    else:
        for to, rows in zip(target, source, strict=True):
            to.copy_(rows, non_blocking=True)


def _padded(num_bytes: int) -> int:
    return -(num_bytes // -_ALIGNMENT) * _ALIGNMENT
