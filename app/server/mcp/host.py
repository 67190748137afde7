"""What the tools work on: a library, its texts, and, once it is needed, the model."""

from __future__ import annotations

import os
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from app.grammar.parser import Arguments
from app.server.mcp.access import FOLDERS_HEADER
from app.server.mcp.running import RunningProgram, find_running
from app.setup.collector import importing
from sala_core.errors import LibraryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp.server.mcpserver import Context

    from app.server.key import PageKey
    from sala_core.session.workspace import Workspace
    from sala_core.store.library import Library
    from sala_core.viewing.session_texts import SessionTexts

_IDLE_S = 15 * 60.0
"""A process on stdio that nobody asked for so long gives the model's memory back: clients keep it open all day."""


class Host:
    """The tools' view of a running program: its workspace is there already."""

    trusts_client_roots = False
    """Whether folders that a client names as its roots may be read. Over HTTP, who has the key could name any."""

    _key: PageKey | None = None

    def __init__(self, workspace: Workspace, allowed: Sequence[Path], key: PageKey) -> None:
        """Serve the workspace's library. allowed: resolved folders whose files may be read. key: of the library."""
        self._workspace, self.allowed, self._key = workspace, tuple(allowed), key

    @property
    def folder(self) -> Path:
        """The library's folder."""
        return self._workspace.library.folder

    @property
    def library(self) -> Library:
        """The library. Raises LibraryError if it cannot be opened."""
        return self._workspace.library

    @cached_property
    def texts(self) -> SessionTexts:
        """The texts of its sessions."""
        from sala_core.viewing.session_texts import SessionTexts

        return SessionTexts(self.library)

    def workspace(self) -> Workspace:
        """What reads and answers. The model may still be loading. Raises LibraryError."""
        return self._workspace

    def loaded(self) -> Workspace | None:
        """The workspace, if it is there already."""
        return self._workspace

    def running(self) -> RunningProgram | None:
        """Another process that reads and answers for this one; None if this one does."""
        return None

    def vouched(self, ctx: Context) -> tuple[Path, ...]:
        """Folders that another process of the same user vouches for, in the request."""
        signed = (ctx.headers or {}).get(FOLDERS_HEADER, "")
        return tuple(map(Path, self._key.signed_folders(signed) or ())) if self._key is not None else ()

    def close(self) -> None:
        """End what this object has started. The workspace belongs to the running program."""


class StdioHost(Host):
    """The tools' view of a process that a client has started: library and model are opened when they are needed.

    While the page or the server runs with the same library, that program reads and answers, so that there is one model
    in memory and one queue.
    """

    trusts_client_roots = True

    def __init__(self, arguments: Arguments, folder: Path, allowed: Sequence[Path]) -> None:
        """Open nothing yet.

        arguments: how the model is loaded. folder: of the library. allowed: resolved folders.
        """
        self._arguments, self._folder, self.allowed = arguments, folder, tuple(allowed)
        self._lock = threading.Lock()
        self._own: Workspace | None = None
        self._library: Library | None = None
        self._idle: threading.Timer | None = None
        self._is_closed = False

    @property
    def folder(self) -> Path:
        """The library's folder, which may not be there yet."""
        return self._folder

    @property
    def library(self) -> Library:
        """The library, opened for reading alone where nothing else is possible. Raises LibraryError."""
        from sala_core.store.library import Library

        with self._lock:
            if self._library is None:
                self._library = Library.open_to_read(self._folder)
            return self._library

    def workspace(self) -> Workspace:
        """This process's own workspace; the first call begins to load the model. Raises LibraryError."""
        with importing():
            from sala_core.session.workspace import Workspace

        with self._lock:
            if self._is_closed:
                raise LibraryError("the program ends; start it again")
            if self._own is None:
                chosen = self._arguments
                self._own = Workspace(
                    self._folder,
                    chosen.model,
                    chosen.device,
                    chosen.kv_kind,
                    bos=chosen.bos_choice,
                    kv_at_rest=chosen.kv_at_rest,
                )
            self._watch()
            return self._own

    def loaded(self) -> Workspace | None:
        """The workspace, if a call has needed the model."""
        return self._own

    def running(self) -> RunningProgram | None:
        """The program that runs with this library, unless this process has a job of its own under way."""
        with self._lock:
            if self._own is not None and self._is_at_work():
                return None
        return find_running(self._arguments, self._folder)

    def close(self) -> None:
        """Stop what this process does and save what it has read; a reading is continued by the next start."""
        with self._lock:
            self._is_closed = True
            if self._idle is not None:
                self._idle.cancel()
            if self._own is not None:
                self._own.close()
                self._own = None
            if self._library is not None:
                self._library.close()

    def _watch(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if not self._is_closed:
            self._idle = threading.Timer(_IDLE_S, self._release)
            self._idle.daemon = True
            self._idle.start()

    def _release(self) -> None:
        """Give the model's memory back, unless there is work."""
        with self._lock:
            if self._own is None or self._is_closed:
                return
            if self._is_at_work():
                self._watch()
                return
            self._own.close()
            self._own = None
        from sala_core.engine.release_memory import release_memory

        release_memory()

    def _is_at_work(self) -> bool:
        assert self._own is not None
        library = self._own.library
        rows = [row for status in ("queued", "running") for row in library.jobs(status=status)]  # type: ignore[arg-type]
        return any(row.owner_pid == os.getpid() for row in rows)
