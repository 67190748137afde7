"""The grammar of `bench`. Standard library only, as `app.arguments`."""

import argparse
import re
from dataclasses import dataclass, fields
from pathlib import Path

SIZES = ("9b", "embedded")
WEIGHTS = ("int4", "bf16")
PARTS = ("sala", "full", "saving", "speculation")
_LENGTH = re.compile(r"(\d+)([KM]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}
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
        type=_lengths,
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
        type=_names,
        default=[],
        metavar="NAME[,NAME]",
        help=f"of a model's parts ({', '.join(PARTS)}), or of the operations (default: all)",
    )
    parser.add_argument(
        "--runs", type=_count, metavar="N", help="of each figure (default: 3, and 1 where a run takes over 20 s)"
    )
    parser.add_argument("--new-tokens", type=_count, metavar="N", help="decoded (default: 1024; on a CPU 64)")
    parser.add_argument(
        "--patience",
        type=_minutes,
        default=10.0,
        metavar="MINUTES",
        help="leave out a length that would take longer than this, going by the one before (default: 10)",
    )


def _lengths(text: str) -> list[int]:
    lengths = []
    for part in text.split(","):
        found = _LENGTH.fullmatch(part.strip().upper())
        number = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 1 << 10 <= number <= 1 << 21:
            raise argparse.ArgumentTypeError(f"{part!r} is not a length from 1K to 2M")
        lengths.append(number)
    return sorted(set(lengths))


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("no name is given")
    return names


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {1 << 16}")
    return int(text)


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 10_000.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes")
    return value
