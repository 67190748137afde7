"""Files that programs have sent: kept beside the library until they are deleted, and read into sessions from there."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from app.server.api.errors import ApiError
from app.server.api.evidence import FILE_START
from sala_core.disk.files import new_id

FOLDER = "api-files"
"""Folder inside the library, for its owner alone."""
_RECORD = "record.json"
_ID = re.compile(r"[0-9a-f]{32}")
_MAX_NAME_CHARS = 150


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file. jobs: session -> the job that has read it there. `id` is without FILE_START."""

    id: str
    name: str
    num_bytes: int
    purpose: str
    created_at: float
    jobs: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The object `file`."""
        return {
            "id": FILE_START + self.id,
            "object": "file",
            "bytes": self.num_bytes,
            "created_at": int(self.created_at),
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "expires_at": None,
            "status_details": None,
        }


class StoredFiles:
    """The files of one library. Safe to call from any thread."""

    def __init__(self, library: Path) -> None:
        """library: the library's folder."""
        self._folder = library / FOLDER

    def add(self, name: str, purpose: str, source: IO[bytes]) -> StoredFile:
        """Keep a file. name: as it was sent; only its last part counts. purpose: is kept, and means nothing here."""
        file_id = new_id()
        folder = self._folder / file_id
        shown = safe_name(name)
        try:
            folder.mkdir(mode=0o700, parents=True)
            with (folder / shown).open("xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            num_bytes = (folder / shown).stat().st_size
            added = StoredFile(id=file_id, name=shown, num_bytes=num_bytes, purpose=purpose, created_at=time.time())
            self._write(added)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ApiError(
                f"the file cannot be kept ({error.strerror or error}); free some space",
                status=507,
                kind="server_error",
                code="disk_full",
            ) from error
        return added

    def find(self, file_id: str) -> StoredFile | None:
        """The file with this id, with or without FILE_START; None if there is none."""
        plain = file_id.removeprefix(FILE_START)
        if not _ID.fullmatch(plain):
            return None
        try:
            return StoredFile(**json.loads((self._folder / plain / _RECORD).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def all(self) -> list[StoredFile]:
        """All files, the newest first."""
        names = os.listdir(self._folder) if self._folder.is_dir() else []
        found = [each for name in names if (each := self.find(name)) is not None]
        return sorted(found, key=lambda each: (each.created_at, each.id), reverse=True)

    def path(self, stored: StoredFile) -> Path:
        """Where the file is."""
        return self._folder / stored.id / stored.name

    def note_job(self, stored: StoredFile, session_id: str, job_id: str) -> None:
        """Keep which job reads a file into a session; an empty one forgets it."""
        jobs = {**stored.jobs, session_id: job_id}
        kept = {session: job for session, job in jobs.items() if job}
        self._write(StoredFile(**{**asdict(stored), "jobs": kept}))

    def of_session(self, session_id: str) -> Iterator[StoredFile]:
        """The files that were read, or are being read, into a session."""
        return (each for each in self.all() if session_id in each.jobs)

    def delete(self, stored: StoredFile) -> None:
        """Delete a file. What was read of it stays in its sessions."""
        with suppress(OSError):
            shutil.rmtree(self._folder / stored.id)

    def copy_to(self, folder: Path, stored: StoredFile) -> Path:
        """Put a file into a folder, without a second copy of its bytes where that is possible. Raises OSError."""
        target = folder / stored.name
        if target.exists():
            target = folder / f"{stored.id[:8]}-{stored.name}"
        try:
            os.link(self.path(stored), target)
        except OSError:
            shutil.copyfile(self.path(stored), target)
        return target

    def _write(self, stored: StoredFile) -> None:
        record = self._folder / stored.id / _RECORD
        temporary = record.with_name(f"{_RECORD}.{secrets.token_hex(4)}")
        temporary.write_text(json.dumps(asdict(stored)), encoding="utf-8")
        temporary.replace(record)


def safe_name(name: str) -> str:
    """A file's name without folders, control characters and a dot at its beginning."""
    last = re.split(r"[/\\]", name)[-1]
    shown = "".join(c for c in last if c.isprintable()).strip().lstrip(".")
    stem, dot, suffix = shown.rpartition(".")
    cut = f"{stem[: _MAX_NAME_CHARS - len(suffix)]}{dot}{suffix}" if len(suffix) < 20 else shown[:_MAX_NAME_CHARS]
    return cut if cut and cut != _RECORD else "file.txt"
