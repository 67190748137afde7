"""Samples on disk: one line of JSON each, beside the settings that they hold for."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sala_core.errors import DiskFullError, EvalError

FORMAT = 1  # another one whenever the same settings would give other samples
_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT


class Results:
    """The samples of one suite in one folder; open for appending while entered.

    records: all that are there, in the order they were written.
    """

    def __init__(self, folder: Path, suite: str, settings: Mapping[str, Any], *, restart: bool = False) -> None:
        """restart: throw away what is there. Raises EvalError where what is there was made with other settings."""
        self.folder, self.suite = folder, suite
        self.records: list[dict[str, Any]] = []
        self._settings = {"format": FORMAT, "suite": suite, **settings}
        self._restart = restart

    @property
    def file(self) -> Path:
        """The samples."""
        return self.folder / f"{self.suite}.jsonl"

    @property
    def settings_file(self) -> Path:
        """What they were made with."""
        return self.folder / f"{self.suite}.settings.json"

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._restart:
                self.file.unlink(missing_ok=True)
                self.settings_file.unlink(missing_ok=True)
            self._check_settings()
            self.records, whole = _read(self.file)
            # a line that was cut short by a kill is dropped before the next is added
            if self.file.exists() and self.file.stat().st_size > whole:
                os.truncate(self.file, whole)
            self._out = self.file.open("a", encoding="utf-8")
        except OSError as error:
            raise EvalError(f"{self.folder} cannot be used ({error.strerror}); choose another --out") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.close()

    def add(self, record: Mapping[str, Any]) -> None:
        """Write one sample and keep it, whatever happens next. Raises DiskFullError."""
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
        wanted = json.loads(json.dumps(self._settings))
        if not self.settings_file.exists():
            if self.file.exists() and self.file.stat().st_size:
                raise EvalError(f"{self.file} has no settings beside it; choose another --out, or --restart")
            temporary = self.settings_file.with_suffix(".tmp")
            temporary.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
            temporary.replace(self.settings_file)
            return
        try:
            found = json.loads(self.settings_file.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise EvalError(f"{self.settings_file} is damaged; choose another --out, or --restart")
        other = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
        if other:
            told = ", ".join(f"{name} was {found.get(name)!r}, is {wanted.get(name)!r}" for name in other)
            raise EvalError(f"{self.folder} holds samples made with other settings ({told}); other --out, or --restart")


def _read(file: Path) -> tuple[list[dict[str, Any]], int]:
    """(whole lines, their bytes). Raises EvalError for a damaged line before the last."""
    records: list[dict[str, Any]] = []
    if not file.exists():
        return records, 0
    whole = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise EvalError(f"line {number} of {file} is damaged; remove it, or --restart") from error
            whole += len(line)
    return records, whole
