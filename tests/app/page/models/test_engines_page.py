"""Engines elsewhere in “Models”: found, chosen by one click, answered by, and left again; with a real server."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from page_driver import WAIT_MS, Watch, Window, serving
from playwright.sync_api import expect

from sala_core.remote import found
from sala_core.session.workspace import Workspace

sys.path.append(str(Path(__file__).resolve().parents[3] / "sala_core"))
from engine_server import DONE, EngineServer, chunk, running, usage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
TEXT = "The ferry leaves at nine.\n\nThe ferryman of Tavelun is called Osrik. He never rows at night.\n"


@pytest.fixture(scope="module")
def engine():
    state = EngineServer(models=[{"id": "toy-8b", "owned_by": "vllm", "max_model_len": 2048}])
    words = ('He is called Osrik: "The ferryman of Tavelun ', 'is called Osrik." [1]')
    state.events = [*(chunk(word) for word in words), chunk(reason="stop"), usage(400, 9, 0), DONE]
    with running(state):
        yield state


@pytest.fixture(scope="module")
def window(browser, engine, tmp_path_factory):
    """A window of the program with the embedded model and an engine at a well-known port."""
    folder = tmp_path_factory.mktemp("engines")
    (folder / "town.txt").write_text(TEXT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(found, "PORTS", {engine.port: "vLLM"})
        patch.setattr(found.engines_here, "__defaults__", ({engine.port: "vLLM"},))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        workspace = Workspace(folder / "library", "embedded", "cpu")
        with serving(workspace) as served:
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            watch = Watch(served.address)
            watch.on(context)
            window = Window(context.new_page(), served).open(token=True)
            window.upload(folder / "town.txt")
            window.wait_read()
            yield window
            context.close()
        workspace.close()
        assert watch.faults == []


def test_an_engine_is_chosen_by_one_click_answers_from_passages_and_is_left_again(window, engine):
    expect.set_options(timeout=WAIT_MS)
    page = window.page
    page.get_by_role("button", name="Models", exact=True).click()
    section = page.get_by_role("region", name="Engines on this machine")
    expect(section.get_by_role("heading", name="Engines on this machine")).to_be_visible()
    expect(section).to_contain_text("context of 2,048 tokens")
    section.get_by_role("button", name="Use toy-8b").click()
    chosen = page.get_by_role("region", name="Engine that writes the answers")
    expect(chosen).to_contain_text("Writes the answers")
    chosen.get_by_label("It gets").select_option("passages")
    expect(chosen).to_contain_text("checked here, word for word")
    page.get_by_role("button", name="Close").first.click()
    expect(page.locator("#model")).to_contain_text("toy-8b at 127.0.0.1")

    window.ask("What is the ferryman of Tavelun called?")
    window.wait_answers(1)
    answer = page.locator("#history")
    expect(answer).to_contain_text("Answered by toy-8b at 127.0.0.1")
    expect(answer).to_contain_text("that the reader found, not from the whole text")
    expect(answer).to_contain_text("1 of 1 quotation stands word for word in the text; this was checked here.")
    expect(answer).to_contain_text("Read again: 400, reused: 0.")
    expect(answer.locator(".written-by")).to_have_count(1)
    window.show("Evidence")
    expect(page.locator("#evidence")).to_contain_text("toy-8b was given")

    page.get_by_role("button", name="Models", exact=True).click()
    section = page.get_by_role("region", name="Engines on this machine")
    section.get_by_label("Address of another engine").fill("127.0.0.1:1")
    section.get_by_role("button", name="Look").click()
    expect(section.get_by_role("alert")).to_contain_text("no server answers at 127.0.0.1:1")
    section.get_by_label("Address of another engine").fill(f"localhost:{engine.port}/v1")
    section.get_by_role("button", name="Look").click()
    expect(section).to_contain_text(f"vLLM at http://localhost:{engine.port}")
    section.get_by_role("button", name="Let the model here answer").click()
    expect(section.get_by_role("button", name="Use toy-8b").first).to_be_visible()
    page.get_by_role("button", name="Close").first.click()
    expect(page.locator("#model")).not_to_contain_text("toy-8b")


def test_an_engine_that_fails_leaves_the_question_to_be_asked_again(window, engine):
    expect.set_options(timeout=WAIT_MS)
    page = window.page
    page.get_by_role("button", name="Models", exact=True).click()
    page.get_by_role("button", name="Use toy-8b").click()
    expect(page.get_by_role("region", name="Engine that writes the answers")).to_be_visible()
    page.get_by_role("button", name="Close").first.click()
    engine.status, engine.body = 503, '{"error": {"message": "Loading model"}}'
    before = len(window.answers().all()) if hasattr(window.answers(), "all") else 1
    window.ask("When does the ferry leave?")
    expect(page.locator("#notice")).to_contain_text("Loading model")
    engine.status = 200
    window.ask("When does the ferry leave?")
    window.wait_answers(before + 1)
