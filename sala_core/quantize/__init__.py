"""Int4 weights by GPTQ (arXiv:2210.17323): run calibration text through a model layer by layer, write a new folder."""

from sala_core.quantize.calibration import DEFAULT_CALIBRATION, DEFAULT_HELD_OUT
from sala_core.quantize.report import LayerDone, MatrixDone, Planned, QuantizeFinished, Report
from sala_core.quantize.run import quantize
from sala_core.quantize.settings import QuantizeSettings

__all__ = [
    "DEFAULT_CALIBRATION",
    "DEFAULT_HELD_OUT",
    "LayerDone",
    "MatrixDone",
    "Planned",
    "QuantizeFinished",
    "QuantizeSettings",
    "Report",
    "quantize",
]
