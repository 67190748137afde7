"""`train` and `convert`: a hybrid by a recipe, with its progress; a backbone from a dense checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.open_session import StopSignals
from app.grammar.parser import Arguments
from app.wording import count, duration, short_count

if TYPE_CHECKING:
    from sala_core.train.events import Event


def train(arguments: Arguments, _folder: Path) -> int:
    """Run it; 0, or 128 plus the signal that stopped it. Raises SalaError."""
    asked = arguments.train
    assert asked is not None
    from sala_core.train.run import train as run

    out = asked.out or Path("runs") / asked.recipe.stem
    talks = os.environ.get("RANK", "0") == "0"
    with StopSignals() as stop:
        for event in run(asked.recipe, out, stage=asked.stage, device=arguments.device, should_stop=stop.is_set):
            if talks:
                print(event_text(event), flush=True)
    if stop.received is not None and talks:
        print(f"The same command goes on in {out}.", flush=True)
    return stop.exit_code


def convert(arguments: Arguments, _folder: Path) -> int:
    """Convert; 0. Raises SalaError."""
    asked = arguments.convert
    assert asked is not None
    from sala_core.train.network.dense import convert as run

    config = run(asked.source, asked.target)
    print(
        f"{asked.target} holds a backbone of {config.num_hidden_layers} layers, width {count(config.hidden_size)}; a "
        f'recipe with start = "{asked.target}" goes on from it with the stage align',
        flush=True,
    )
    return 0


def event_text(event: Event) -> str:
    """One line."""
    from sala_core.train import events as told

    match event:
        case told.StageStarted():
            learns = "" if event.num_trained == event.num_parameters else f", {short_count(event.num_trained)} learn"
            begun = f"goes on after step {count(event.step)}" if event.step else "begins"
            return (
                f"{event.stage} {begun}: {count(event.steps)} steps, {short_count(event.tokens)} tokens, "
                f"{short_count(event.num_parameters)} parameters{learns}, on {event.place}"
            )
        case told.StepDone():
            return (
                f"  {event.stage} {count(event.step)}/{count(event.steps)}: loss {event.loss:.4f}, "
                f"rate {event.learning_rate:.2e}, {short_count(event.tokens)} tokens, "
                f"{count(round(event.tokens_per_s))} tokens/s, {duration(event.seconds_left)} left"
            )
        case told.Measured():
            return (
                f"  {event.stage} {count(event.step)}: held-out loss {event.valid_loss:.4f}, recall {event.recall:.3f} "
                f"({event.recalled:.1%} of tokens)"
            )
        case told.LayerMeasured():
            name = "backbone" if event.layer < 0 else f"layer {event.layer} of {event.num_layers} swapped"
            return f"  select: {name}: loss {event.loss:.4f}, recall {event.recall:.4f} ({event.recalled:.1%})"
        case told.LayersSelected():
            return f"  select: layers {', '.join(map(str, event.layers))} stay softmax; scores in {event.report}"
        case told.StageDone():
            return f"{event.stage} done" + (
                " before" if event.reused else f" in {duration(event.seconds)}: {event.model}"
            )
        case told.TrainStopped():
            return f"{event.stage} stopped after {count(event.step)}, which is kept"
