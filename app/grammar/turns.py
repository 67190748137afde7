"""The options that concern the turns of a conversation: of `ask`, `fork` and `turns`. Standard library only."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from app.grammar.values import not_blank, whole_number

_turn = whole_number(1, 1_000_000)
LAST = 0
"""Stands for the last turn."""


@dataclass(frozen=True, kw_only=True)
class TurnsArguments:
    """What `turns` is to change; all None to list the turns. Turns are counted from 1."""

    delete: int | None = None
    previous: int | None = None
    next: int | None = None

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> Self:
        """Collect the options."""
        return cls(delete=namespace.delete_turn, previous=namespace.previous, next=namespace.next)


def add_version_options(parser: argparse.ArgumentParser) -> None:
    """Add the options by which `ask` makes another version of a turn."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--edit", type=_turn, metavar="N", help="ask QUESTION in the place of turn N; `turns` lists them"
    )
    group.add_argument(
        "--regenerate", nargs="?", const=LAST, type=_turn, metavar="N", help="answer turn N once more (default: last)"
    )


def version_usage_error(namespace: argparse.Namespace) -> str | None:
    """Return what is wrong with the options of `ask` for another version, if anything."""
    if namespace.regenerate is not None and (namespace.question or namespace.questions):
        return "--regenerate asks the question of the turn once more; to ask another one use --edit N QUESTION"
    if namespace.edit is not None and namespace.questions:
        return "--edit N takes one QUESTION, no list of them"
    return None


def add_at_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of `fork`."""
    parser.add_argument("--at", type=_turn, metavar="N", help="copy only up to turn N, with it; `turns` lists them")


def parse_with_question(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. The QUESTION of `ask` may stand behind options, where argparse does not find it."""
    namespace, rest = parser.parse_known_args(argv)
    if rest and namespace.command == "ask" and namespace.question is None and not rest[0].startswith("-"):
        namespace.question = rest.pop(0)
        if not namespace.question.strip():
            parser.error("the question is empty")
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return namespace


def add_turns_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `turns`."""
    parser.add_argument("session", type=not_blank("a session needs a name"), metavar="SESSION", help="its name")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--delete", dest="delete_turn", type=_turn, metavar="N", help="delete turn N; others stay")
    group.add_argument("--previous", type=_turn, metavar="N", help="show the version before this one of turn N")
    group.add_argument("--next", type=_turn, metavar="N", help="show the version after this one of turn N")
    parser.add_argument("--json", action="store_true", help="print a JSON list of the turns")
