"""Options of `read` that say which files are read, and where from. Standard library only."""

import argparse
import os
import re
from pathlib import Path

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|git@[\w.-]+:")
_PASSWORD_HELP = "read the password of encrypted PDFs from standard input (first line); else a terminal asks"
_INCLUDE = "also read what matches, although it is generated or ignored; patterns are those of .gitignore"


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add the paths and addresses of `read`, and the options that choose among the files of a folder."""
    text = "a file, a folder, an archive, or an http(s):// address of a page, a file or a git repository"
    parser.add_argument("paths", nargs="*", type=path_or_address, metavar="PATH", help=text)
    group = parser.add_argument_group("files of a folder or archive")
    group.add_argument(
        "--all", dest="everything", action="store_true", help="also read generated, minified and ignored files"
    )
    group.add_argument("--include", action="append", default=[], metavar="GLOB", help=_INCLUDE)
    group.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="leave out what matches")
    parser.add_argument("--password-stdin", action="store_true", help=_PASSWORD_HELP)


def path_or_address(text: str) -> Path | str:
    """Return an address as it is, and anything else as a path. What exists here is a path."""
    return text if _ADDRESS.match(text) and not os.path.lexists(text) else Path(text)


def split_sources(namespace: argparse.Namespace) -> None:
    """Move the addresses among `paths` to `addresses`."""
    sources = getattr(namespace, "paths", None) or []
    namespace.addresses = [source for source in sources if isinstance(source, str)]
    namespace.paths = [source for source in sources if not isinstance(source, str)]


def files_usage_error(namespace: argparse.Namespace) -> str | None:
    """Return what is wrong with the files that `read` is given, if anything. `split_sources` comes before."""
    if namespace.addresses and namespace.watch:
        return "--watch follows files and folders, not addresses"
    return None
