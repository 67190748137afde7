"""Poisoned memory: rows that hold no token, and memory that was never written, must change no result."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from sala_kernels import has_triton

from sala_core.doctor.records import Examination, Figure, Outcome, failed, ok

if TYPE_CHECKING:
    from sala_core.doctor.poisoned_memory import PoisonResult

_BUG = "attach this report to a bug report; until then use --kv bf16, or --device cpu"


def poisoned_memory(examination: Examination) -> Iterator[Outcome]:
    """The check "poisoned memory": readings, decoding and a look-up of a small random model, for each KV format.

    On a card with its kernels, in float32 and bfloat16. On a CPU with the implementations that a CPU uses, and with the
    kernels in Triton's interpreter unless the examination is quick.
    """
    on_card = examination.device != "cpu" and torch.cuda.is_available()
    interpreted = not on_card and has_triton() and not examination.quick
    if interpreted:
        os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported
    from sala_core.doctor.poisoned_memory import check_poisoned_memory

    device = torch.device("cuda" if on_card else "cpu")
    results: list[tuple[str, PoisonResult]] = [
        ("the device's kernels", result) for result in check_poisoned_memory(device, backend="auto")
    ]
    if on_card:
        more = check_poisoned_memory(device, backend="auto", dtype=torch.bfloat16)
        results += [("the device's kernels in bfloat16", result) for result in more]
    if interpreted:
        more = check_poisoned_memory(device, backend="triton")
        results += [("the kernels in Triton's interpreter", result) for result in more]
    yield poison_outcome(results)


def poison_outcome(results: "list[tuple[str, PoisonResult]]") -> Outcome:
    """The outcome of (where it was computed, result) pairs."""
    name = "poisoned memory"
    figures: dict[str, Figure] = {"comparisons": len(results)}
    for where in dict.fromkeys(where for where, _ in results):
        for kv in dict.fromkeys(result.kv for _, result in results):
            own = [result for place, result in results if (place, result.kv) == (where, kv)]
            worst = max(own, key=lambda result: (not result.good, result.error / result.limit))
            error = f"{worst.error:.1e} of {worst.limit:.1e}"
            figures[f"{where}, keys and values {kv}"] = f"largest error {error} ({worst.step}, {len(own)} in all)"
    bad = [(where, result) for where, result in results if not result.good]
    if not bad:
        return ok(name, figures)
    parts = [
        f"{where}, keys and values {result.kv}, {result.step}: "
        + (f"error {result.error:.1e} of {result.limit:.1e}" if result.finite else "not finite")
        for where, result in bad[:5]
    ]
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    return failed(name, f"results depend on memory that was never written: {'; '.join(parts)}{more}", _BUG, figures)
