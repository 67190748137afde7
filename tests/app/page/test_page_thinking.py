"""Thinking on the page in headless Chromium: its switch, its time, and that it is no part of the answer."""

import re
from dataclasses import replace

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from fake_workspace import Script
from page_driver import wait_for
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

THOUGHT = " ".join(f"Perhaps {n} carriages waited, but the text names one." for n in range(8))
ANSWER = "One carriage waited in the rain." + " It waited for a long time." * 12


@pytest.fixture
def thinker(window, workspace):
    """A window on a model that thinks."""
    workspace.info = replace(workspace.info, thinks_by_default=True, is_demonstration=False)
    workspace.script = Script(thinking=THOUGHT, answer=ANSWER, thinking_end="budget", finish_reason="repetition")
    return window


def test_thinking_is_collapsed_and_timed_while_it_goes_on_and_afterwards(thinker):
    page = thinker.page
    thinker.ask("How many?")
    live = page.locator("#live .thinking")
    words, summary = live.locator(".thought"), live.locator("summary")
    expect(summary).to_have_text(re.compile("Thinking for "))
    expect(words).to_be_hidden()
    summary.click()
    expect(words).to_contain_text("Perhaps 0 carriages")
    wait_for(lambda: "Thinking for 1 s" in summary.inner_text(), "the time to go on")
    expect(words).to_be_visible()
    expect(summary).to_have_text(re.compile("Thought for "))
    thinker.wait_answers(1)
    for _ in range(2):
        thought = page.locator("#history .thinking")
        words = thought.get_by_text("Perhaps 0 carriages")
        expect(thought).to_have_count(1)
        expect(thought).to_contain_text(re.compile(r"Thought for \d s, up to its limit"))
        expect(words).to_be_hidden()
        expect(page.locator("#history .ending")).to_contain_text("because the model only repeated itself")
        thought.locator("summary").click()
        expect(words).to_be_visible()
        thinker.reload()


def test_the_copy_button_takes_the_answer_without_its_thinking(thinker, context):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    thinker.ask("How many?")
    thinker.wait_answers(1)
    button = thinker.page.get_by_role("button", name="Copy answer")
    button.click()
    expect(thinker.page.get_by_role("button", name="Copied")).to_be_visible()
    assert thinker.page.evaluate("navigator.clipboard.readText()") == ANSWER


def test_the_switch_and_the_budget_are_sent_with_the_question_and_named(thinker, workspace):
    page = thinker.page
    page.locator("#settings").click()
    expect(page.locator("#set-thinking")).to_contain_text("As the model has it (think first)")
    budget = page.locator("#set-thinking-budget textarea, #set-thinking-budget input")
    assert budget.get_attribute("placeholder") == "8,192 tokens"
    budget.fill("2,000")
    page.get_by_label("Answer at once").check()
    page.locator("#save-settings").click()
    note = "Answers with no thinking · at most 2,000 tokens of thinking"
    expect(page.locator("#settings-note")).to_have_text(note)
    thinker.ask("How many?")
    thinker.wait_answers(1)
    assert workspace.calls[-1] == ("ask", {"think": False, "thinking_budget": 2000})
    thinker.reload()
    page.locator("#settings").click()
    expect(page.get_by_label("Answer at once")).to_be_checked()
    expect(budget).to_have_value("2000")


def test_a_model_that_cannot_think_has_no_switch_and_is_sent_none(thinker, workspace):
    page = thinker.page
    page.locator("#settings").click()
    page.get_by_label("Think first", exact=True).check()
    page.locator("#save-settings").click()
    expect(page.locator("#settings-note")).to_have_text("Answers with thinking")
    workspace.info = replace(workspace.info, thinks_by_default=None)
    thinker.reload()
    expect(page.locator("#settings-note .hint")).to_have_count(0)
    page.locator("#settings").click()
    expect(page.locator("#set-seed")).to_be_visible()
    expect(page.locator("#set-thinking")).to_be_hidden()
    expect(page.locator("#set-thinking-budget")).to_be_hidden()
    page.locator("#close-settings").click()
    thinker.ask("How many?")
    thinker.wait_answers(1)
    assert workspace.calls[-1] == ("ask", {})
