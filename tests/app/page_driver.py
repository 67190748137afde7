"""Drives the page like a user: starts a server, opens windows, uploads, asks, stops, and returns what is shown."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, TimeoutError, expect, sync_playwright

from app.server.app import create_app, listening_socket
from app.server.connections import limited_protocol
from app.server.key import PageKey

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MS = 30_000
CUT_SHORT = (
    "AbortError: signal is aborted",
    "Unexpected error Connection errored out",
    "Failed to load resource: net::ERR_FILE_NOT_FOUND",
)
"""Console errors after a window is closed during a stream, or after a file vanishes before it is sent."""


def find_browser() -> str | None:
    """Path of an installed Chromium, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def browser_running(executable: str) -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


_homes: dict[int, str] = {}
"""Port -> the page's address at its place, once a window has been there."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running server: its port and the token that opens it once."""

    port: int
    token: str

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def home(self) -> str:
        """The page's address for a browser that has opened it."""
        return _homes.get(self.port, self.address)


@contextmanager
def serving(workspace: Any, port: int = 0, key: PageKey | None = None) -> Iterator[Served]:
    """The real application with its guard, over `workspace`, in its own thread. port 0: any free one."""
    token = secrets.token_urlsafe(16)
    with listening_socket(port) as listener:
        bound = listener.getsockname()[1]
        app = create_app(workspace, port=bound, token=token, key=key)
        options = {"log_level": "warning", "ws": "none", "http": limited_protocol(), "timeout_graceful_shutdown": 1}
        server = uvicorn.Server(uvicorn.Config(app, **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            wait_for(lambda: server.started, "the server to start")
            yield Served(port=bound, token=token)
        finally:
            server.should_exit = True
            thread.join(timeout=20)


def wait_for(condition: Any, what: str, seconds: float = 30.0) -> None:
    """Poll until `condition()` is true. After `seconds` raises an AssertionError that names `what`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)


@dataclass
class Watch:
    """Collects faults of a browser context: console errors, exceptions, failed and external requests."""

    origin: str
    faults: list[str] = field(default_factory=list)

    def on(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.faults.append(f"exception: {error.error}"))
        context.on("request", self._request)
        context.on("response", self._response)

    def _console(self, message: Any) -> None:
        if message.type == "error" and not message.text.startswith(CUT_SHORT):
            self.faults.append(f"console: {message.text}")

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            request = response.request
            self.faults.append(f"{response.status} {request.method} {response.url} {request.post_data}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.faults.append(f"external request: {request.url}")


class Window:
    """One tab with the page in it."""

    def __init__(self, page: Page, served: Served) -> None:
        self.page = page
        self._served = served
        page.set_default_timeout(WAIT_MS)

    def open(self, session: str | None = None, *, token: bool = False) -> Window:
        query = [f"token={self._served.token}"] if token else []
        query += [f"session={quote(session)}"] if session is not None else []
        start = self._served.address if token else self._served.home
        self.page.goto(start + ("?" + "&".join(query) if query else ""))
        self.ready()
        _homes[self._served.port] = self.page.url.partition("?")[0]
        return self

    def reload(self) -> Window:
        self.page.reload()
        return self.ready()

    def ready(self) -> Window:
        self.page.locator("#title h1").wait_for()
        return self

    @property
    def title(self) -> str:
        return self.page.locator("#title h1").inner_text()

    def show(self, panel: str) -> None:
        """Show a panel of the right side, or a view of a narrow window, as its tab does."""
        self.page.locator("#tabs [role=tab]").first.wait_for(state="attached")
        self.page.evaluate("name => salaLayout.show(name)", panel)

    # Sources

    def upload(self, *files: Path) -> None:
        self.page.locator("#chosen-files").set_input_files([str(file) for file in files])

    def upload_folder(self, folder: Path) -> None:
        self.page.locator("#chosen-folder").set_input_files(str(folder))

    def drop(self, *paths: Path, on: str = "#drop") -> None:
        """Drag files and folders onto the middle of a control, as from the system's file manager."""
        if on == "#drop":
            self.show("sources")
        box = self.page.locator(on).bounding_box()
        assert box is not None
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        devtools = self.page.context.new_cdp_session(self.page)
        for kind in ("dragEnter", "dragOver", "drop"):
            devtools.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})
        devtools.detach()

    def read_path(self, path: str) -> None:
        self.show("sources")
        self.page.locator("#path textarea, #path input").fill(path)
        self.page.locator("#read-path").click()

    def agree(self, timeout_s: float = 30, *, is_asked: bool = False) -> None:
        """Press "Read" where the page asks what is to be read. A reading that has begun needs none.

        is_asked: wait for the page to ask, whatever else it shows.
        """
        dialog, begun = self.page.locator("dialog.plan-dialog[open]"), self.page.locator("#progress, #receipt, #notice")
        either = dialog.or_(begun.locator(".progress, .receipt, .notice-error"))
        expect(dialog if is_asked else either.first).to_be_attached(timeout=timeout_s * 1000)
        deadline = time.monotonic() + timeout_s
        while dialog.count() and time.monotonic() < deadline:
            with suppress(TimeoutError):  # the page may close the dialog by itself meanwhile
                dialog.get_by_role("button", name="Read", exact=True).click(timeout=1000)
            self.page.wait_for_timeout(100)
        expect(dialog).to_have_count(0, timeout=timeout_s * 1000)

    def wait_reading(self) -> None:
        """Wait until progress with tokens is shown."""
        self.agree()
        expect(self.page.locator("#progress .percent")).to_be_visible(timeout=WAIT_MS)

    def percent(self) -> int:
        return int(self.page.locator("#progress .percent").inner_text().rstrip("%"))

    def wait_read(self, timeout_s: float = 60) -> str:
        """Wait until the receipt is shown, and return its text."""
        receipt = self.page.locator("#receipt .receipt")
        self.agree()
        self.show("sources")
        expect(receipt).to_be_visible(timeout=timeout_s * 1000)
        return receipt.inner_text()

    def stop_reading(self) -> None:
        self.page.locator("#stop-reading").click()

    def documents(self) -> list[str]:
        return self.page.locator("#documents li .doc").all_inner_texts()

    # Conversation

    def ask(self, question: str) -> None:
        if self.page.locator("#title .title-none").count():
            self.page.locator("#new-session").click()
            expect(self.page.locator("#title .title-none")).to_have_count(0)
        box = self.page.locator("#question textarea")
        box.fill(question)
        box.press("Enter")

    def live_text(self) -> str:
        shown: str = self.page.evaluate("document.querySelector('#live .message')?.innerText ?? ''")
        return shown.strip()

    def wait_streaming(self, num_chars: int = 1) -> str:
        wait_for(lambda: len(self.live_text()) >= num_chars, "the answer to stream")
        return self.live_text()

    def stop(self) -> None:
        self.page.locator("#stop").click()

    def wait_answers(self, number: int, timeout_s: float = 60) -> list[str]:
        """Wait until there are `number` finished answers and no job runs. Returns their texts."""
        expect(self.answers()).to_have_count(number, timeout=timeout_s * 1000)
        expect(self.page.locator("#send")).to_be_visible(timeout=timeout_s * 1000)
        return self.answers().all_inner_texts()

    def answers(self) -> Any:
        return self.page.locator("#history .bot-row .message")

    def questions(self) -> list[str]:
        return self.page.locator("#history .user-row .message").all_inner_texts()

    def evidence(self) -> list[str]:
        return self.page.locator("#evidence .place").all_inner_texts()

    # Sessions

    def session_names(self) -> list[str]:
        labels: Sequence[str] = self.page.locator("#sessions label").all_inner_texts()
        return [label.strip().split("\n")[0] for label in labels]

    def open_session(self, name: str) -> None:
        label = self.page.locator("#sessions label", has_text=re.compile(rf"^\s*{re.escape(name)}\n"))
        label.click()
        expect(self.page.locator("#title h1")).to_have_text(name)

    def toast(self) -> str:
        return self.page.locator("#toast .toast").inner_text()
