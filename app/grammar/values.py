"""What an option's text may be: converters for argparse, whose errors say what was expected. Standard library only."""

import argparse
import re
from collections.abc import Callable

VERBATIM_HELP = "quotations are sentences of the documents, word for word (default: as the model has it)"
_LENGTH = re.compile(r"(\d+)([KM]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Digits alone, from `low` to `high`."""

    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return convert


def number(low: float, high: float) -> Callable[[str], float]:
    """Any number from `low` to `high`."""
    return _number(lambda value: low <= value <= high, f"a number from {low:g} to {high:g}")


def number_above(low: float, high: float, what: str = "a number") -> Callable[[str], float]:
    """Any number above `low`, up to `high`. what: as which it is told of."""
    return _number(lambda value: low < value <= high, f"{what} above {low:g} and at most {high:g}")


def seed(text: str) -> int:
    """What random generators take."""
    return whole_number(0, 2**63 - 1)(text)


def lengths(text: str) -> list[int]:
    """Numbers of tokens with commas between, "4K,1M"; in order, each once."""
    found = []
    for part in text.split(","):
        match = _LENGTH.fullmatch(part.strip().upper())
        length = int(match[1]) * _UNITS[match[2]] if match else 0
        if not 1 << 10 <= length <= 1 << 21:
            raise argparse.ArgumentTypeError(f"{part!r} is not a length from 1K to 2M")
        found.append(length)
    return sorted(set(found))


def names(text: str) -> list[str]:
    """Names with commas between."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError("no name is given")
    return found


def not_blank(message: str) -> Callable[[str], str]:
    """Any text but a blank one, which is refused with this message."""

    def convert(text: str) -> str:
        if not text.strip():
            raise argparse.ArgumentTypeError(message)
        return text

    return convert


def _number(is_right: Callable[[float], bool], expected: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not is_right(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return convert
