"""Addresses given to `read`: say what will be fetched, ask, and fetch it into a private folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.open_session import StopSignals
from app.grammar.parser import Arguments
from app.wording import plural, size
from sala_core.errors import FetchError

if TYPE_CHECKING:
    from sala_core.ingest.fetch.address import Address
    from sala_core.ingest.fetch.web import FetchLimits


@contextmanager
def fetched(arguments: Arguments, folder: Path) -> Iterator[Arguments | None]:
    """Fetch the addresses of a command line, and give it with what was fetched as paths.

    Nothing is fetched before the user has agreed, on a terminal or with `--yes`; None if the user did not. What was
    fetched is removed after the block. folder: of the library. Raises FetchError.
    """
    if not arguments.addresses:
        yield arguments
        return
    from sala_core.ingest.fetch.address import parse_address
    from sala_core.ingest.fetch.web import FetchLimits
    from sala_core.ingest.scratch import private_folder

    limits = FetchLimits()
    addresses = [parse_address(text) for text in dict.fromkeys(arguments.addresses)]
    print(announcement(addresses, limits), flush=True)
    if not _is_agreed(arguments):
        print("Nothing was fetched.", flush=True)
        yield None
        return
    with private_folder(folder / "uploads" / "incoming") as place:
        with StopSignals() as stop:
            roots = [_fetch(address, place, limits, stop) for address in addresses]
        yield replace(arguments, paths=(*arguments.paths, *dict.fromkeys(roots)))


def announcement(addresses: list[Address], limits: FetchLimits) -> str:
    """Write what will be fetched."""
    kinds = {"page": "a page or file", "git": "a git repository: its latest files, without history"}
    lines = [f"  {address.url} ({kinds[address.kind]}, at most {size(limits.max_bytes)})" for address in addresses]
    return "\n".join(["To be fetched from the network:", *lines])


def _is_agreed(arguments: Arguments) -> bool:
    if arguments.yes:
        return True
    if not sys.stdin.isatty():
        raise FetchError("an address is fetched only when you agree, and this is no terminal; add --yes")
    print("Fetch it? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def _fetch(address: Address, place: Path, limits: FetchLimits, stop: StopSignals) -> Path:
    from sala_core.ingest.fetch.git import fetch_repository
    from sala_core.ingest.fetch.web import fetch_page

    if address.kind == "git":
        found = fetch_repository(address, place, limits, stop.is_set)
    else:
        found = fetch_page(address, place, limits, lambda note: print(note, flush=True), stop.is_set)
    print(f"Fetched {found.url}: {plural(found.num_files, 'file')}, {size(found.num_bytes)}", flush=True)
    return found.root
