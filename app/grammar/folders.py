"""Options of `read` and `remove` that concern changed files. Standard library only."""

import argparse

_YES_HELP = "do not ask before much of the session is read again"
_READ_YES_HELP = "do not ask before an address is fetched, or much of the session is read again"


def add_change_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `read` for folders that have changed since they were read."""
    group = parser.add_argument_group("changed files replace their old version; what stands behind them is read again")
    group.add_argument("--drop-gone", action="store_true", help="take out the texts of files that are gone")
    group.add_argument("--watch", action="store_true", help="go on reading what changes, until Ctrl-C")
    group.add_argument("--yes", action="store_true", help=_READ_YES_HELP)


def add_remove_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `remove`."""
    parser.add_argument("documents", nargs="+", metavar="DOCUMENT", help="name of a document, or the end of its name")
    parser.add_argument("--yes", action="store_true", help=_YES_HELP)


def read_usage_error(namespace: argparse.Namespace) -> str | None:
    """Return what is wrong with the options of `read`, if anything."""
    if namespace.paths:
        return "--watch does not go with --again" if namespace.watch and namespace.again else None
    if not namespace.again:
        return "read needs a PATH, or --again"
    for option in ("watch", "drop_gone"):
        if getattr(namespace, option):
            return f"--{option.replace('_', '-')} needs a PATH"
    return None
