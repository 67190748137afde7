"""Digests of a model's weight files, kept between starts: 19 GB of unchanged files are not read again each time.

A record in the user's cache folder belongs to one list of weight files. It holds each file's identity (real path, size,
times, inode) and digest, and the fingerprints that were computed from these bytes. It counts only while every identity
is the same. A file that was written less than two seconds before it was read is not recorded, because a second change
within the resolution of the file system's times would then leave its identity as it is.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
import xxhash

from sala_core.assets import APP_NAME
from sala_core.disk.files import write_file
from sala_core.errors import CheckpointError, LibraryError

SETTLED_NS = 2_000_000_000
"""How old the last change of a file must be, in nanoseconds. FAT keeps times to two seconds."""

_FORMAT = 1
_READ_BYTES = 16 << 20
_MAX_RECORDS = 64
_MAX_FINGERPRINTS = 64
_DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class FileIdentity:
    """What changes when a file is written or replaced.

    ctime_ns: on POSIX the time of the last change, which no program can set back; on Windows the time of creation.
    """

    path: str
    num_bytes: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, file: Path) -> "FileIdentity":
        """The identity of the file that a path leads to. Raises CheckpointError."""
        try:
            real = file.resolve(strict=True)
            stat = real.stat()
        except OSError as error:
            raise _unreadable(file, error) from error
        return cls(
            path=str(real),
            num_bytes=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            ctime_ns=stat.st_ctime_ns,
            device=stat.st_dev,
            inode=stat.st_ino,
        )


@dataclass(frozen=True, kw_only=True)
class WeightRecord:
    """What is known of a list of weight files. digests: xxh3-128 of each file. fingerprints: digest of the facts that
    a fingerprint was made with -> fingerprint. recorded_at: seconds since 1970."""

    files: tuple[FileIdentity, ...]
    digests: tuple[str, ...]
    recorded_at: float
    fingerprints: Mapping[str, str] = field(default_factory=dict)


def cache_folder() -> Path:
    """The folder of the records."""
    return platformdirs.user_cache_path(APP_NAME, appauthor=False) / "weights"


def digest_weights(facts: bytes, files: Sequence[Path]) -> str:
    """xxh3-128 of `facts` and of the bytes of all files, in order; from the record where that still holds.

    Raises CheckpointError for a file that cannot be read.
    """
    before = identities(files)
    record, key = read_record(files), xxhash.xxh3_128_hexdigest(facts)
    current = record is not None and record.files == before
    if record is not None and current and key in record.fingerprints:
        return record.fingerprints[key]
    started, whole = time.time_ns(), xxhash.xxh3_128(facts)
    digests = tuple(digest_file(file, whole.update) for file in files)
    known = dict(record.fingerprints) if record is not None and current and record.digests == digests else {}
    write_record(files, before, digests, started_ns=started, fingerprints={**known, key: whole.hexdigest()})
    return whole.hexdigest()


def identities(files: Sequence[Path]) -> tuple[FileIdentity, ...]:
    """The identity of each file. Raises CheckpointError."""
    return tuple(FileIdentity.of(file) for file in files)


def digest_file(file: Path, *others: Callable[[bytes], object]) -> str:
    """xxh3-128 of a file's bytes, hexadecimal. others: are called with each piece. Raises CheckpointError."""
    digest = xxhash.xxh3_128()
    try:
        with file.open("rb", buffering=0) as stream:
            while data := stream.read(_READ_BYTES):
                digest.update(data)
                for other in others:
                    other(data)
    except OSError as error:
        raise _unreadable(file, error) from error
    return digest.hexdigest()


def read_record(files: Sequence[Path]) -> WeightRecord | None:
    """The record of these files, of whatever identity; None if there is none, or a damaged one."""
    try:
        stored = json.loads(_record_file(files).read_text(encoding="utf-8"))
        if stored["checksum"] != _checksum(stored["record"]):
            return None
        raw = stored["record"]
        record = WeightRecord(
            files=tuple(FileIdentity(**entry) for entry in raw["files"]),
            digests=tuple(raw["digests"]),
            recorded_at=float(raw["recorded_at"]),
            fingerprints=dict(raw["fingerprints"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    digests = [*record.digests, *record.fingerprints.values()]
    valid = len(record.files) == len(record.digests) == len(files)
    return (
        record if valid and all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in digests) else None
    )


def write_record(
    files: Sequence[Path],
    before: tuple[FileIdentity, ...],
    digests: tuple[str, ...],
    *,
    started_ns: int,
    fingerprints: Mapping[str, str] | None,
) -> bool:
    """Keep what was read, unless a file may have changed meanwhile, or may change without a trace.

    A record of the same bytes that another process has written meanwhile is added to. A folder that cannot be written
    costs time at the next start, nothing else. Returns whether the record was written.

    Args:
        files: the weight files.
        before: their identities before they were read.
        digests: of each file.
        started_ns: when the first one was opened, nanoseconds since 1970.
        fingerprints: digest of facts -> fingerprint. None drops all that are known.
    """
    settled = all(started_ns - max(each.mtime_ns, each.ctime_ns) >= SETTLED_NS for each in before)
    if not settled or identities(files) != before:
        return False
    meanwhile = read_record(files) if fingerprints is not None else None
    others = meanwhile.fingerprints if meanwhile and (meanwhile.files, meanwhile.digests) == (before, digests) else {}
    kept = dict(list({**others, **(fingerprints or {})}.items())[-_MAX_FINGERPRINTS:])
    record = {
        "format": _FORMAT,
        "files": [asdict(each) for each in before],
        "digests": list(digests),
        "recorded_at": time.time(),
        "fingerprints": kept,
    }
    target = _record_file(files)
    content = json.dumps({"checksum": _checksum(record), "record": record}, indent=1).encode()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, [memoryview(content)])
    except (LibraryError, OSError):
        return False
    _drop_oldest(target.parent)
    return True


def _record_file(files: Sequence[Path]) -> Path:
    paths = json.dumps([str(file.resolve()) for file in files])
    return cache_folder() / f"{xxhash.xxh3_128_hexdigest(paths)}.json"


def _checksum(record: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(record, sort_keys=True))


def _drop_oldest(folder: Path) -> None:
    """Delete records beyond _MAX_RECORDS: models that were moved or deleted leave theirs behind."""
    with suppress(OSError):
        records = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        for file in records[:-_MAX_RECORDS]:
            file.unlink(missing_ok=True)


def _unreadable(file: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{file} cannot be read: {error.strerror or error}; check its permissions and the disk")
