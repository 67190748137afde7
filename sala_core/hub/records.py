"""The files of a model on the hub, and what a download reports."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file of a model on the hub."""

    name: str
    num_bytes: int
    digest: str
    """Hexadecimal: SHA-256 of the content for large files, git's SHA-1 of the blob for the others."""


@dataclass(frozen=True, kw_only=True)
class RemoteModel:
    """A model at one commit. license: as its model card names it, "" if it names none."""

    name: str
    revision: str
    commit: str
    license: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Another process downloads the same model to the same place; this one waits for it."""

    folder: Path


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The model is one that this program reads, and there is room for it. The weights come next."""

    name: str
    commit: str
    license: str
    folder: Path
    """Where the model will be."""
    num_files: int
    bytes_total: int
    bytes_here: int
    """Of `bytes_total`, those that are on the disk already."""
    bytes_free: int
    """Free bytes on that disk before the rest is fetched."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Bytes of the whole download so far."""

    file: str
    bytes_done: int
    bytes_total: int
    bytes_per_s: float
    """Over the last seconds; 0 at the start."""

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until the last byte; None at the start."""
        return (self.bytes_total - self.bytes_done) / self.bytes_per_s if self.bytes_per_s > 0 else None


@dataclass(frozen=True, kw_only=True)
class Checking:
    """The checksum of a file is computed."""

    file: str
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Retrying:
    """The connection was cut; it is opened again where it stopped. reason: as the network library words it."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """The model is complete, and every checksum is right."""

    name: str
    revision: str
    commit: str
    folder: Path
    bytes_total: int
    bytes_fetched: int
    """Bytes that this run fetched."""
    seconds: float
    model: str
    """What `--model` takes: the name, with its revision, or the folder."""


DownloadEvent = Waiting | Planned | Progress | Checking | Retrying | Downloaded
Report = Callable[[DownloadEvent], None]
