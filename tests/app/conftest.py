"""Makes this folder's helper modules importable by its tests, and opens windows with the page in a browser."""

import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    from page_driver import browser_running, find_browser

    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium is installed")
    with browser_running(executable) as running:
        yield running


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace without a model; what it makes is below the test's folder."""
    from fake_workspace import FakeWorkspace

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    workspace = FakeWorkspace()
    yield workspace
    workspace.close()


@pytest.fixture
def served(workspace):
    """The application over the workspace, at a port."""
    from page_driver import serving

    with serving(workspace) as running:
        yield running


@pytest.fixture
def context(browser, served):
    """A browser context in which nothing may go wrong."""
    from page_driver import Watch

    context = browser.new_context(viewport={"width": 1440, "height": 900})
    watch = Watch(served.address)
    watch.on(context)
    yield context
    context.close()
    assert watch.faults == []


@pytest.fixture
def window(context, served):
    """A window with the page."""
    from page_driver import Window

    return Window(context.new_page(), served).open(token=True)


@pytest.fixture
def book(tmp_path):
    """A text file."""
    path = tmp_path / "novel.txt"
    path.write_text("The carriage waited in the rain.\n" * 50, encoding="utf-8")
    return path
