"""Settings of the program that are kept: in the library's folder, and the library's own place in the user's folder.

Nothing of torch or Gradio is loaded here: every command looks at them before it starts.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import platformdirs

from app.grammar.parser import DEFAULT_MODEL, DEVICES
from app.grammar.values import KV_AT_REST, KV_KINDS
from sala_core.assets import APP_NAME
from sala_core.errors import LibraryError, SettingsError

FILE = "settings.json"
THEMES = ("system", "light", "dark")
_KV: dict[str, Literal["auto", "plain", "int8", "fp8"]] = {
    "auto": "auto",
    "bf16": "plain",
    "int8": "int8",
    "fp8": "fp8",
}
_AT_REST: dict[str, Literal["same", "int8"]] = {"same": "same", "int8": "int8"}
MAX_FOLDERS = 20


@dataclass(frozen=True, kw_only=True)
class ProgramSettings:
    """What holds for every start with a library. An option on the command line counts for that start alone."""

    model: str = DEFAULT_MODEL
    device: str = "auto"
    kv: str = "auto"
    kv_at_rest: str = "same"
    theme: str = "system"
    folders: tuple[str, ...] = ()
    """Model folders that the user has chosen before."""
    tour: str = ""
    """"done" once the tour was seen or dismissed."""

    def __post_init__(self) -> None:
        """Raise SettingsError for a value that cannot be."""
        for name, value, allowed in (
            ("device", self.device, DEVICES),
            ("number format (KV)", self.kv, KV_KINDS),
            ("number format on disk", self.kv_at_rest, KV_AT_REST),
            ("theme", self.theme, THEMES),
        ):
            if value not in allowed:
                raise SettingsError(f"The {name} must be one of {', '.join(allowed)}, not {value!r}.")
        if not self.model or not isinstance(self.model, str):
            raise SettingsError(f"{self.model!r} is no model's name.")

    @property
    def kv_kind(self) -> Literal["auto", "plain", "int8", "fp8"]:
        """`kv` in the engine's terms: bf16 stands for the model's own number format, as `Arguments.kv_kind`."""
        return _KV[self.kv]

    @property
    def at_rest_kind(self) -> Literal["same", "int8"]:
        """`kv_at_rest` in the engine's terms."""
        return _AT_REST[self.kv_at_rest]


def load_program(folder: Path) -> ProgramSettings:
    """The settings of a library; the defaults for what is missing or invalid."""
    raw = _read(folder / FILE)
    known: dict[str, Any] = {}
    for field in fields(ProgramSettings):
        with suppress(KeyError, SettingsError, TypeError):
            value: Any = tuple(map(str, raw[field.name])) if field.name == "folders" else str(raw[field.name])
            known[field.name] = getattr(ProgramSettings(**{field.name: value}), field.name)
    return ProgramSettings(**known)


def save_program(folder: Path, settings: ProgramSettings) -> None:
    """Keep the settings of a library. Raises LibraryError."""
    write_json(folder / FILE, asdict(settings))


def chosen_library() -> Path | None:
    """The library's folder that the user has chosen in "Settings"; None for the usual one."""
    chosen = _read(_home()).get("library")
    return Path(chosen) if isinstance(chosen, str) and chosen else None


def choose_library(folder: Path | None) -> None:
    """Keep another folder for the library, from the next start on; None for the usual one. Raises LibraryError."""
    write_json(_home(), {"library": str(folder) if folder is not None else ""})


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Write a file that only its owner can read, whole or not at all. Raises LibraryError."""
    temporary = ""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}-")
        with os.fdopen(number, "w", encoding="utf-8") as out:
            json.dump(value, out)
        os.replace(temporary, file)
    except OSError as error:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
        raise LibraryError(
            f"the settings could not be saved in {file.parent} ({error.strerror or error}); free some space, or allow "
            "this program to write there"
        ) from error


def _home() -> Path:
    return platformdirs.user_config_path(APP_NAME, appauthor=False) / FILE


def _read(file: Path) -> dict[str, Any]:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}
