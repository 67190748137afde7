"""`models`: the models that are here or can be had, and the longest text that fits this machine with each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from app.grammar.parser import DEFAULT_MODEL, Arguments
from app.wording import count, parameters, size

if TYPE_CHECKING:
    from sala_core.hub.fit import Fit, Machine
    from sala_core.hub.inventory import AvailableModel, LocalModel


def models(arguments: Arguments, folder: Path) -> int:
    """Print the lists. Needs no network. Raises DeviceError for `--device cuda` without a card."""
    from sala_core.hub.fit import this_machine
    from sala_core.hub.inventory import available_models, local_models

    machine = this_machine(arguments.device)
    here = local_models(machine, _names(arguments, folder), kv=arguments.kv_kind)
    available = available_models(machine, here, kv=arguments.kv_kind)
    if arguments.json:
        print(json.dumps(models_object(machine, here, available), indent=2))
    else:
        print("\n".join(models_lines(machine, here, available)))
    return 0


def _names(arguments: Arguments, folder: Path) -> list[str]:
    """The models that the command line names, then those that sessions of the library were read with."""
    named = [str(path) for path in arguments.paths]
    if arguments.model != DEFAULT_MODEL:
        named.append(arguments.model)
    return list(dict.fromkeys([*named, *_models_of_sessions(folder)]))


def _models_of_sessions(folder: Path) -> list[str]:
    if not (folder / "library.db").is_file():
        return []
    from sala_core.store.library import Library

    with closing(Library.open(folder)) as library:
        return sorted({row.model for row in library.sessions() if row.model})


def models_object(machine: Machine, here: list[LocalModel], available: list[AvailableModel]) -> dict[str, object]:
    """Return the JSON object of the lists."""
    return {
        "machine": asdict(machine),
        "here": [{**asdict(model), "folder": str(model.folder)} for model in here],
        "available": [asdict(model) for model in available],
    }


def models_lines(machine: Machine, here: list[LocalModel], available: list[AvailableModel]) -> Iterator[str]:
    """Yield the lines of the lists."""
    yield f"This machine: {machine.name}, {size(machine.total_bytes)} of memory, {size(machine.free_bytes)} free"
    if machine.note:
        yield f"  The card is not used: {machine.note}"
    yield "\nHere:"
    for model in here:
        yield from _local_lines(model)
    yield "\nTo be had:"
    for published in available:
        yield from _available_lines(published, machine)


def _local_lines(model: LocalModel) -> Iterator[str]:
    facts = [
        f"{parameters(model.num_parameters)} parameters" if model.num_parameters else "",
        model.format,
        size(model.num_bytes) if model.num_bytes else "",
        model.status,
    ]
    yield f"  {model.name}: {', '.join(fact for fact in facts if fact)}"
    if model.problem:
        yield f"    {model.problem}"
    if model.tokenizer:
        yield f"    tokenizer: {model.tokenizer}"
    if model.fit is not None:
        yield f"    {fit_text(model.fit)}"
    if model.source == "cache" and model.status != "missing":
        yield f"    in {model.folder}"


def _available_lines(model: AvailableModel, machine: Machine) -> Iterator[str]:
    from sala_core.hub.fit import speed_note

    here = " (is here)" if model.is_here else ""
    yield (
        f"  {model.name}{here}: {parameters(model.num_parameters)} parameters, bf16, {size(model.num_bytes)}, "
        f"license {model.license}"
    )
    if not model.is_here:
        yield f"    get it: {model.command}"
    yield f"    in bf16: {fit_text(model.fit)}"
    yield f"    in int4, after python3 launch.py quantize {model.name} DIR: {fit_text(model.fit_int4)}"
    if note := speed_note(machine, model.num_parameters):
        yield f"    {note}"


def fit_text(fit: Fit) -> str:
    """Return the longest text that fits, with the number format of its keys and values."""
    weights = f"{size(fit.weights_bytes)} of weights in memory"
    if not fit.max_tokens:
        return f"does not fit: even a short text needs {size(fit.needed_bytes)} ({weights})"
    return (
        f"texts of up to {count(fit.max_tokens)} tokens with {fit.kv} keys and values, in {size(fit.needed_bytes)} "
        f"({weights})"
    )
