"""The command line of `doctor`. Standard library only, like `app.grammar.parser`."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from app.grammar.values import names

_EPILOG = """The report has no user names, host names or paths, and no names of documents, sessions or own models, so
that it can be attached to a bug report; read it before you do. A check that fails says what to do. The exit code is 0
only if everything that could run here is right."""


@dataclass(frozen=True, kw_only=True)
class DoctorArguments:
    """The options of `doctor`. Their meaning is in the help text of the command."""

    out: Path | None
    """None: a file in the working directory, named after date and time."""
    quick: bool
    only: tuple[str, ...]
    """Empty: all checks."""

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "DoctorArguments":
        """Take the values that argparse has parsed."""
        return cls(out=namespace.out, quick=namespace.quick, only=tuple(namespace.only))


def add_doctor_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `doctor` to its parser."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the report (default: sala-doctor-DATE.md in the working directory)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer comparisons and shorter texts")
    parser.add_argument(
        "--only",
        type=names,
        default=[],
        metavar="NAME[,NAME]",
        help="only these checks, with those that share their process (default: all)",
    )
    parser.add_argument("--json", action="store_true", help="print each check as one JSON object in a line")
