"""The grammar of `bench`. Standard library only, as `app.grammar.parser`."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from app.grammar.values import lengths, names, number_above, whole_number

SIZES = ("9b", "embedded")
WEIGHTS = ("int4", "bf16")
PARTS = ("sala", "full", "saving", "speculation")
_EPILOG = """Rows are added to DIR/kernels-HARDWARE.csv or DIR/model-HARDWARE.csv as they are measured; the plots are
drawn at the end. Stopped with Ctrl-C, both are kept for what was measured until then."""


@dataclass(frozen=True, kw_only=True)
class BenchArguments:
    """The options of `bench`; their meaning is in its help."""

    what: str
    size: str | None
    """None: the largest that fits the device, 9b on a card and embedded on a CPU."""
    lengths: tuple[int, ...]
    """Empty: what suits the size."""
    weights: str | None
    kv: str
    out: Path | None
    only: tuple[str, ...]
    runs: int | None
    new_tokens: int | None
    patience: float

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "BenchArguments":
        """What the parser found."""
        values = {field.name: getattr(namespace, field.name) for field in fields(cls)}
        return cls(**{**values, "lengths": tuple(values["lengths"]), "only": tuple(values["only"])})


def add_bench_options(parser: argparse.ArgumentParser) -> None:
    """Add the positional and the options to the command's parser."""
    parser.epilog = _EPILOG
    parser.add_argument("what", choices=("kernels", "model"), help="single operations, or whole models")
    parser.add_argument(
        "--size", choices=SIZES, help="of the models, weights random (default: 9b on a card, embedded on a CPU)"
    )
    parser.add_argument(
        "--lengths",
        type=lengths,
        default=[],
        metavar="N[,N]",
        help="tokens read, as 64K,256K,1M (default: 64K to 1M in doublings; embedded on a CPU 4K to 256K)",
    )
    parser.add_argument(
        "--weights", choices=WEIGHTS, help="of both models (default: int4; embedded: as they are stored)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of results (default: assets/benchmarks)")
    parser.add_argument(
        "--only",
        type=names,
        default=[],
        metavar="NAME[,NAME]",
        help=f"of a model's parts ({', '.join(PARTS)}), or of the operations (default: all)",
    )
    parser.add_argument(
        "--runs",
        type=whole_number(1, 1 << 16),
        metavar="N",
        help="of each figure (default: 3, and 1 where a run takes over 20 s)",
    )
    parser.add_argument(
        "--new-tokens", type=whole_number(1, 1 << 16), metavar="N", help="decoded (default: 1024; on a CPU 64)"
    )
    parser.add_argument(
        "--patience",
        type=number_above(0, 10_000, "a number of minutes"),
        default=10.0,
        metavar="MINUTES",
        help="leave out a length that would take longer than this, going by the one before (default: 10)",
    )
