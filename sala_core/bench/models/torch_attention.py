"""Torch's attention with the kernels that are fastest on this card. Each is timed, and its result is checked.

Prefill: T = n, so the top-left alignment of `is_causal` is correct. Flash or cuDNN, whichever is faster.
Decoding: flash attention with split keys, each key read once for all query heads that share it. The kernel reads the
number of keys on the device, so one CUDA graph serves every position.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from sala_core.bench.timing import Stopwatch

_TRIAL_TOKENS = 16_384
_MAX_CUDNN_NUMBERS = 1 << 31  # numbers in q: more need 64-bit offsets, which cuDNN does not guarantee
_MAX_SLOWDOWN = 1.2  # decoding over all rows replaces the exact kernel only if that one is slower by this factor
_MAX_ERROR = 0.02  # relative RMS error of bf16 attention


class TorchAttention:
    """Causal grouped-query attention: q [T, H, d], k and v [n, kv heads, d], scale 1 / sqrt(d).

    name: the kernels in use and the times that decided, for the row's note.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *, num_heads: int, kv_heads: int, d: int) -> None:
        """Choose the kernels by trials on `_TRIAL_TOKENS` random tokens. On a CPU there is nothing to choose.

        Args:
            device, dtype: of all tensors.
            num_heads: query heads H.
            kv_heads: heads of keys and values.
            d: size of a head.
        """
        self._cuda = device.type == "cuda"
        self._prefill_backends = [SDPBackend.FLASH_ATTENTION]
        self._counts_keys = True
        self._rows: dict[int, Tensor] = {}
        self.name = "SDPA"
        if self._cuda:
            self._ends = torch.tensor([0, 1], dtype=torch.int32, device=device)
            self._choose(device, dtype, num_heads, kv_heads, d)

    def prefill(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of a whole prompt, T = n. Returns [T, H, d]."""
        if not self._cuda:
            return _square(q, k, v)
        backends = self._prefill_backends
        if q.numel() >= _MAX_CUDNN_NUMBERS:
            backends = [SDPBackend.FLASH_ATTENTION]
        with sdpa_kernel(backends):
            return _square(q, k, v)

    def decode(self, q: Tensor, k: Tensor, v: Tensor, num_keys: Tensor) -> Tensor:
        """Attention of one query over the first `num_keys` rows. Returns [1, H, d].

        If the kernel with `num_keys` on the device does not run or is slow, the query attends to all rows, also those
        not written yet. The time is the same within a thousandth, but the result is wrong. `name` then says so.

        Args:
            q: [1, H, d].
            k, v: [capacity, kv heads, d].
            num_keys: int32 [1].
        """
        if not self._cuda:
            n = int(num_keys)
            return _flat(q, k[:n], v[:n])
        return self._flash_over_first(q, k, v, num_keys) if self._counts_keys else _flash_over_all(q, k, v)

    def _flash_over_first(self, q: Tensor, k: Tensor, v: Tensor, num_keys: Tensor) -> Tensor:
        """As a packed batch of one sequence, which owns all rows of k and uses `num_keys` of them."""
        capacity = k.shape[0]
        rows = self._rows.get(capacity)
        if rows is None:  # never during a capture, which follows warm-up calls
            rows = self._rows[capacity] = self._ends * capacity
        return torch.ops.aten._flash_attention_forward(
            q, k, v, self._ends, rows, 1, capacity, 0.0, False, False, scale=q.shape[-1] ** -0.5, seqused_k=num_keys
        )[0]

    def _choose(self, device: torch.device, dtype: torch.dtype, num_heads: int, kv_heads: int, d: int) -> None:
        """Raises RuntimeError if no prefill kernel runs with correct results."""
        T = _TRIAL_TOKENS
        q = torch.empty(T, num_heads, d, dtype=dtype, device=device).normal_()
        k, v = (torch.empty(T, kv_heads, d, dtype=dtype, device=device).normal_() for _ in range(2))
        watch, times = Stopwatch(device), {}
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
            self._prefill_backends = [backend]
            if _is_correct(lambda: self.prefill(q, k, v), _definition(q[-1:], k, v)):
                times[backend] = watch.time(lambda: self.prefill(q, k, v)).median_s
        if not times:
            raise RuntimeError("neither flash nor cuDNN attention runs here")
        best = min(times, key=lambda backend: times[backend])
        self._prefill_backends = [best]
        trials = ", ".join(f"{backend.name} {1e3 * seconds:.2f} ms" for backend, seconds in times.items())
        query, num_keys = q[-1:].contiguous(), torch.tensor([T - 1000], dtype=torch.int32, device=device)
        expected = _definition(query, k[:-1000], v[:-1000])
        over_all = watch.time(lambda: _flash_over_all(query, k, v)).median_s
        over_first = float("inf")
        if _is_correct(lambda: self._flash_over_first(query, k, v, num_keys), expected):
            over_first = watch.time(lambda: self._flash_over_first(query, k, v, num_keys)).median_s
        self._counts_keys = over_first < _MAX_SLOWDOWN * over_all
        form = "with the number of keys on the device" if self._counts_keys else "over all rows reserved"
        self.name = (
            f"reading SDPA {best.name} ({trials} of {T:,} tokens); decoding flash {form} "
            f"({1e6 * over_first:.0f} us; over all rows {1e6 * over_all:.0f} us)"
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


def _definition(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention over all keys by its definition, in float32. Returns [T, H, d]."""
    shared = q.shape[1] // k.shape[1]
    k, v = (x.float().repeat_interleave(shared, 1) for x in (k, v))
    weights = (torch.einsum("thd,nhd->htn", q.float(), k) * q.shape[-1] ** -0.5).softmax(-1)
    return torch.einsum("htn,nhd->thd", weights, v)


def _is_correct(call: Callable[[], Tensor], expected: Tensor) -> bool:
    """Whether the last rows of the result are the expected ones. False if torch cannot run the kernel here."""
    try:
        result = call()[-len(expected) :].float()
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return False
    return float((result - expected).norm() / expected.norm()) < _MAX_ERROR
