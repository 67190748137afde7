"""The engine elsewhere that a library's user has chosen: kept on disk, opened when it is first asked."""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sala_core.disk.files import storage_error, write_file
from sala_core.errors import EngineError
from sala_core.remote.access import Access, read_key
from sala_core.remote.chat_engine import describe_settings
from sala_core.remote.choice import EngineChoice
from sala_core.remote.engine import EngineInfo, RemoteEngine
from sala_core.remote.open import open_engine
from sala_core.session.remote.turn import Writer

_FILE, _KEY_FILE = "engine.json", "engine.key"
_SENDS = ("auto", "passages", "text")


class Engines:
    """The chosen engine of one library. Safe to call from any thread; `writer` is for the engine's thread alone."""

    def __init__(self, library: Path, open_one: Callable[[EngineChoice, Path], RemoteEngine] = open_engine) -> None:
        """library: its folder. open_one: opens an engine. A kept choice that is damaged is none."""
        self._folder, self._open = library, open_one
        self._lock = threading.Lock()
        self._opened: RemoteEngine | None = None
        self.info: EngineInfo | None = None
        """The chosen engine, as its server described it last; None for none, or before the first question."""
        self.choice = self._kept()
        """The chosen engine; None for the model here."""

    @property
    def name(self) -> str:
        """The chosen engine, as the page names it; "" for the model here."""
        return f"{self.choice.model or 'engine'} at {self.choice.access.address}" if self.choice is not None else ""

    def choose(self, choice: EngineChoice | None, *, keep: bool = True) -> None:
        """Have another engine write from the next question on; None for the model here.

        keep: also at later starts. Its key is then in a file that only this user can read. Raises LibraryError.
        """
        with self._lock:
            if keep:
                self._keep(choice)
            self._drop()
            self.choice, self.info = choice, None

    def check(self, choice: EngineChoice) -> EngineInfo:
        """Ask the server of an engine what it is, before it is chosen. Raises EngineError."""
        engine = self._open(choice, self._folder)
        try:
            return engine.connect()
        finally:
            engine.close()

    def key_for(self, address: Access) -> str:
        """The key that is kept for the server at an address; "" for none. Another server never gets it."""
        kept = self.choice
        return kept.access.key if kept is not None and kept.access.url == address.url else ""

    def writer(self, changes: Mapping[str, Any]) -> Writer | None:
        """Who writes the next answer; None for the model here. changes: the user's answer settings.

        Raises EngineError where the server cannot be reached, or does not serve the model any more.
        """
        with self._lock:
            if self.choice is None:
                return None
            if self._opened is None:
                self._opened = self._open(self.choice, self._folder)
            try:
                self.info = self._opened.connect()
            except EngineError:
                self._drop()  # a server that is started again may be another kind of engine
                raise
            return Writer(engine=self._opened, settings=describe_settings(changes))

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _kept(self) -> EngineChoice | None:
        try:
            raw = json.loads((self._folder / _FILE).read_text(encoding="utf-8"))
            context = raw.get("context_tokens")
            sends = raw.get("sends")
            return EngineChoice(
                access=Access.of(str(raw["url"]), self._key(), Path(raw["ca_file"]) if raw.get("ca_file") else None),
                model=str(raw.get("model", "")),
                context_tokens=context if type(context) is int and context > 0 else None,
                sends=sends if sends in _SENDS else "auto",
            )
        except (OSError, ValueError, KeyError, AttributeError, RecursionError, EngineError):
            return None

    def _key(self) -> str:
        file = self._folder / _KEY_FILE
        return read_key(file) if file.exists() else ""

    def _keep(self, choice: EngineChoice | None) -> None:
        if choice is None:
            try:
                for name in (_FILE, _KEY_FILE):
                    with suppress(FileNotFoundError):
                        (self._folder / name).unlink()
            except OSError as error:
                raise storage_error(error, self._folder / _FILE) from error
            return
        with suppress(FileNotFoundError):
            (self._folder / _KEY_FILE).unlink()
        if choice.access.key:
            write_file(self._folder / _KEY_FILE, [memoryview(choice.access.key.encode())])
        raw = {
            "url": choice.access.url,
            "ca_file": str(choice.access.ca_file.absolute()) if choice.access.ca_file is not None else None,
            "model": choice.model,
            "context_tokens": choice.context_tokens,
            "sends": choice.sends,
        }
        write_file(self._folder / _FILE, [memoryview(json.dumps(raw).encode())])
