"""The picture of `bench peers`: reading, decoding and restoring by length.

Work is drawn in CPU time, summed over threads, because other programs on the machine do not lengthen it.
"""

from collections.abc import Sequence
from pathlib import Path

from sala_core.bench.peers.records import MEASURED, PeerRow
from sala_core.text.lengths import length_name

_COLORS = {"sala": "#1f5fa8", "llama.cpp": "#c8561b"}
_DPI = 150
_PANELS = (
    ("reading: CPU time per token", "microseconds", lambda row: 1e6 * row.read_processor_s / row.length),
    ("decoding: CPU time per token", "milliseconds", lambda row: row.decode_processor_ms),
    ("restoring a saved state", "seconds", lambda row: row.restore_s),
)


def draw_peers(rows: Sequence[PeerRow], table: Path) -> list[Path]:
    """Draw the measured rows beside their file, as peers-cpu.png. Returns the file, or nothing without a row."""
    measured = [row for row in rows if row.status == MEASURED]
    if not measured:
        return []
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.0), dpi=_DPI, layout="constrained")
    for place, (title, unit, value) in enumerate(_PANELS, start=1):
        axes = figure.add_subplot(1, len(_PANELS), place)
        for engine, color in _COLORS.items():
            own = [row for row in measured if row.engine == engine]
            axes.plot([row.length for row in own], [value(row) for row in own], "o-", color=color, label=engine)
        axes.set(xscale="log", yscale="log", title=title, xlabel="tokens read before", ylabel=unit)
        lengths = sorted({row.length for row in measured})
        axes.set_xticks(lengths, [length_name(length) for length in lengths])
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    file = table.with_suffix(".png")
    figure.savefig(file)
    return [file]
