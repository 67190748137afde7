"""The options that name an engine elsewhere, and the command line of `engines`. Standard library only."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.grammar.values import not_blank, whole_number

SENDS = ("auto", "passages", "text")
MIN_CONTEXT, MAX_CONTEXT = 512, 100_000_000
_NAMES = ("engine", "engine_model", "engine_key_file", "engine_ca_file", "engine_context", "engine_sends")


@dataclass(frozen=True, kw_only=True)
class EngineArguments:
    """The options. url: "" for the model here."""

    url: str = ""
    model: str = ""
    key_file: Path | None = None
    ca_file: Path | None = None
    context: int | None = None
    sends: Literal["auto", "passages", "text"] = "auto"

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "EngineArguments":
        """Take the values that argparse has parsed; the defaults where the command has no such options."""
        values = {name.removeprefix("engine_"): getattr(namespace, name, None) for name in _NAMES}
        given = {"url" if name == "engine" else name: value for name, value in values.items() if value is not None}
        return cls(**given)


def add_engine_options(parser: argparse.ArgumentParser, *, suppress: bool = False) -> None:
    """Add the options. suppress: give them no default, so that values before the command stay."""
    group = parser.add_argument_group("an engine elsewhere writes the answers")
    default = argparse.SUPPRESS if suppress else None
    address = not_blank("an engine needs an address")
    group.add_argument(
        "--engine",
        type=address,
        metavar="URL",
        default=default,
        help="a server with an OpenAI-compatible API, such as http://127.0.0.1:11434; `engines` finds those here",
    )
    group.add_argument(
        "--engine-model",
        type=not_blank("a model needs a name"),
        metavar="NAME",
        default=default,
        help="the model there (default: the only one that it serves)",
    )
    group.add_argument(
        "--engine-key-file",
        type=Path,
        metavar="FILE",
        default=default,
        help="a file that holds the server's key, readable by you alone",
    )
    group.add_argument(
        "--engine-ca-file",
        type=Path,
        metavar="FILE",
        default=default,
        help="a file with the certificate (PEM) that vouches for the server, if the system does not know it",
    )
    group.add_argument(
        "--engine-context",
        type=whole_number(MIN_CONTEXT, MAX_CONTEXT),
        metavar="N",
        default=default,
        help="its context in tokens, if it does not tell it, or to send less",
    )
    group.add_argument(
        "--engine-sends",
        choices=SENDS,
        default=default,
        help="passages that the model here finds, the whole text, or (auto) the whole text if it fits",
    )


def add_engines_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `engines`."""
    parser.add_argument("--json", action="store_true", help="print a JSON list")


def engine_usage_error(namespace: argparse.Namespace) -> str | None:
    """Return what is wrong with the options, if anything. Only the page and `ask` have them."""
    given = [name for name in _NAMES if getattr(namespace, name, None) is not None]
    if not given:
        return None
    option = "--" + given[0].replace("_", "-")
    if namespace.command not in (None, "ask"):
        return f"{option} belongs to the page and to ask, not to {namespace.command}"
    if "engine" not in given:
        return f"{option} needs --engine URL"
    ignored = [name for name in ("verbatim", "thinking_budget") if getattr(namespace, name, None) is not None]
    if ignored:
        return f"--{ignored[0].replace('_', '-')} belongs to the model here; an engine elsewhere has no such setting"
    return None
