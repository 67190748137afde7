"""`quantize`: write a model with int4 weights into a new folder and print the errors of every layer on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.load_lines import print_device_note
from app.commands.open_session import StopSignals
from app.grammar.parser import Arguments
from app.grammar.quantize import QuantizeArguments
from app.wording import count, duration, plural, size

if TYPE_CHECKING:
    from sala_core.quantize import LayerDone, MatrixDone, Planned, QuantizeSettings, Report


def quantize(arguments: Arguments, _folder: Path) -> int:
    """Run the command; return 0, or 128 plus the number of the signal that stopped it. Raises SalaError."""
    options = arguments.quantize
    assert options is not None
    from sala_core.quantize import DEFAULT_CALIBRATION, DEFAULT_HELD_OUT, QuantizeFinished
    from sala_core.quantize import quantize as run

    print_device_note(arguments.device, kernels=True)
    with StopSignals() as stop:
        for event in run(
            options.source,
            options.target,
            _settings(options),
            calibration=options.calibration or DEFAULT_CALIBRATION,
            held_out=options.held_out or DEFAULT_HELD_OUT,
            device=arguments.device,
            bos=arguments.bos_choice,
            restart=options.restart,
            should_stop=stop.is_set,
        ):
            if isinstance(event, QuantizeFinished):
                report = event.report
                text = json.dumps(report.to_dict(), indent=2) if options.json else report_text(report, options)
                print(text, flush=True)
                return 0
            if not options.json:
                print(event_text(event, options), flush=True)
    print(f"Stopped. Run the same command again to continue in {options.target}.", flush=True)
    return stop.exit_code


def _settings(options: QuantizeArguments) -> QuantizeSettings:
    from sala_core.quantize import QuantizeSettings

    is_version_two = options.asymmetric and options.layout == "gptqmodel"
    return QuantizeSettings(
        bits=options.bits,
        group_size=options.group_size,
        sym=not options.asymmetric,
        act_order=options.act_order,
        desc_act=options.desc_act,
        scale_search=options.scale_search,
        damping=options.damping,
        include=options.include,
        samples=options.samples,
        sample_tokens=options.tokens,
        checkpoint_format=options.format or ("gptq_v2" if is_version_two else "gptq"),
        layout="autogptq" if options.layout == "autogptq" else "gptqmodel",
    )


def event_text(event: Planned | MatrixDone | LayerDone, options: QuantizeArguments) -> str:
    """Return the line that reports an event; several lines for the plan."""
    from sala_core.quantize import MatrixDone, Planned

    if isinstance(event, Planned):
        return planned_text(event)
    if isinstance(event, MatrixDone):
        matrix = event.matrix
        damped = f", damping {matrix.damping:g}" if matrix.damping > options.damping else ""
        return (
            f"  {matrix.name:18} {matrix.num_out:>6} x {matrix.num_in:<6} error {matrix.error:7.2%},"
            f" rounded to nearest {matrix.error_rtn:7.2%}{damped}"
        )
    name = f"Layer {event.index}" if event.index >= 0 else "Head"
    done = "done by an earlier run" if event.reused else f"done in {duration(event.seconds)}"
    return f"{name} ({event.mixer}) {done}"


def planned_text(event: Planned) -> str:
    """Return the plan: what is quantized and with which text, and what is left alone for which reason."""
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


def report_text(report: Report, options: QuantizeArguments) -> str:
    """Return the summary of a finished run: perplexity, divergence, sizes, time and memory."""
    perplexity = report.perplexity
    memory = f"peak memory {size(report.peak_memory_bytes)}"
    if report.peak_device_bytes:
        memory += f", {size(report.peak_device_bytes)} on the card"
    return (
        f"Perplexity on {count(perplexity.tokens)} held-out tokens: {perplexity.before:.3f} before, "
        f"{perplexity.after:.3f} after, {perplexity.rtn:.3f} if rounded to nearest\n"
        f"KL divergence from the original model's predictions: {perplexity.divergence_after:.4f} nats per token, "
        f"{perplexity.divergence_rtn:.4f} if rounded to nearest\n"
        f"{size(report.bytes_before)} became {size(report.bytes_after)} in {duration(report.seconds)}; {memory}\n"
        f"Written to {options.target}"
    )
