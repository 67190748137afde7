"""Downloads that go on while the program does other work: each in a process of its own, which can be ended at any time.

The process is `python -m sala_core.hub`. What it has fetched stays, and the next one goes on there.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from sala_core.assets import ROOT
from sala_core.model.hub_cache import check_repository

DownloadStatus = Literal["starting", "running", "checking", "paused", "failed", "done"]
_END_S = 10.0


@dataclass(frozen=True, kw_only=True)
class DownloadView:
    """How far a download is."""

    name: str
    status: DownloadStatus
    bytes_done: int = 0
    bytes_total: int = 0
    """0 until it is known."""
    seconds_left: float | None = None
    note: str = ""
    """What is being waited for; "" for nothing."""
    error: str = ""
    """Why it failed, and the next step."""
    model: str = ""
    """What `--model` takes, once it is done."""

    @property
    def is_active(self) -> bool:
        """Whether a process works on it."""
        return self.status in ("starting", "running", "checking")


class Downloads:
    """The downloads of one running program. Safe to call from any thread."""

    def __init__(self) -> None:
        """Download nothing yet."""
        self._lock = threading.Lock()
        self._views: dict[str, DownloadView] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def views(self) -> list[DownloadView]:
        """All downloads of this program, the first one first."""
        with self._lock:
            return list(self._views.values())

    def start(self, name: str) -> None:
        """Begin a download, or continue one. Nothing changes for one that is under way.

        name: "org/model". Raises ModelError for a name that cannot be one.
        """
        check_repository(name)
        with self._lock:
            before = self._views.get(name)
            if before is not None and before.is_active:
                return
            view = DownloadView(name=name, status="starting")
            if before is not None:
                view = replace(view, bytes_done=before.bytes_done, bytes_total=before.bytes_total)
            process = self._processes[name] = _start(name)
            self._views[name] = view
        threading.Thread(target=self._follow, args=[name, process], name="download", daemon=True).start()

    def pause(self, name: str) -> None:
        """End the process of a download; what it has fetched stays. Nothing changes where none runs."""
        with self._lock:
            process, view = self._processes.pop(name, None), self._views.get(name)
            if process is not None and view is not None:
                self._views[name] = replace(view, status="paused", seconds_left=None, note="")
        if process is not None:
            _end(process)

    def close(self) -> None:
        """End all processes."""
        for view in self.views():
            self.pause(view.name)

    def _follow(self, name: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with suppress(ValueError):
                self._take(name, process, json.loads(line))
        code = process.wait()
        process.stdout.close()
        with self._lock:
            if self._processes.get(name) is not process:
                return  # it was paused
            del self._processes[name]
            view = self._views[name]
            if view.is_active:
                error = f"the download ended unexpectedly (exit code {code}); press Resume to go on"
                self._views[name] = replace(view, status="failed", error=error)
        _end(process)

    def _take(self, name: str, process: "subprocess.Popen[str]", event: Mapping[str, Any]) -> None:
        with self._lock:
            if self._processes.get(name) is process:
                self._views[name] = _after(self._views[name], event)


def _after(view: DownloadView, event: Mapping[str, Any]) -> DownloadView:
    """The view after an event of the process."""
    match event["event"]:
        case "planned":
            return replace(
                view, status="running", bytes_done=event["bytes_here"], bytes_total=event["bytes_total"], note=""
            )
        case "progress":
            return replace(
                view,
                status="running",
                bytes_done=event["bytes_done"],
                bytes_total=event["bytes_total"],
                seconds_left=event["seconds_left"],
                note="",
            )
        case "checking":
            return replace(view, status="checking", note=f"Comparing the checksum of {event['file']}")
        case "retrying":
            return replace(view, seconds_left=None, note="The connection was cut; it goes on by itself")
        case "waiting":
            return replace(view, note="Another process downloads this model; waiting for it")
        case "downloaded":
            done = event["bytes_total"]
            return replace(
                view, status="done", bytes_done=done, bytes_total=done, seconds_left=None, note="", model=event["model"]
            )
        case "failed":
            return replace(view, status="failed", seconds_left=None, note="", error=event["error"])
    return view


def _start(name: str) -> "subprocess.Popen[str]":
    """Start the process. It ends when the pipe to its input closes, so not later than this one."""
    environ = {**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONUTF8": "1"}  # the user has asked for a download
    return subprocess.Popen(
        [sys.executable, "-m", "sala_core.hub", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environ,
    )


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
