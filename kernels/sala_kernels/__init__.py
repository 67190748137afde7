"""The operations of MiniCPM-SALA, one folder each.

A folder holds the public functions (`__init__.py`), which choose a backend; the definition in PyTorch
(`reference.py`); the Triton kernels (`kernels*.py`); and the inputs on which both are compared (`cases.py`).
"""

from sala_kernels.backend import KERNELS_VARIABLE, Backend, auto_selects_triton, has_triton, use_triton
from sala_kernels.block_attention import MAX_QUERIES, add_key_mass, block_attention, queries_at_once
from sala_kernels.block_choice import choose_blocks, selected_mask
from sala_kernels.block_scores import block_scores
from sala_kernels.blocks import BlockLayout
from sala_kernels.gated_norm import gated_norm
from sala_kernels.int4_linear import (
    INT4_SCRATCH_BYTES,
    CpuInt4Matrix,
    Int4Matrix,
    Int4Weight,
    block_outputs,
    int4_dequantize,
    int4_linear,
    int4_swiglu,
    repack_int4,
    repack_int4_for_cpu,
)
from sala_kernels.key_compression import compress_keys, compress_keys_into, compress_new_keys, num_windows
from sala_kernels.kv_append import append_rows
from sala_kernels.kv_quantization import QuantizedRows, dequantize_rows, quantize_rows
from sala_kernels.lightning_attention import (
    lightning_advance,
    lightning_attention,
    lightning_decode,
    lightning_log_decay,
    lightning_verify,
)
from sala_kernels.positions import Position
from sala_kernels.rms_norm import add_rms_norm, rms_norm
from sala_kernels.rotary import apply_rotary, qk_norm_rotary, rotary_cos_sin
from sala_kernels.swiglu import swiglu

__all__ = [
    "INT4_SCRATCH_BYTES",
    "KERNELS_VARIABLE",
    "MAX_QUERIES",
    "Backend",
    "BlockLayout",
    "CpuInt4Matrix",
    "Int4Matrix",
    "Int4Weight",
    "Position",
    "QuantizedRows",
    "add_key_mass",
    "add_rms_norm",
    "append_rows",
    "apply_rotary",
    "auto_selects_triton",
    "block_attention",
    "block_outputs",
    "block_scores",
    "choose_blocks",
    "compress_keys",
    "compress_keys_into",
    "compress_new_keys",
    "dequantize_rows",
    "gated_norm",
    "has_triton",
    "int4_dequantize",
    "int4_linear",
    "int4_swiglu",
    "lightning_advance",
    "lightning_attention",
    "lightning_decode",
    "lightning_log_decay",
    "lightning_verify",
    "num_windows",
    "qk_norm_rotary",
    "quantize_rows",
    "queries_at_once",
    "repack_int4",
    "repack_int4_for_cpu",
    "rms_norm",
    "rotary_cos_sin",
    "selected_mask",
    "swiglu",
    "use_triton",
]
