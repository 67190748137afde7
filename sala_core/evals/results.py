"""Samples on disk: one JSON line each, beside a file of the settings they were made with."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sala_core.errors import DiskFullError, EvalError

FORMAT = 1  # raised whenever the same settings give other samples
_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT


class Results:
    """The samples of one suite in one folder. A context manager: samples can be added while it is entered.

    records: all samples on disk, in the order they were written.
    """

    def __init__(self, folder: Path, suite: str, settings: Mapping[str, Any], *, restart: bool = False) -> None:
        """Nothing is read or written before the object is entered.

        Args:
            folder: made if it does not exist.
            suite: names the files.
            settings: what the samples depend on. Entering raises EvalError if the samples on disk have other ones.
            restart: delete the samples on disk.
        """
        self.folder, self.suite = folder, suite
        self.records: list[dict[str, Any]] = []
        self._settings = {"format": FORMAT, "suite": suite, **settings}
        self._restart = restart

    @property
    def file(self) -> Path:
        """The JSONL file of the samples."""
        return self.folder / f"{self.suite}.jsonl"

    @property
    def settings_file(self) -> Path:
        """The settings that the samples were made with."""
        return self.folder / f"{self.suite}.settings.json"

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._restart:
                self.file.unlink(missing_ok=True)
                self.settings_file.unlink(missing_ok=True)
            self._check_settings()
            self.records, num_bytes = _read(self.file)
            # a kill may have cut the last line short; it is dropped before the next one is added
            if self.file.exists() and self.file.stat().st_size > num_bytes:
                os.truncate(self.file, num_bytes)
            self._out = self.file.open("a", encoding="utf-8")
        except OSError as error:
            raise EvalError(f"{self.folder} cannot be used ({error.strerror}); choose another --out") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.close()

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one sample and flush it to disk. Raises DiskFullError, EvalError."""
        try:
            self._out.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._out.flush()
            os.fsync(self._out.fileno())
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise DiskFullError(f"the disk of {self.folder} is full; free some space and run again") from error
            raise EvalError(f"{self.file} cannot be written ({error.strerror})") from error
        self.records.append(dict(record))

    def _check_settings(self) -> None:
        settings = json.loads(json.dumps(self._settings))
        if not self.settings_file.exists():
            if self.file.exists() and self.file.stat().st_size:
                raise EvalError(f"{self.file} has no settings beside it; choose another --out, or --restart")
            temporary = self.settings_file.with_suffix(".tmp")
            temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            temporary.replace(self.settings_file)
            return
        try:
            on_disk = json.loads(self.settings_file.read_text(encoding="utf-8"))
        except ValueError:
            on_disk = None
        if not isinstance(on_disk, dict):
            raise EvalError(f"{self.settings_file} is damaged; choose another --out, or --restart")
        different = [name for name in sorted({*settings, *on_disk}) if settings.get(name) != on_disk.get(name)]
        if different:
            changes = ", ".join(f"{name} was {on_disk.get(name)!r}, is {settings.get(name)!r}" for name in different)
            raise EvalError(
                f"{self.folder} holds samples made with other settings ({changes}); choose another --out, or --restart"
            )


def _read(file: Path) -> tuple[list[dict[str, Any]], int]:
    """(records of the complete lines, bytes of these lines). Raises EvalError for a damaged one."""
    records: list[dict[str, Any]] = []
    if not file.exists():
        return records, 0
    num_bytes = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise EvalError(f"line {number} of {file} is damaged; remove it, or --restart") from error
            num_bytes += len(line)
    return records, num_bytes
