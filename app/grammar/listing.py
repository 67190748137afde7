"""The options of `sessions` and `delete` that concern the bin. Standard library only."""

import argparse


def add_bin_options(parser: argparse.ArgumentParser) -> None:
    """Add the option of `sessions`."""
    parser.add_argument("--bin", action="store_true", help="list the deleted sessions that can still be brought back")


def add_delete_options(parser: argparse.ArgumentParser) -> None:
    """Add the option of `delete`."""
    help_text = "delete for good, with what no other session uses; also a session that is in the bin"
    parser.add_argument("--now", action="store_true", help=help_text)
