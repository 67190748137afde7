"""A full check of a model's files: every byte is read, and compared with what is known of it.

Known are the checksums under which a hub published the files (from the hub's cache, from its metadata in a folder that
was downloaded into, or from a `.sha256` file beside), the index of the shards, and the record of an earlier reading.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sala_core.errors import CheckpointError
from sala_core.model.checkpoint import read_index, stored_names, weight_files
from sala_core.model.weight_digests import WeightRecord, digest_file, identities, read_record, write_record
from sala_core.stopping import never

FileStatus = Literal["same", "first", "replaced", "changed", "damaged"]
"""same: as recorded. first: no record. replaced: other bytes than recorded, written since. changed: other bytes though
nothing has written the file. damaged: not what was published, or unreadable."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}")
_METADATA = ".cache/huggingface/download"
_OTHER_FILES = ("*.json", "*.jinja", "tokenizer.model", "*.txt")


@dataclass(frozen=True, kw_only=True)
class FileCheck:
    """What is true of one file. note: for the user. published: whether its published checksum was known, and right."""

    name: str
    num_bytes: int
    status: FileStatus
    note: str
    published: bool

    @property
    def is_right(self) -> bool:
        """Whether nothing speaks against the file."""
        return self.status in ("same", "first", "replaced")


def verify_model(folder: Path, should_stop: Callable[[], bool] = never) -> Iterator[FileCheck]:
    """Read all files of a model's folder and check them; one record per file, weights first.

    The record of the weight files is then renewed. Fingerprints in it stay if all bytes are as they were; where a file
    is wrong they are dropped, and the earlier digests stay. Ends early once `should_stop()` is true, and then leaves
    the record as it is. Raises CheckpointError for a folder without weights, or with shards missing.
    """
    files = weight_files(folder)
    earlier, before, started = read_record(files), identities(files), time.time_ns()
    places, all_right = _index_places(folder), True
    digests: list[str] = []
    kept: list[str] = []
    for n, file in enumerate(files):
        if should_stop():
            return
        digest, problem, published = _read(file)
        digests.append(digest)
        if problem := problem or _misplaced(file, places):
            check = _check(file, "damaged", problem)
        else:
            unwritten = earlier is not None and earlier.files[n] == before[n]
            check = _check(file, *_compared(earlier, n, digest, unwritten=unwritten), published=published)
        all_right &= check.is_right
        kept.append(digest if check.is_right or earlier is None else earlier.digests[n])
        yield check
    known = earlier.fingerprints if earlier is not None and all_right and earlier.digests == tuple(digests) else None
    write_record(files, before, tuple(kept), started_ns=started, fingerprints=known)
    others = sorted({file for pattern in _OTHER_FILES for file in folder.glob(pattern)} - set(files))
    for file in others:
        _, problem, published = _read(file)
        if problem:
            yield _check(file, "damaged", f"{problem}, unless you have edited it")
        elif published:
            yield _check(file, "same", "as published", published=True)


def published_checksum(file: Path) -> str | None:
    """The checksum a hub published a file with: SHA-256 of large files, Git's SHA-1 of small ones; None if unknown."""
    real = file.resolve()
    candidates = [real.name] if real.parent.name == "blobs" else []
    metadata = file.parent / _METADATA / f"{file.name}.metadata"
    for source, line in ((metadata, 1), (file.with_name(f"{file.name}.sha256"), 0)):
        try:
            lines = source.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            continue
        candidates += lines[line].split()[:1] if len(lines) > line else []
    return next((each for each in candidates if _SHA256.fullmatch(each) or _GIT_SHA1.fullmatch(each)), None)


def published_hash(checksum: str, num_bytes: int) -> "hashlib._Hash":
    """The hash, before the first byte, that gives a checksum as a hub publishes it.

    checksum: SHA-256, or Git's SHA-1 of a file of `num_bytes` bytes; both hexadecimal.
    """
    if _GIT_SHA1.fullmatch(checksum):
        return hashlib.sha1(f"blob {num_bytes}\0".encode(), usedforsecurity=False)
    return hashlib.sha256()


def _read(file: Path) -> tuple[str, str, bool]:
    """(xxh3-128, what is wrong or "", whether the published checksum is known and right) of a whole file."""
    expected = published_checksum(file)
    if expected is None:
        return digest_file(file), "", False
    hashed = published_hash(expected, file.stat().st_size)
    digest = digest_file(file, hashed.update)
    if hashed.hexdigest() != expected:
        return digest, "its bytes are not the published ones; delete it and download the model again", False
    return digest, "", True


def _compared(earlier: WeightRecord | None, n: int, digest: str, *, unwritten: bool) -> tuple[FileStatus, str]:
    """The status of file n beside its record, and a note. unwritten: its identity is the recorded one."""
    if earlier is None:
        return "first", "read for the first time; its digest is kept"
    date = time.strftime("%Y-%m-%d", time.localtime(earlier.recorded_at))
    if earlier.digests[n] == digest:
        return "same", f"unchanged since {date}"
    if unwritten:
        return "changed", (
            f"its bytes are not those of {date}, although nothing has written it since; the disk may be failing: "
            "download the model again, to another disk if it happens twice"
        )
    return "replaced", f"other bytes than on {date}; sessions read with the earlier ones need: read SESSION --again"


def _index_places(folder: Path) -> dict[str, str]:
    """Tensor name -> shard by the index of the shards; {} for a model in one file."""
    index = next(iter(sorted(folder.glob("*.safetensors.index.json"))), None)
    return read_index(index) if index is not None else {}


def _misplaced(file: Path, places: dict[str, str]) -> str:
    """What is wrong with the tensors of a weight file, or ""."""
    try:
        names = stored_names(file)
    except CheckpointError as error:
        return str(error)
    listed = {name for name, shard in places.items() if shard == file.name}
    if places and listed != names:
        wrong = sorted(listed ^ names)
        return f"it and the index disagree about {len(wrong)} tensor(s), {wrong[0]} among them; download both again"
    return ""


def _check(file: Path, status: FileStatus, note: str, *, published: bool = False) -> FileCheck:
    return FileCheck(name=file.name, num_bytes=file.stat().st_size, status=status, note=note, published=published)
