"""The options of `verify`, `repair` and `quota`. Standard library only."""

import argparse
import re

OFF = "off"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB)", re.IGNORECASE)
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def quota_bytes(text: str) -> int | None:
    """Convert a size such as "20GB" to bytes, and "off" to None."""
    if text.lower() == OFF:
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a size, such as 20GB or 500MB, nor off")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def add_verify_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `verify`, which are also told from the presence of --model."""
    parser.add_argument("session", nargs="?", default="", metavar="SESSION", help="check only what this session needs")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def add_quota_options(parser: argparse.ArgumentParser) -> None:
    """Add the argument of `quota`."""
    parser.add_argument(
        "quota",
        nargs="?",
        type=quota_bytes,
        default=0,
        metavar="SIZE",
        help="such as 20GB, or off; without it the present quota is shown",
    )


def verify_usage_error(namespace: argparse.Namespace, *, model_given: bool) -> str | None:
    """Return what is wrong with the options of `verify`, if anything."""
    if model_given and namespace.session:
        return "verify checks a SESSION or, with --model, a model's files, not both"
    if model_given and namespace.json:
        return "verify --json is for the library, not for a model's files"
    return None
