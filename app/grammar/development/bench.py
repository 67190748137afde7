"""The command line of `bench`. Standard library only, like `app.grammar.parser`."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from app.grammar.values import lengths, names, number_above, whole_number

SIZES = ("9b", "embedded")
WEIGHTS = ("int4", "bf16")
PARTS = ("sala", "full", "saving", "speculation")
_EPILOG = """Every row is added to DIR/kernels-HARDWARE.csv or DIR/model-HARDWARE.csv (of the 9B size on a CPU
DIR/model-9b-HARDWARE.csv) as soon as it is measured. The plots are drawn at the end. After Ctrl-C the rows measured so
far are kept and plotted."""


@dataclass(frozen=True, kw_only=True)
class BenchArguments:
    """The options of `bench`. Their meaning is in the help text of the command."""

    what: str
    size: str | None
    """None: 9b on a card, embedded on a CPU."""
    lengths: tuple[int, ...]
    """Empty: the default lengths of the device."""
    weights: str | None
    kv: str
    out: Path | None
    only: tuple[str, ...]
    runs: int | None
    new_tokens: int | None
    patience: float

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "BenchArguments":
        """Take the values that argparse has parsed."""
        values = {field.name: getattr(namespace, field.name) for field in fields(cls)}
        return cls(**{**values, "lengths": tuple(values["lengths"]), "only": tuple(values["only"])})


def add_bench_options(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument and options of `bench` to its parser."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "what",
        choices=("kernels", "model", "peers"),
        help="single operations; whole models; or the embedded model beside llama.cpp, on a CPU, with 4K to 64K tokens "
        "(extra peers)",
    )
    parser.add_argument(
        "--size",
        choices=SIZES,
        help="size of both models (default: 9b, random weights, on a card; embedded on a CPU)",
    )
    parser.add_argument(
        "--lengths",
        type=lengths,
        default=[],
        metavar="N[,N]",
        help="prompt lengths in tokens, as 64K,256K,1M (default: 64K to 1M in powers of two; on a CPU 4K to 256K, "
        "or 1K and 8K for the size 9b)",
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        help="weights of both models (default: int4; embedded: bf16, on a CPU float32)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of results (default: assets/benchmarks; of an installed package bench-results)",
    )
    _add_run_options(parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        type=names,
        default=[],
        metavar="NAME[,NAME]",
        help=f"only these parts of a model ({', '.join(PARTS)}), or these operations (default: all)",
    )
    parser.add_argument(
        "--runs",
        type=whole_number(1, 1 << 16),
        metavar="N",
        help="runs per measurement (default: 3, or fewer if they take over 20 s)",
    )
    parser.add_argument(
        "--new-tokens",
        type=whole_number(1, 1 << 16),
        metavar="N",
        help="tokens to decode (default: 1024; on a CPU 64, or 16 for the size 9b)",
    )
    parser.add_argument(
        "--patience",
        type=number_above(0, 10_000, "a number of minutes"),
        default=10.0,
        metavar="MINUTES",
        help="skip a length that would take longer, as estimated from the length before (default: 10)",
    )
