"""Test the paper's claims at a small size: `python -m sala_core.train.experiments OUT`.

Each variant is a run of its own. Stopped runs resume. Writes runs.csv (every measurement of every run), lengths.csv and
plots into --results.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sala_core.text.tokenizer import Tokenizer
from sala_core.train.curves import read_curve
from sala_core.train.data.rows import TEXT, Rows
from sala_core.train.data.token_cache import TokenCache
from sala_core.train.events import LayersSelected, Measured, StageDone
from sala_core.train.files import read_json, write_text
from sala_core.train.lengths import measure_lengths
from sala_core.train.recipe import Recipe, read_recipe
from sala_core.train.run import MODEL, load_network, train

_RECIPE = Path(__file__).parent / "recipes" / "claims.toml"
_CONVERTED = ("align", "select", "distill", "stable", "decay")
VARIANTS: dict[str, dict[str, Any]] = {
    "even": {"placement": "even"},
    "worst": {"placement": "worst"},
    "rotary everywhere": {"rotary": "everywhere"},
    "rotary nowhere": {"rotary": "none"},
    "no gates": {"output_gates": False},
    "no qk norm": {"qk_norm": False},
}
"""Changes to the recipe's [hybrid] in each variant. Without a placement, the softmax layers are those of SELECTED."""
BACKBONE, SCRATCH, SELECTED, LONGER = "backbone", "from scratch", "selected", "selected, longer"
_LONGER = 3.0  # factor of the steps of stable and decay
LENGTH_RUNS = (BACKBONE, SCRATCH, SELECTED, "rotary everywhere", "rotary nowhere")


def backbone_recipe(base: Recipe) -> Recipe:
    """Return a recipe with the stage `backbone` alone."""
    return replace(base, phases={"backbone": base.phases["backbone"]}, select=None)


def converted_recipe(base: Recipe, start: Path, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe that converts the finished backbone `start`. changes: to [hybrid]."""
    phases = {name: base.phases[name] for name in _CONVERTED if name in base.phases}
    hybrid = replace(base.hybrid, **changes)
    return replace(base, start=start, model={}, hybrid=hybrid, phases=phases)


def scratch_recipe(base: Recipe, layers: tuple[int, ...]) -> Recipe:
    """Return a recipe that trains the hybrid from scratch, with the backbone's budget and schedule."""
    hybrid = replace(base.hybrid, placement=layers)
    return replace(base, hybrid=hybrid, phases={"stable": base.phases["backbone"]}, select=None)


def run(recipe: Recipe, out: Path, name: str) -> None:
    """Make one run and print its measurements."""
    for event in train(recipe, out / name, device="auto"):
        match event:
            case Measured():
                print(f"{name}: {event.stage} {event.step}: {event.valid_loss:.4f} {event.recall:.4f}", flush=True)
            case LayersSelected():
                print(f"{name}: softmax layers {event.layers}", flush=True)
            case StageDone() if not event.reused:
                print(f"{name}: {event.stage} done in {event.seconds:.0f} s", flush=True)


def run_seed(base: Recipe, out: Path, variants: Iterable[str]) -> None:
    """Make the runs of one seed. Runs with equal first stages copy them."""
    run(backbone_recipe(base), out, BACKBONE)
    start = out / BACKBONE / "backbone" / MODEL
    run(converted_recipe(base, start.resolve(), {}), out, SELECTED)
    layers = tuple(read_json(out / SELECTED / "select" / "importance.json")["softmax_layers"])
    run(scratch_recipe(base, layers), out, SCRATCH)
    copy_stages(out, LONGER, "align", "distill")
    more = {stage: scaled(base, _LONGER, base.seed).phases[stage] for stage in ("stable", "decay")}
    run(converted_recipe(replace(base, phases={**base.phases, **more}), start.resolve(), {}), out, LONGER)
    for name in variants:
        changes = VARIANTS[name]
        if set(changes) == {"placement"}:
            copy_stages(out, name, "align")
        run(converted_recipe(base, start.resolve(), {"placement": layers, **changes}), out, name)


def copy_stages(out: Path, name: str, *stages: str) -> None:
    """Copy finished stages of the run SELECTED to the run `name`, unless it has them."""
    for stage in stages:
        if not (out / name / stage).exists():
            shutil.copytree(out / SELECTED / stage, out / name / stage)


def scaled(base: Recipe, scale: float, seed: int) -> Recipe:
    """Return the recipe with all steps multiplied by `scale`, and another seed."""

    def steps(number: int) -> int:
        return max(1, round(number * scale))

    phases = {
        name: tuple(replace(p, steps=steps(p.steps), warmup_steps=steps(p.warmup_steps)) for p in stage)
        for name, stage in base.phases.items()
    }
    return replace(base, seed=seed, phases=phases)


def run_rows(out: Path, seed: int) -> list[dict[str, Any]]:
    """Return every measurement of every run, finished or not. Tokens are counted over all stages of a run."""
    rows = []
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        previous_tokens = 0
        for stage in (BACKBONE, "align", "distill", "stable", "decay"):
            curve = read_curve(folder / stage / "log.csv")
            for row in curve:
                if row["valid_loss"] and stage != "align":
                    figures = {key: float(row[key]) for key in ("valid_loss", "recall", "recalled")}
                    tokens = previous_tokens + int(row["tokens"])
                    rows.append({"seed": seed, "run": folder.name, "stage": stage, "tokens": tokens, **figures})
            previous_tokens += int(curve[-1]["tokens"]) if curve else 0
    return rows


def length_rows(base: Recipe, out: Path, seed: int, lengths: list[int], tokens: int) -> list[dict[str, Any]]:
    """Return loss and recall by length of the runs in LENGTH_RUNS. Each run's are kept in its folder and reused.

    Args:
        base: the recipe, with `data.cache`.
        out: folder of the seed's runs.
        seed: for the rows of the table.
        lengths: tokens of a row.
        tokens: of one measurement, about.
    """
    tokenizer = Tokenizer.from_folder(base.tokenizer)
    assert base.data.cache is not None
    cache = TokenCache.open(base.data, tokenizer, int(base.model["bos_token_id"]), base.data.cache)
    unseen = Rows(base, "lengths", tokenizer, cache, held_out=True)
    rows = []
    for name in LENGTH_RUNS:
        stage = {BACKBONE: "backbone", SCRATCH: "stable"}.get(name, "decay")
        model, file = out / name / stage / MODEL, out / name / "lengths.csv"
        if not (model / "config.json").exists():
            continue
        if not file.exists():
            network = load_network(model)
            scores = measure_lengths(network, unseen, lengths, (TEXT, "needle", "key_value"), tokens=tokens)
            write_text(file, to_csv([{"seed": seed, "run": name, **asdict(score)} for score in scores]))
            print(f"{name}: lengths measured", flush=True)
        with file.open(newline="", encoding="utf-8") as stream:
            rows += list(csv.DictReader(stream))
    return rows


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Return rows with equal keys as CSV."""
    lines = [",".join(rows[0])] if rows else []
    lines += [",".join(f"{v:.5g}" if isinstance(v, float) else str(v) for v in row.values()) for row in rows]
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], lengths: list[dict[str, Any]], folder: Path) -> None:
    """Plot held-out loss and recall by tokens and by length. Needs matplotlib (the extra bench)."""
    from matplotlib.figure import Figure

    def lines(title: str, groups: dict[str, list[tuple[float, float]]], axes: Any, label: str) -> None:
        for name, points in groups.items():
            axes.plot(*zip(*sorted(points), strict=True), label=name, marker=".")
        axes.set_title(title)
        axes.set_xlabel(label)
        axes.legend(fontsize=7)

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, key, title in zip(
        figure.subplots(1, 2), ("valid_loss", "recall"), ("held-out loss (nats)", "needle recall"), strict=True
    ):
        groups: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            groups.setdefault(f"{row['run']}, {row['seed']}", []).append((row["tokens"] / 1e6, row[key]))
        lines(title, groups, axes, "million tokens, after the backbone's for converted runs")
        if key == "valid_loss" and rows:  # the first phases have no text, and a high loss on it
            axes.set_ylim(top=1.5 * min(row[key] for row in rows))
    figure.savefig(folder / "runs.png", dpi=100)
    if not lengths:
        return
    figure = Figure(figsize=(14, 4.5), layout="constrained")
    parts = (
        (TEXT, "loss", "text: loss"),
        ("needle", "recall", "needle: recall"),
        ("key_value", "recall", "key_value: recall"),
    )
    for axes, (kind, key, title) in zip(figure.subplots(1, 3), parts, strict=True):
        groups = {}
        for row in lengths:
            if row["kind"] == kind and row["sparse"] == "False":
                groups.setdefault(f"{row['run']}, {row['seed']}", []).append((float(row["length"]), float(row[key])))
        lines(title, groups, axes, "tokens")
        axes.set_xscale("log", base=2)
    figure.savefig(folder / "lengths.png", dpi=100)


def main() -> None:
    """Make the runs, then write tables and plots."""
    parser = argparse.ArgumentParser(prog="sala_core.train.experiments", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--recipe", type=Path, default=_RECIPE)
    parser.add_argument("--results", type=Path, required=True, help="folder for tables and plots")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all budgets")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--lengths", type=int, nargs="*", default=[256, 1024, 4096, 16384])
    parser.add_argument("--length-tokens", type=int, default=1 << 16, help="tokens measured at every length")
    parser.add_argument("--only-write", action="store_true", help="write tables and plots of existing runs")
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe)
    recipe = replace(recipe, data=replace(recipe.data, cache=(arguments.out / "cache").resolve()))
    rows: list[dict[str, Any]] = []
    lengths: list[dict[str, Any]] = []
    arguments.results.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        base, out = scaled(recipe, arguments.scale, seed), arguments.out / f"seed-{seed}"
        if not arguments.only_write:
            run_seed(base, out, [name for name in VARIANTS if name in arguments.variants])
        if out.exists():
            rows += run_rows(out, seed)
            lengths += (
                length_rows(base, out, seed, arguments.lengths, arguments.length_tokens) if arguments.lengths else []
            )
        write_text(arguments.results / "runs.csv", to_csv(rows))
        write_text(arguments.results / "lengths.csv", to_csv(lengths))
        plot(rows, lengths, arguments.results)


if __name__ == "__main__":
    main()
