"""Torch's flash attention in the form that is fastest on this card; chosen by trying, and checked against plain maths.

Reading: square and causal, so the top-left alignment of `is_causal` is right; flash or cuDNN, whichever is faster.
Decoding: the flash kernel splits the keys over the card and reads each once for the query heads that share it; it takes
their number from the device, so that one CUDA graph serves every position.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from sala_core.bench.timing import Stopwatch

_TRIED_TOKENS = 16_384
_MAX_CUDNN_NUMBERS = 1 << 31  # of queries: beyond, offsets of 32 bits would not do, and cuDNN promises nothing
_SLOWER = 1.2  # so much slower may exact decoding be before the faster form is taken, to be fair
_AGREES = 0.02  # relative RMS error of bf16 attention


class Attention:
    """Causal attention with grouped heads, q [T, H, d], k and v [n, kv heads, d]; scale 1 / sqrt(d)."""

    def __init__(self, device: torch.device, dtype: torch.dtype, *, heads: int, kv_heads: int, d: int) -> None:
        """Tries the forms that this device has, on `_TRIED_TOKENS` random tokens."""
        self._cuda = device.type == "cuda"
        self._read_backends = [SDPBackend.FLASH_ATTENTION]
        self._counted = True
        self._rows: dict[int, Tensor] = {}
        self.name = "SDPA"
        if self._cuda:
            self._ends = torch.tensor([0, 1], dtype=torch.int32, device=device)
            self._choose(device, dtype, heads, kv_heads, d)

    def read(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """A whole text: T = n. Returns [T, H, d]."""
        if not self._cuda:
            return _square(q, k, v)
        backends = self._read_backends
        if q.numel() >= _MAX_CUDNN_NUMBERS:
            backends = [SDPBackend.FLASH_ATTENTION]
        with sdpa_kernel(backends):
            return _square(q, k, v)

    def step(self, q: Tensor, k: Tensor, v: Tensor, num_keys: Tensor) -> Tensor:
        """One query over the first `num_keys` (int32 [1]) of all rows. Returns [1, H, d].

        Where the kernel that counts keys on the device does not run, all rows are attended to, those not written yet
        too: the same work, but for a thousandth, and not the same maths. `name` then says so.
        """
        if not self._cuda:
            n = int(num_keys)
            return _flat(q, k[:n], v[:n])
        return self._count_keys(q, k, v, num_keys) if self._counted else _flash_over_all(q, k, v)

    def _count_keys(self, q: Tensor, k: Tensor, v: Tensor, num_keys: Tensor) -> Tensor:
        """One sequence of a packed batch: all rows of k are its own, `num_keys` of them in use."""
        capacity = k.shape[0]
        rows = self._rows.get(capacity)
        if rows is None:  # before any capture: a capture begins with the call warmed up
            rows = self._rows[capacity] = self._ends * capacity
        return torch.ops.aten._flash_attention_forward(
            q, k, v, self._ends, rows, 1, capacity, 0.0, False, False, scale=q.shape[-1] ** -0.5, seqused_k=num_keys
        )[0]

    def _choose(self, device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, d: int) -> None:
        """Raises RuntimeError if no form of reading runs and agrees."""
        T = _TRIED_TOKENS
        q = torch.empty(T, heads, d, dtype=dtype, device=device).normal_()
        k, v = (torch.empty(T, kv_heads, d, dtype=dtype, device=device).normal_() for _ in range(2))
        watch, times = Stopwatch(device), {}
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
            self._read_backends = [backend]
            if _runs_and_agrees(lambda: self.read(q, k, v), _plain(q[-1:], k, v)):
                times[backend] = watch.time(lambda: self.read(q, k, v)).median_s
        if not times:
            raise RuntimeError("neither flash nor cuDNN attention runs here")
        best = min(times, key=lambda backend: times[backend])
        self._read_backends = [best]
        tried = ", ".join(f"{backend.name} {1e3 * seconds:.2f} ms" for backend, seconds in times.items())
        one, some = q[-1:].contiguous(), torch.tensor([T - 1000], dtype=torch.int32, device=device)
        expected = _plain(one, k[:-1000], v[:-1000])
        over_all = watch.time(lambda: _flash_over_all(one, k, v)).median_s
        counted = float("inf")
        if _runs_and_agrees(lambda: self._count_keys(one, k, v, some), expected):
            counted = watch.time(lambda: self._count_keys(one, k, v, some)).median_s
        self._counted = counted < _SLOWER * over_all
        form = "with the number of keys on the device" if self._counted else "over all rows reserved"
        self.name = (
            f"reading SDPA {best.name} ({tried} of {T:,} tokens); decoding flash {form} "
            f"({1e6 * counted:.0f} us; over all rows {1e6 * over_all:.0f} us)"
        )


def _square(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)[0].transpose(0, 1)


def _flat(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, enable_gqa=True)[0].transpose(0, 1)


def _flash_over_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return _flat(q, k, v)


def _plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The last queries' attention over all keys, by definition, in float32. Returns [T, H, d]."""
    shared = q.shape[1] // k.shape[1]
    k, v = (x.float().repeat_interleave(shared, 1) for x in (k, v))
    weights = (torch.einsum("thd,nhd->htn", q.float(), k) * q.shape[-1] ** -0.5).softmax(-1)
    return torch.einsum("htn,nhd->thd", weights, v)


def _runs_and_agrees(call: Callable[[], Tensor], expected: Tensor) -> bool:
    """Whether the last rows are the expected ones; False too where torch has no such kernel here."""
    try:
        found = call()[-len(expected) :].float()
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return False
    return float((found - expected).norm() / expected.norm()) < _AGREES
