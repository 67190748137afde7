"""`quantize`: int4 weights of a model into a new folder, with every layer's error as it goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.open_session import StopSignals
from app.grammar.parser import Arguments
from app.grammar.quantize import QuantizeArguments
from app.wording import count, duration, plural, size

if TYPE_CHECKING:
    from sala_core.quantize import LayerDone, MatrixDone, Planned, QuantizeSettings, Report


def quantize(arguments: Arguments, _folder: Path) -> int:
    """Run it; 0, or 128 plus the signal that stopped it. Raises SalaError."""
    asked = arguments.quantize
    assert asked is not None
    from sala_core.quantize import DEFAULT_CALIBRATION, DEFAULT_HELD_OUT, QuantizeFinished
    from sala_core.quantize import quantize as run

    with StopSignals() as stop:
        for event in run(
            asked.source,
            asked.target,
            _settings(asked),
            calibration=asked.calibration or DEFAULT_CALIBRATION,
            held_out=asked.held_out or DEFAULT_HELD_OUT,
            device=arguments.device,
            restart=asked.restart,
            should_stop=stop.is_set,
        ):
            if isinstance(event, QuantizeFinished):
                text = json.dumps(event.report.to_dict(), indent=2) if asked.json else report_text(event.report, asked)
                print(text, flush=True)
                return 0
            if not asked.json:
                print(event_text(event, asked), flush=True)
    print(f"Stopped. Run the same command again to continue in {asked.target}.", flush=True)
    return stop.exit_code


def _settings(asked: QuantizeArguments) -> QuantizeSettings:
    from sala_core.quantize import QuantizeSettings

    version_two = asked.asymmetric and asked.layout == "gptqmodel"
    return QuantizeSettings(
        bits=asked.bits,
        group_size=asked.group_size,
        sym=not asked.asymmetric,
        act_order=asked.act_order,
        desc_act=asked.desc_act,
        scale_search=asked.scale_search,
        damping=asked.damping,
        include=asked.include,
        samples=asked.samples,
        sample_tokens=asked.tokens,
        checkpoint_format=asked.format or ("gptq_v2" if version_two else "gptq"),
        layout="autogptq" if asked.layout == "autogptq" else "gptqmodel",
    )


def event_text(event: Planned | MatrixDone | LayerDone, asked: QuantizeArguments) -> str:
    """What a step says; one or more lines."""
    from sala_core.quantize import MatrixDone, Planned

    if isinstance(event, Planned):
        return planned_text(event)
    if isinstance(event, MatrixDone):
        matrix = event.matrix
        damped = f", damping {matrix.damping:g}" if matrix.damping > asked.damping else ""
        return (
            f"  {matrix.name:18} {matrix.num_out:>6} x {matrix.num_in:<6} error {matrix.error:7.2%},"
            f" rounded to nearest {matrix.error_rtn:7.2%}{damped}"
        )
    name = f"Layer {event.index}" if event.index >= 0 else "Head"
    done = "done by an earlier run" if event.reused else f"done in {duration(event.seconds)}"
    return f"{name} ({event.mixer}) {done}"


def planned_text(event: Planned) -> str:
    """What will be done, and what is left alone for which reason."""
    texts = f"{plural(event.calibration_texts, 'text')}, {plural(event.calibration_tokens, 'token')}"
    lines = [
        f"Quantizing {count(event.num_matrices)} matrices of {plural(event.num_layers, 'layer')} on {event.device} "
        f"in {event.dtype}; calibration: {texts}; held out: {plural(event.held_out_tokens, 'token')}"
    ]
    for reason, modules in event.left.items():
        kinds = sorted({module.rpartition(".")[2] for module in modules})
        lines.append(f"Left alone: {', '.join(kinds)} ({len(modules)}): {reason}")
    if event.num_layers_done:
        lines.append(f"Continuing after {plural(event.num_layers_done, 'layer')} of an earlier run")
    return "\n".join(lines)


def report_text(report: Report, asked: QuantizeArguments) -> str:
    """Perplexities, sizes, time and memory."""
    found = report.perplexity
    memory = f"{size(report.peak_memory_bytes)} of memory at most"
    if report.peak_device_bytes:
        memory += f", {size(report.peak_device_bytes)} on the card"
    return (
        f"Perplexity on {count(found.tokens)} held-out tokens: {found.before:.3f} before, {found.after:.3f} after, "
        f"{found.rtn:.3f} if rounded to nearest\n"
        f"Divergence from the words foreseen before: {found.divergence_after:.4f} nats a token, "
        f"{found.divergence_rtn:.4f} if rounded to nearest\n"
        f"{size(report.bytes_before)} became {size(report.bytes_after)} in {duration(report.seconds)}; {memory}\n"
        f"Written to {asked.target}"
    )
