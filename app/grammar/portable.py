"""The options of `export` and `import`. Standard library only."""

import argparse
from pathlib import Path


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `export` behind its session."""
    parser.add_argument("archive", type=Path, metavar="FILE.sala", help="the new file")
    _add_without_state(parser, "leave the model's state out: a far smaller file; what it holds is then read again")


def add_import_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `import`."""
    parser.add_argument("archive", type=Path, metavar="FILE.sala", help="what `export` has written")
    parser.add_argument("--name", dest="new_session", default="", metavar="NEW", help="call the session NEW here")
    _add_without_state(parser, "take only text and conversation, from a sender whose states you do not trust")


def _add_without_state(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--without-state", dest="with_state", action="store_false", help=text)
