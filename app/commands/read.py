"""`read`: read files and folders into a session, with live progress and a receipt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.live_line import LiveLine
from app.commands.open_session import StopSignals, open_session
from app.grammar.parser import Arguments
from app.wording import count, duration, plural
from sala_core.errors import IngestError

if TYPE_CHECKING:
    from sala_core.events import ReadProgress, ReadReceipt


def read(arguments: Arguments, folder: Path) -> int:
    """Read the paths into the session. Return 0, or 128 plus the signal that stopped it. Raises SalaError."""
    for path in arguments.paths:
        if not path.exists():
            raise IngestError(f"{path}: there is no such file or folder")
    from sala_core.events import ReadReceipt

    receipt = None
    with (
        open_session(arguments, folder, create=not arguments.again) as opened,
        StopSignals() as stop,
        LiveLine() as line,
    ):
        if arguments.again:
            opened.session.reset()
        for event in opened.session.read(arguments.paths, should_stop=stop.is_set):
            if isinstance(event, ReadReceipt):
                receipt = event
            else:
                line.show(progress_text(event))
    if receipt is not None:
        print(receipt_text(arguments.session, receipt), flush=True)
    if stop.is_set():
        print("Stopped; what was read is kept. Run the same command again to continue.", flush=True)
    return stop.exit_code


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
    lines += [f"Note: {warning}" for warning in receipt.warnings]
    if receipt.skipped:
        lines.append(f"Skipped {plural(len(receipt.skipped), 'file')}:")
        lines += [f"  {skipped.name}: {skipped.reason}" for skipped in receipt.skipped]
    return "\n".join(lines)
