"""Files that came through the browser and that nobody has decided about yet: kept on disk until somebody does."""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sala_core.disk.files import write_file
from sala_core.errors import LibraryError

OFFERED = "offered"
"""Folder below the library's folder of uploads."""
_RECORD = "offer.json"
_FILES = "content"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Files that wait for a decision. session_id: to read them into; "" for a new session, called `name`. tops: what
    was dropped, relative to `folder`."""

    id: str
    folder: Path
    session_id: str
    name: str
    tops: tuple[str, ...]

    @property
    def paths(self) -> list[Path]:
        """What was dropped."""
        return [self.folder / top for top in self.tops]


class Offers:
    """The offers of one library."""

    def __init__(self, uploads: Path) -> None:
        """uploads: the library's folder of uploads."""
        self._home = uploads / OFFERED

    def put(self, offer_id: str, folder: Path, paths: Sequence[Path], session_id: str, name: str) -> Offer:
        """Take over a folder.

        Args:
            offer_id: a new id.
            folder: is moved.
            paths: what was dropped, inside of it.
            session_id, name: as in `Offer`.

        Raises LibraryError.
        """
        place = self._home / offer_id
        tops = tuple(path.relative_to(folder).as_posix() for path in paths)
        offer = Offer(id=offer_id, folder=place / _FILES, session_id=session_id, name=name, tops=tops)
        try:
            place.mkdir(mode=0o700, parents=True)
            shutil.move(folder, offer.folder)
            facts = {key: value for key, value in asdict(offer).items() if key != "folder"}
            write_file(place / _RECORD, [memoryview(json.dumps(facts).encode())])
        except OSError as error:
            raise LibraryError(f"the files cannot be kept in {place}: {error.strerror or error}") from error
        return offer

    def all(self) -> list[Offer]:
        """Every offer that is on disk."""
        found = []
        for record in sorted(self._home.glob(f"*/{_RECORD}")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                raw = json.loads(record.read_bytes())
                tops = tuple(map(str, raw["tops"]))
                found.append(
                    Offer(
                        id=record.parent.name,
                        folder=record.parent / _FILES,
                        session_id=str(raw["session_id"]),
                        name=str(raw["name"]),
                        tops=tops,
                    )
                )
        return found

    def drop(self, offer_id: str) -> None:
        """Remove an offer and what is left of its files."""
        shutil.rmtree(self._home / offer_id, ignore_errors=True)
