"""The product of a matrix and one vector, from half the bytes where nothing is lost."""

import math

import torch
from torch import Tensor

_TOP = 15  # the largest numbers of float16 are below 2^16
_TAIL = 11  # bits of a float16 number
_TINY = 2.0**-100  # a matrix of zeros needs no other factor than one of small numbers


class Matrix:
    """A matrix [rows, D] of float32 numbers, and factors [D] of the vectors that it multiplies.

    float16 holds the numbers of a bfloat16 matrix exactly, times a power of two; a number of an int4 matrix in float32
    is the sum of two of float16. FBGEMM multiplies such rows with float32 vectors, sums in float32, and takes a quarter
    of the time of a product in float32. Matrices of other numbers, or in a build of torch without it, stay float32.
    """

    def __init__(self, matrix: Tensor, factors: Tensor | None = None) -> None:
        """matrix: [rows, D] float32. factors: [D] float32; None: ones."""
        size = matrix.shape[1]
        self.rows = len(matrix)
        self.num_parts = 0
        """float16 numbers that one number is the sum of: 1 or 2; 0 for a matrix that stays float32."""
        self._matrix = matrix
        self._factors = torch.ones(1, size) if factors is None else factors[None].clone()
        self._zeros = torch.zeros(1, size)
        largest = float(matrix.abs().max())
        if math.isfinite(largest):
            shift = 2.0 ** (_TOP - math.ceil(math.log2(max(largest, _TINY))))
            self._pack(_float16_parts(matrix * shift), shift)

    def _pack(self, parts: tuple[Tensor, ...], shift: float) -> None:
        if not parts:
            return
        try:
            packed = torch.ops.quantized.linear_prepack_fp16(torch.cat(parts), None)
            torch.ops.quantized.linear_dynamic_fp16.default(self._zeros, packed)
        except (RuntimeError, AttributeError):  # a build of torch without FBGEMM
            return
        self._matrix, self.num_parts = packed, len(parts)
        self._factors /= shift

    def multiply(self, x: Tensor, factor: float) -> Tensor:
        """The product with x [D], times `factor`: [1, rows]."""
        x = torch.addcmul(self._zeros, x, self._factors, value=factor)
        if not self.num_parts:
            return torch.mv(self._matrix, x[0])[None]
        product: Tensor = torch.ops.quantized.linear_dynamic_fp16.default(x, self._matrix)
        if self.num_parts == 1:
            return product
        high, low = product.chunk(2, 1)
        return high.add_(low, alpha=2.0**-_TAIL)


def _float16_parts(matrix: Tensor) -> tuple[Tensor, ...]:
    """float32 matrices of float16 numbers, the second times 2^11, whose sum is `matrix`. Empty: there are none."""
    high = matrix.half().float()
    if torch.equal(high, matrix):
        return (high,)
    rest = (matrix - high) * 2.0**_TAIL
    low = rest.half().float()
    return (high, low) if torch.equal(low, rest) else ()
