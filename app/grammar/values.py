"""Converters for argparse, and the options of every command that say in which formats a session is read and kept.

A converter checks the text of an option, and its error message says which values are valid.

Standard library only.
"""

import argparse
import re
from collections.abc import Callable

from app.grammar.ranges import SEED

KV_KINDS = ("auto", "bf16", "int8", "fp8")
KV_AT_REST = ("same", "int8")
BOS_CHOICES = ("auto", "on", "off")
THINK_HELP = "think before the answer, or not (default: the model's own way); only for models that can think"
VERBATIM_HELP = "quotations are sentences of the documents, word for word (default: the model's own setting)"
_LENGTH = re.compile(r"(\d+)([KM]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a converter for whole numbers from `low` to `high`, written in decimal digits."""

    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return convert


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a converter for numbers from `low` to `high`."""
    return _number(lambda value: low <= value <= high, f"a number from {low:g} to {high:g}")


def number_above(low: float, high: float, what: str = "a number") -> Callable[[str], float]:
    """Return a converter for numbers above `low` and at most `high`. what: how the error message calls the number."""
    return _number(lambda value: low < value <= high, f"{what} above {low:g} and at most {high:g}")


def seed(text: str) -> int:
    """Convert the seed of a random generator."""
    return whole_number(*SEED)(text)


def lengths(text: str) -> list[int]:
    """Convert comma-separated numbers of tokens, such as "4K,1M". The result is sorted and has no duplicates."""
    converted = []
    for part in text.split(","):
        match = _LENGTH.fullmatch(part.strip().upper())
        length = int(match[1]) * _UNITS[match[2]] if match else 0
        if not 1 << 10 <= length <= 1 << 21:
            raise argparse.ArgumentTypeError(f"{part!r} is not a length from 1K to 2M")
        converted.append(length)
    return sorted(set(converted))


def names(text: str) -> list[str]:
    """Convert comma-separated names."""
    converted = [name.strip() for name in text.split(",") if name.strip()]
    if not converted:
        raise argparse.ArgumentTypeError("no name is given")
    return converted


def not_blank(message: str) -> Callable[[str], str]:
    """Return a converter that refuses blank text with `message`."""

    def convert(text: str) -> str:
        if not text.strip():
            raise argparse.ArgumentTypeError(message)
        return text

    return convert


def _number(is_valid: Callable[[float], bool], expected: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not is_valid(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return convert


def add_format_options(group: "argparse._ArgumentGroup", *, suppress: bool) -> None:
    """Add --kv, --kv-at-rest and --bos, without a default. suppress: so that values before the command stay."""
    default = argparse.SUPPRESS if suppress else None
    group.add_argument(
        "--kv",
        choices=KV_KINDS,
        default=default,
        help="number format of keys and values, in memory and on disk: bf16 is the model's own format, int8 and fp8 "
        "take half the space; what was read in one format is read again for another (default: auto, which is bf16 if "
        "a million tokens fit)",
    )
    group.add_argument(
        "--kv-at-rest",
        choices=KV_AT_REST,
        default=default,
        help="how new sessions keep keys and values on disk: as in memory, or as int8 in half the space, rounded; a "
        "session stays as it was read (default: same)",
    )
    group.add_argument(
        "--bos",
        choices=BOS_CHOICES,
        default=default,
        help="whether a session begins with the token <s>; what was read in one way is read again for another "
        "(default: auto, as the tokenizer's settings ask)",
    )
