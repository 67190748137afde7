"""`read` and `remove`: read files and folders into a session, follow their changes, take documents out again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.live_line import LiveLine
from app.commands.open_session import OpenLibrary, StopSignals, open_library
from app.commands.reading.fetch import fetched
from app.commands.reading.passwords import no_password, password_source
from app.grammar.parser import Arguments
from app.wording import count, duration, plural
from sala_core.errors import IngestError, PasswordError, SessionBusyError

if TYPE_CHECKING:
    from sala_core.events import ReadPlan, ReadProgress, ReadReceipt
    from sala_core.ingest import FileChoice
    from sala_core.session.session import Session
    from sala_core.session.state import SessionState

_PASSWORD_ADVICE = "give the password with --password-stdin, or on a terminal, which asks for it"
_MAX_LISTED = 20
_PATIENCE_S = 1.0


def read(arguments: Arguments, folder: Path) -> int:
    """Read the paths into the session, and with `--watch` all that changes later.

    Returns 0; 1 if nothing could be read or the user did not agree; 128 plus the signal that stopped it. Raises
    SalaError.
    """
    for path in arguments.paths:
        if not path.exists():
            raise IngestError(f"{path}: there is no such file or folder")
    try:
        with fetched(arguments, folder) as local:
            return 1 if local is None else _read(local, folder)
    except PasswordError as error:
        raise PasswordError(f"{error}; {_PASSWORD_ADVICE}") from error


def _read(arguments: Arguments, folder: Path) -> int:
    """Read what is here, or was fetched."""
    with open_library(arguments, folder, create=not arguments.again) as opened, StopSignals() as stop:
        from sala_core.session.session import Session

        with (
            Session.open(opened.library, opened.engine, arguments.session, create=not arguments.again) as session,
            LiveLine() as line,
        ):
            if arguments.again:
                session.reset()
            approve, passwords = Approval(arguments, line), password_source(arguments, line)
            events = _events(session, arguments, stop, approve, passwords)
            receipt = _show(_recorded(session, arguments, events), line)
        code = _report(arguments, receipt, stop)
        if arguments.watch and not code:
            return _watch(arguments, opened, stop, session.state)
    return code


def remove(arguments: Arguments, folder: Path) -> int:
    """Take documents out of the session, and read again what stands behind them. Returns and raises as `read`."""
    from sala_core.store.library import Library
    from sala_core.store.sources import find_document

    with Library.open(folder) as library:
        documents = library.documents(library.session(arguments.session).id)
        ids = [find_document(documents, text).id for text in arguments.documents]
    with open_library(arguments, folder, create=False) as opened, StopSignals() as stop:
        from sala_core.session.session import Session

        with Session.open(opened.library, opened.engine, arguments.session) as session, LiveLine() as line:
            approve = Approval(arguments, line, always=True)
            receipt = _show(session.remove(ids, should_stop=stop.is_set, approve=approve), line)
    return _report(arguments, receipt, stop)


def _events(
    session: Session,
    arguments: Arguments,
    stop: StopSignals,
    approve: Callable[[ReadPlan], bool],
    passwords: Callable[[str], str | None],
) -> Iterable[ReadProgress | ReadReceipt]:
    return session.read(
        arguments.paths,
        should_stop=stop.is_set,
        choice=_choice(arguments),
        password_of=passwords,
        drop_gone=arguments.drop_gone,
        approve=approve,
    )


def _recorded(
    session: Session, arguments: Arguments, events: Iterable[ReadProgress | ReadReceipt]
) -> Iterable[ReadProgress | ReadReceipt]:
    """The same events, kept as a job, which a page on the library shows."""
    from sala_core.store.rows import ReadRequest

    return session.recorded(ReadRequest(paths=tuple(str(path.absolute()) for path in arguments.paths)), events)


def _choice(arguments: Arguments) -> FileChoice:
    from sala_core.ingest import FileChoice

    return FileChoice(everything=arguments.everything, include=arguments.include, exclude=arguments.exclude)


def _show(events: Iterable[ReadProgress | ReadReceipt], line: LiveLine) -> ReadReceipt | None:
    """Show the progress, and return the receipt."""
    from sala_core.events import ReadReceipt

    receipt = None
    for event in events:
        if isinstance(event, ReadReceipt):
            receipt = event
        else:
            line.show(progress_text(event))
    return receipt


def _report(arguments: Arguments, receipt: ReadReceipt | None, stop: StopSignals) -> int:
    """Print how it ended; return the exit code."""
    if receipt is not None and receipt.is_declined:
        again = plural(receipt.plan.tokens_again, "token")
        print(f"Nothing was changed: {again} would be read again. With --yes it is done.", file=sys.stderr, flush=True)
        return 1
    if receipt is not None:
        print(receipt_text(arguments.session, receipt), flush=True)
    if stop.is_set():
        print("Stopped; what was read is kept. Run the same command again to continue.", flush=True)
        return stop.exit_code
    is_empty = receipt is not None and bool(arguments.paths) and not receipt.files
    return 1 if is_empty else 0


class Approval:
    """Shows what a reading costs, and asks before much is read again. Without a terminal it declines then."""

    def __init__(self, arguments: Arguments, line: LiveLine, *, always: bool = False) -> None:
        """line: is cleared before anything is printed. always: ask on a terminal even if it costs little."""
        self._is_agreed = arguments.yes
        self._line = line
        self._always = always

    def __call__(self, plan: ReadPlan) -> bool:
        words = plan_text(plan)
        if words:
            self._line.clear()
            print(words, flush=True)
        if self._is_agreed or not (plan.is_costly or self._always):
            return True
        if not sys.stdin.isatty():
            return not plan.is_costly
        print("Go on? [y/N] ", end="", flush=True)
        return sys.stdin.readline().strip().casefold() in ("y", "yes")


def _watch(arguments: Arguments, opened: OpenLibrary, stop: StopSignals, state: SessionState) -> int:
    """Read what changes until a signal comes. The session is free for others between two readings."""
    from sala_core.session.folders.watch import is_changed, watch_folders

    session_id = opened.library.session(arguments.session).id
    print(f"Watching {', '.join(map(str, arguments.paths))}; Ctrl-C ends it", flush=True)
    is_due = False
    for event in watch_folders([path.absolute() for path in arguments.paths], stop):
        if event.note:
            print(event.note, flush=True)
        is_due = is_due or event.is_changed
        if not is_due:
            continue
        try:
            if is_changed(opened.library, session_id, arguments.paths, _choice(arguments)):
                _read_changes(arguments, opened, stop, state)
            is_due = False
        except SessionBusyError as error:
            print(f"{error}; the change is read after that", flush=True)
            _wait_for(opened, session_id, stop)
        except IngestError as error:
            print(f"{error}", flush=True)
            is_due = False
    print("Stopped watching; everything that was read is kept", flush=True)
    return 0


def _read_changes(arguments: Arguments, opened: OpenLibrary, stop: StopSignals, state: SessionState) -> None:
    """Read the paths once more, and print a line for each change. Raises SessionBusyError."""
    from sala_core.session.session import Session

    with Session.open(opened.library, opened.engine, arguments.session, state=state) as session, LiveLine() as line:

        def announce(plan: ReadPlan) -> bool:
            line.clear()
            for words in change_lines(plan):
                print(words, flush=True)
            return True

        events = _events(session, arguments, stop, announce, no_password)
        receipt = _show(_recorded(session, arguments, events), line)
    if receipt is None:
        return
    for warning in receipt.warnings:
        print(f"Note: {warning}", flush=True)
    if receipt.tokens_read:
        print(f"{plural(receipt.tokens_read, 'token')} read in {duration(receipt.seconds)}", flush=True)


def _wait_for(opened: OpenLibrary, session_id: str, stop: StopSignals) -> None:
    """Wait until nobody holds the session, or a signal comes."""
    while not stop.is_set():
        try:
            with opened.library.lock_session(session_id):
                return
        except SessionBusyError:
            time.sleep(_PATIENCE_S)


def plan_text(plan: ReadPlan) -> str:
    """Write what changes and what it costs; "" where files are only new, or nothing changes."""
    facts = [
        f"{count(len(names))} {word}"
        for word, names in (
            ("changed", plan.changed),
            ("new", plan.new),
            ("moved", plan.moved),
            ("gone", plan.gone),
            ("removed", plan.removed),
        )
        if names
    ]
    if not (plan.changed or plan.moved or plan.gone or plan.removed):
        return ""
    text = f"{', '.join(facts)}: {plural(plan.tokens_read, 'token')} to read"
    if plan.tokens_again:
        text += f", {count(plan.tokens_new)} of new text and {count(plan.tokens_again)} that stand behind a change"
    lines = [text]
    lines += _named("Replaced", plan.changed) + _named("Moved", plan.moved) + _named("Removed", plan.removed)
    return "\n".join(lines + _named("Gone, but kept (--drop-gone takes them out)", plan.gone))


def change_lines(plan: ReadPlan) -> list[str]:
    """Write one line for each change, then what they cost."""
    lines = [
        f"{word} {name}"
        for word, names in (
            ("changed", plan.changed),
            ("new", plan.new),
            ("moved", plan.moved),
            ("removed", plan.removed),
        )
        for name in names[:_MAX_LISTED]
    ]
    left = len(plan.changed) + len(plan.new) + len(plan.moved) + len(plan.removed) - len(lines)
    if left:
        lines.append(f"and {count(left)} more changes")
    if plan.tokens_again:
        lines.append(f"{count(plan.tokens_new)} tokens of new text, {count(plan.tokens_again)} to read again")
    return lines


def _named(title: str, names: tuple[str, ...]) -> list[str]:
    if not names:
        return []
    more = f" and {count(len(names) - _MAX_LISTED)} more" if len(names) > _MAX_LISTED else ""
    return [f"  {title}: {', '.join(names[:_MAX_LISTED])}{more}"]


def progress_text(event: ReadProgress) -> str:
    """Write one line with the file, the tokens and, if they are known, tokens/s and the time left."""
    if event.phase == "preparing":
        done = f"{plural(event.files_done, 'file')}, {plural(event.tokens_total, 'token')}"
        return f"Preparing {event.file}: {done} so far"
    tokens = f"{count(event.tokens_done)} of {plural(event.tokens_total, 'token')}"
    if event.phase == "restoring":
        return f"Restoring what was read before: {tokens}"
    share = event.tokens_done / event.tokens_total if event.tokens_total else 1.0
    text = f"Reading {event.file}: {tokens} ({share:.0%})"
    if event.tokens_per_s:
        text += f", {event.tokens_per_s:,.0f} tokens/s"
    if event.seconds_left is not None:
        text += f", {duration(event.seconds_left)} left"
    return text


def receipt_text(session: str, receipt: ReadReceipt) -> str:
    """Write what was read and how fast, the warnings, and each skipped file with its reason."""
    read_of = "Read" if not receipt.stopped else "Read so far"
    pages = f", {plural(receipt.pages, 'page')}" if receipt.pages else ""
    rate = (
        f", {receipt.tokens_read / receipt.seconds:,.0f} tokens/s"
        if receipt.seconds > 0 and receipt.tokens_read
        else ""
    )
    lines = [
        f"{read_of} into {session}: {plural(receipt.files, 'file')}{pages}, {plural(receipt.tokens, 'token')}"
        f" ({count(receipt.tokens_read)} read now, {count(receipt.tokens_reused)} reused)"
        f" in {duration(receipt.seconds)}{rate}"
    ]
    if not (receipt.files or receipt.stopped or receipt.plan.removed):
        lines = ["Nothing was read: no file could be read"]
    if receipt.tokens_shared:
        lines.append(f"Shared with {receipt.shared_with}: {plural(receipt.tokens_shared, 'token')} not read again")
    lines += [f"Note: {warning}" for warning in receipt.warnings]
    if receipt.skipped:
        lines.append(f"Skipped {plural(len(receipt.skipped), 'file')}:")
        lines += [f"  {skipped.name}: {skipped.reason}" for skipped in receipt.skipped]
        if any(skipped.is_locked for skipped in receipt.skipped):
            lines.append(f"Encrypted PDFs: {_PASSWORD_ADVICE}.")
        if any(skipped.reason.startswith(("generated", "minified", "ignored by")) for skipped in receipt.skipped):
            lines.append("Generated, minified and ignored files are read with --all, or --include GLOB.")
    return "\n".join(lines)
