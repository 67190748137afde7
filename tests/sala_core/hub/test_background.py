"""Downloads in processes of their own: progress, pause at half of the bytes, resume, refusals."""

import threading
import time

import pytest
from local_hub import MODEL

from sala_core.errors import ModelError
from sala_core.hub.background import Downloads


@pytest.fixture
def downloads(hub, tmp_path, monkeypatch):
    """Downloads whose processes talk to the hub of the test, with a cache of their own."""
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # as the page has it
    running = Downloads()
    yield running
    running.close()


def until(downloads, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition(view := downloads.views()[0]):
        assert time.monotonic() < deadline, view
        time.sleep(0.02)
    return view


def test_a_download_is_paused_at_half_and_goes_on_there(hub, downloads, tmp_path):
    hub.gate = threading.Event()
    downloads.start(MODEL)
    downloads.start(MODEL)  # is under way already
    half = until(downloads, lambda view: view.status == "running" and view.bytes_done > 1_000_000)
    assert 0 < half.bytes_done < half.bytes_total
    downloads.pause(MODEL)
    assert downloads.views()[0].status == "paused"
    hub.gate.set()
    sent = hub.bytes_sent["model.safetensors"]
    downloads.start(MODEL)
    done = until(downloads, lambda view: not view.is_active)
    assert (done.status, done.error, done.model) == ("done", "", MODEL)
    assert done.bytes_done == done.bytes_total == half.bytes_total
    again = hub.bytes_sent["model.safetensors"] - sent
    assert again < 0.75 * len(hub.models[MODEL]["model.safetensors"]), "it went on where it had stopped"
    assert list((tmp_path / "cache").glob("models--org--tiny/snapshots/*/config.json"))


def test_a_refusal_says_why_and_what_to_do(hub, downloads):
    downloads.start("org/nothing")
    failed = until(downloads, lambda view: not view.is_active)
    assert failed.status == "failed"
    assert "org/nothing" in failed.error
    with pytest.raises(ModelError):
        downloads.start("no model name")
