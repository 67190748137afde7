"""`train` and `convert`: train a hybrid by a recipe; convert a dense checkpoint to a backbone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.load_lines import print_device_note
from app.commands.open_session import StopSignals
from app.grammar.parser import Arguments
from app.wording import count, duration, short_count

if TYPE_CHECKING:
    from sala_core.train.events import Event


def train(arguments: Arguments, _folder: Path) -> int:
    """Run the command; return 0, or 128 plus the number of the signal that stopped it. Raises SalaError."""
    options = arguments.train
    assert options is not None
    from sala_core.train.run import train as run

    out = options.out or Path("runs") / options.recipe.stem
    prints = os.environ.get("RANK", "0") == "0"
    if prints:
        print_device_note(arguments.device)
    with StopSignals() as stop:
        for event in run(options.recipe, out, stage=options.stage, device=arguments.device, should_stop=stop.is_set):
            if prints:
                print(event_text(event), flush=True)
    if stop.received is not None and prints:
        print(f"The same command resumes the run in {out}.", flush=True)
    return stop.exit_code


def convert(arguments: Arguments, _folder: Path) -> int:
    """Run the command; return 0. Raises SalaError."""
    options = arguments.convert
    assert options is not None
    from sala_core.train.network.dense import convert as run

    config = run(options.source, options.target)
    print(
        f"{options.target} is a backbone of {config.num_hidden_layers} layers, width {count(config.hidden_size)}. To "
        f'make a hybrid of it, train a recipe with start = "{options.target}" that begins with the stage align.',
        flush=True,
    )
    return 0


def event_text(event: Event) -> str:
    """Return an event as one line."""
    from sala_core.train import events

    match event:
        case events.StageStarted():
            trained = "" if event.num_trained == event.num_parameters else f", {short_count(event.num_trained)} trained"
            start = f"resumes after step {count(event.step)}" if event.step else "starts"
            return (
                f"{event.stage} {start}: {count(event.steps)} steps, {short_count(event.tokens)} tokens, "
                f"{short_count(event.num_parameters)} parameters{trained}, on {event.device}"
            )
        case events.CharactersReplaced():
            return f"  {event.stage}: {event.note}"
        case events.StepDone():
            return (
                f"  {event.stage} {count(event.step)}/{count(event.steps)}: loss {event.loss:.4f}, "
                f"learning rate {event.learning_rate:.2e}, {short_count(event.tokens)} tokens, "
                f"{count(round(event.tokens_per_s))} tokens/s, {duration(event.seconds_left)} left"
            )
        case events.Measured():
            return (
                f"  {event.stage} {count(event.step)}: held-out loss {event.valid_loss:.4f}, recall {event.recall:.3f} "
                f"(top-1 {event.recalled:.1%})"
            )
        case events.LayerMeasured():
            name = "backbone" if event.layer < 0 else f"layer {event.layer} of {event.num_layers} replaced"
            return f"  select: {name}: loss {event.loss:.4f}, recall {event.recall:.4f} (top-1 {event.recalled:.1%})"
        case events.LayersSelected():
            return f"  select: layers {', '.join(map(str, event.layers))} stay softmax; scores in {event.report}"
        case events.StageDone():
            if event.reused:
                return f"{event.stage} is already done"
            return f"{event.stage} done in {duration(event.seconds)}: {event.model}"
        case events.TrainStopped():
            saved = "" if event.stage == "select" else "; a checkpoint is saved"
            return f"{event.stage} stopped after step {count(event.step)}{saved}"
