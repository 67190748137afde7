"""The folders that the page watches: a thread for each session, which asks for a reading when something has changed."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from sala_core.errors import IngestError, LibraryError, SessionBusyError
from sala_core.session.folders.watch import is_changed, watch_folders
from sala_core.store import Library

_CLOSE_TIMEOUT_S = 5.0


class Watchers:
    """Watches the folders that the library lists as watched. Safe to call from any thread."""

    def __init__(
        self,
        library: Library,
        submit: Callable[[str, Sequence[Path]], object],
        is_active: Callable[[str], bool],
    ) -> None:
        """Watch nothing yet.

        Args:
            library: lists what is watched.
            submit: (session id, folders) -> asks for a reading.
            is_active: whether a job of the session is queued or running.
        """
        self._library = library
        self._submit = submit
        self._is_active = is_active
        self._lock = threading.Lock()
        self._threads: dict[str, tuple[threading.Thread, threading.Event]] = {}
        self._notes: dict[str, str] = {}

    def resume(self) -> None:
        """Watch what was watched when the program ended."""
        for session_id in {session_id for session_id, _ in self._library.watched_folders()}:
            self._start(session_id)

    def folders(self, session_id: str) -> list[str]:
        """Return the folders that a session was read from, and that can be watched."""
        roots = {source.root for source in self._library.sources(session_id) if source.root != source.path}
        return sorted(root for root in roots if root)

    def is_on(self, session_id: str) -> bool:
        """Whether the session's folders are watched."""
        return bool(self._library.watched_folders(session_id))

    def note(self, session_id: str) -> str:
        """What the user should know about the watching, such as a folder that is not there; "" for nothing."""
        return self._notes.get(session_id, "")

    def switch(self, session_id: str, *, on: bool) -> None:
        """Watch a session's folders, also after a restart, or stop it. Raises SessionNotFoundError."""
        self._library.set_watched_folders(session_id, self.folders(session_id) if on else [])
        self._stop(session_id)
        if on:
            self._start(session_id)

    def close(self) -> None:
        """Stop watching; the next start goes on."""
        with self._lock:
            running = list(self._threads.values())
            self._threads.clear()
        for _, stop in running:
            stop.set()
        for thread, _ in running:
            thread.join(_CLOSE_TIMEOUT_S)

    def _start(self, session_id: str) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(session_id, stop), name="watch", daemon=True)
        with self._lock:
            if session_id in self._threads:
                return
            self._threads[session_id] = (thread, stop)
        thread.start()

    def _stop(self, session_id: str) -> None:
        with self._lock:
            thread, stop = self._threads.pop(session_id, (None, None))
        if thread is not None and stop is not None:
            stop.set()
            thread.join(_CLOSE_TIMEOUT_S)
        self._notes.pop(session_id, None)

    def _watch(self, session_id: str, stop: threading.Event) -> None:
        try:
            roots = [Path(root) for _, root in self._library.watched_folders(session_id)]
            is_due = False
            for event in watch_folders(roots, stop):
                if event.note:
                    self._notes[session_id] = event.note
                is_due = is_due or event.is_changed
                if is_due and not self._is_active(session_id) and self._library.watched_folders(session_id):
                    is_due = not self._read(session_id, roots)
        except IngestError as error:
            self._notes[session_id] = str(error)
        except LibraryError:
            pass  # the session was deleted, or the library is closed

    def _read(self, session_id: str, roots: Sequence[Path]) -> bool:
        """Ask for a reading if anything has changed. Returns False if that has to wait."""
        try:
            if is_changed(self._library, session_id, roots):
                self._submit(session_id, roots)
            self._notes.pop(session_id, None)
        except SessionBusyError:
            return False
        except IngestError as error:
            self._notes[session_id] = str(error)
        return True
