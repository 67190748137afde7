"""`download`: get a model from the hub, and show bytes, rate and time left on the way."""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.live_line import LiveLine
from app.grammar.parser import Arguments
from app.wording import duration, plural, size

if TYPE_CHECKING:
    from sala_core.hub.records import Downloaded, DownloadEvent, Planned, Progress

_JSON_INTERVAL_S = 0.5  # between two events of progress
_LONG_CHECK_BYTES = 100_000_000


def download(arguments: Arguments, _folder: Path) -> int:
    """Run the command. Returns 0, or 130 after Ctrl-C. Raises SalaError."""
    options = arguments.download
    assert options is not None
    from sala_core.hub.download import download as run

    with LiveLine() as live:
        report = _JsonReport() if options.json else _TextReport(live)
        try:
            run(options.name, to=options.to, revision=options.revision, token=options.token, report=report)
        except KeyboardInterrupt:
            live.finish()
            text = "Stopped. Run the same command again to continue: what was fetched is kept."
            print(text, file=sys.stderr if options.json else sys.stdout, flush=True)
            return 128 + signal.SIGINT
    return 0


class _TextReport:
    """Shows events to a reader: one live line, and a full line for what should stay."""

    def __init__(self, live: LiveLine) -> None:
        self._live = live

    def __call__(self, event: DownloadEvent) -> None:
        from sala_core.hub.records import Checking, Downloaded, Planned, Progress, Retrying, Waiting

        match event:
            case Waiting():
                self._line(f"Another process downloads this model into {event.folder}; waiting for it")
            case Planned():
                self._line(planned_text(event))
            case Progress():
                self._live.show(progress_text(event))
            case Checking() if event.num_bytes >= _LONG_CHECK_BYTES:
                self._live.show(f"{event.file}: comparing the checksum of {size(event.num_bytes)}")
            case Retrying():
                self._line(f"The connection was cut ({event.reason}); continuing with {event.file}")
            case Downloaded():
                self._line(downloaded_text(event))

    def _line(self, text: str) -> None:
        self._live.finish()
        print(text, flush=True)


class _JsonReport:
    """Prints each event as a JSON object; those of progress at most twice a second, and the last one."""

    def __init__(self) -> None:
        self._printed_at = float("-inf")

    def __call__(self, event: DownloadEvent) -> None:
        from sala_core.hub.records import Progress

        if isinstance(event, Progress) and event.bytes_done < event.bytes_total:
            if time.monotonic() - self._printed_at < _JSON_INTERVAL_S:
                return
            self._printed_at = time.monotonic()
        print(json.dumps(event_object(event)), flush=True)


def event_object(event: DownloadEvent) -> dict[str, object]:
    """Return the JSON object of an event: its fields, and its kind under "event"."""
    from sala_core.hub.records import Progress

    values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(event).items()}
    if isinstance(event, Progress):
        values["seconds_left"] = event.seconds_left
    return {"event": type(event).__name__.lower(), **values}


def planned_text(event: Planned) -> str:
    """Return what will be fetched, and where it goes."""
    license_ = f", license {event.license}" if event.license else ""
    lines = [
        f"{event.name}: {plural(event.num_files, 'file')}, {size(event.bytes_total)}{license_}, into {event.folder}"
    ]
    if event.bytes_here < event.bytes_total:
        lines.append(
            f"{size(event.bytes_here)} is here, {size(event.bytes_total - event.bytes_here)} to fetch, "
            f"{size(event.bytes_free)} free on the disk"
        )
    return "\n".join(lines)


def progress_text(event: Progress) -> str:
    """Return the live line: bytes, rate, time left, file."""
    share = 100 * event.bytes_done // max(1, event.bytes_total)
    text = f"{size(event.bytes_done)} of {size(event.bytes_total)} ({share}%)"
    if event.seconds_left is not None:
        text += f", {size(round(event.bytes_per_s))}/s, {duration(event.seconds_left)} left"
    return f"{text}  {event.file}"


def downloaded_text(event: Downloaded) -> str:
    """Return the result, and the command that starts with the model."""
    how = f"{size(event.bytes_fetched)} fetched in {duration(event.seconds)}" if event.bytes_fetched else "all was here"
    return (
        f"Complete: {size(event.bytes_total)}, every checksum is right ({how})\n"
        f"Start with it: python3 launch.py --model {event.model}"
    )
