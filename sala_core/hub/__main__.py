"""The process of one download for `sala_core.hub.background`: prints its events as lines of JSON."""

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from sala_core.errors import SalaError
from sala_core.hub.download import download
from sala_core.hub.records import DownloadEvent, Progress

_INTERVAL_S = 0.3


class _Report:
    """Prints events; those of progress a few times a second, and the last one."""

    def __init__(self) -> None:
        self._printed_at = float("-inf")

    def __call__(self, event: DownloadEvent) -> None:
        values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(event).items()}
        if isinstance(event, Progress):
            if event.bytes_done < event.bytes_total and time.monotonic() - self._printed_at < _INTERVAL_S:
                return
            self._printed_at = time.monotonic()
            values["seconds_left"] = event.seconds_left
        print(json.dumps({"event": type(event).__name__.lower(), **values}), flush=True)


def _end_with_the_program() -> None:
    """End this process when the other end of its input is closed."""
    sys.stdin.buffer.read()
    os._exit(1)


def main(name: str) -> int:
    """Download the model `name`. Returns the exit code."""
    threading.Thread(target=_end_with_the_program, daemon=True).start()
    try:
        download(name, report=_Report())
    except SalaError as error:
        print(json.dumps({"event": "failed", "error": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
