"""The command line of `mcp`. Standard library only, like `app.grammar.parser`."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

_EPILOG = """A client starts this command and speaks the Model Context Protocol with it on standard input and output.
app/server/mcp/README.md tells how to enter it in common clients."""


@dataclass(frozen=True, kw_only=True)
class McpArguments:
    """The options of `mcp`. Their meaning is in the help text of the command."""

    allow: tuple[Path, ...]
    bundle: Path | None

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "McpArguments":
        """Take the values that argparse has parsed."""
        values = {field.name: getattr(namespace, field.name) for field in fields(cls)}
        return cls(**{**values, "allow": tuple(values["allow"])})


def add_mcp_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mcp` to its parser."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--allow",
        type=Path,
        nargs="*",
        action="extend",
        default=[],
        metavar="FOLDER",
        help="files in these folders may be read, beside those in the folders that the client itself opens",
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="FILE.mcpb",
        help="write a bundle that installs this program in a client with one click, and end",
    )


def add_page_allow_option(parser: argparse.ArgumentParser, *, is_serve: bool = False) -> None:
    """Add the folders that clients of `/mcp` may have read. is_serve: to the command `serve`, not to the page."""
    parser.add_argument(
        "--allow",
        dest="serve_allow" if is_serve else "page_allow",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="other programs may have files in this folder read, by MCP; can be given several times",
    )


def join_allowed(namespace: argparse.Namespace) -> None:
    """Make one list of the folders that stand before and behind `serve`."""
    namespace.page_allow = [*namespace.page_allow, *getattr(namespace, "serve_allow", ())]


def mcp_usage_error(namespace: argparse.Namespace) -> str | None:
    """Return what is wrong with `--allow` before the command, if anything."""
    if namespace.page_allow and namespace.command not in (None, "serve"):
        return f"--allow before {namespace.command} belongs to the page; mcp takes it behind its name"
    return None
