"""What `read` and `ask` share: opening a session with its model, and stopping cleanly on Ctrl-C."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from app.commands.load_lines import LoadLines
from app.grammar.parser import Arguments
from app.setup.collector import importing
from sala_core.errors import SessionNotFoundError

if TYPE_CHECKING:
    from sala_core.engine.engine import Engine
    from sala_core.session.session import Session
    from sala_core.store.library import Library


@dataclass(frozen=True, kw_only=True)
class OpenSession:
    """A session open for writing, and the seconds that opening it and loading the model took."""

    session: Session
    seconds_load: float


@dataclass(frozen=True, kw_only=True)
class OpenLibrary:
    """A library and a model, and the seconds that loading the model took."""

    library: Library
    engine: Engine
    seconds_load: float


@contextmanager
def open_library(arguments: Arguments, folder: Path, *, create: bool) -> Iterator[OpenLibrary]:
    """Open the library and load the requested model. The library is closed after the block.

    A session that does not exist (without `create`) or is open elsewhere is refused before the model is loaded.
    Raises SalaError: SessionNotFoundError, SessionBusyError, or a ModelError.
    """
    from sala_core.store.library import Library

    started = time.monotonic()
    with closing(Library.open(folder)) as library:
        _check_free(library, arguments.session, create=create)
        before_import = time.monotonic()
        with importing():
            from sala_core import Engine

        started += time.monotonic() - before_import  # the import of torch is not part of `seconds_load`
        with LoadLines() as lines:
            engine = Engine.load(
                arguments.model,
                arguments.device,
                kv=arguments.kv_kind,
                bos=arguments.bos_choice,
                kv_at_rest=arguments.kv_at_rest,
                report=lines.show,
            )
        yield OpenLibrary(library=library, engine=engine, seconds_load=time.monotonic() - started)
        library.tidy()


@contextmanager
def open_session(arguments: Arguments, folder: Path, *, create: bool) -> Iterator[OpenSession]:
    """Open library, model and session; all are closed after the block. Raises as `open_library`."""
    with open_library(arguments, folder, create=create) as opened:
        from sala_core.session.session import Session

        started = time.monotonic()
        with Session.open(opened.library, opened.engine, arguments.session, create=create) as session:
            yield OpenSession(session=session, seconds_load=opened.seconds_load + time.monotonic() - started)


def _check_free(library: Library, name: str, *, create: bool) -> None:
    """Raise SessionNotFoundError or SessionBusyError before the model is loaded, if opening the session would."""
    try:
        with library.lock_session(name):
            pass
    except SessionNotFoundError:
        if not create:
            raise


class StopSignals:
    """A context manager: the first SIGINT or SIGTERM only sets a flag, a second one has its usual effect."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells report it; 0 if no signal came."""
        return 0 if self.received is None else 128 + self.received

    def is_set(self) -> bool:
        """Whether a signal has come, so that the work must stop."""
        return self.received is not None

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(number, self._previous[number])
