"""The two ceilings of a device's roofline, measured: memory bandwidth and matrix products."""

from dataclasses import asdict, dataclass
from functools import partial

import torch

from sala_core.bench.timing import Stopwatch

_BYTES = {"cuda": 4 << 30, "cpu": 256 << 20}
_SIDE = {"cuda": 8192, "cpu": 2048}


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """bytes_per_s: of a large copy, bytes read plus bytes written. flops_per_s: of a product of matrices in `dtype`."""

    bytes_per_s: float
    flops_per_s: float
    dtype: str

    def to_dict(self) -> dict[str, float | str]:
        """As JSON values."""
        return asdict(self)

    def columns(self) -> dict[str, float | str]:
        """As columns of a row."""
        return {
            "copy_bytes_per_s": self.bytes_per_s,
            "matmul_flops_per_s": self.flops_per_s,
            "matmul_dtype": self.dtype,
        }


def measure_ceilings(device: torch.device, dtype: torch.dtype, *, shrink: int = 1) -> Ceilings:
    """Measure both ceilings on random numbers. The fastest run counts.

    shrink: divides the sizes, for tests.
    """
    watch = Stopwatch(device, budget_s=1.0)
    size, side = _BYTES[device.type] // shrink, _SIDE[device.type] // shrink
    if device.type == "cuda":
        size = min(size, torch.cuda.mem_get_info(device)[0] // 4)
    source = torch.empty(size, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    copy = watch.time(partial(target.copy_, source))
    del source, target
    a, b = (torch.empty(side, side, dtype=dtype, device=device).normal_() for _ in range(2))
    product = watch.time(partial(torch.mm, a, b))
    return Ceilings(
        bytes_per_s=2 * size / copy.fastest_s,
        flops_per_s=2 * side**3 / product.fastest_s,
        dtype=str(dtype).removeprefix("torch."),
    )
