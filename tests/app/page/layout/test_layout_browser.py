"""The page's regions, keyboard and accessibility in headless Chromium; most tests share one window."""

import json
import os
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from fake_workspace import FakeWorkspace, Script
from page_driver import Watch, Window, serving, wait_for
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 400, "height": 780}
FORMULAS = "Euler: $e^{i\\pi} = -1$.\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n```python\ndef f(x):\n    return x\n```\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A program with a session that was read and asked twice."""
    folder = tmp_path_factory.mktemp("layout")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        workspace = FakeWorkspace(Script(reading_s=0.1, token_s=0.001))
        book = folder / "novel.txt"
        book.write_text("The carriage waited in the rain.\n" * 50)
        row = workspace.new_session("Novel")
        for submit in (
            lambda: workspace.submit_read(row.id, [book]),
            lambda: workspace.submit_ask(row.id, "What of the carriage?"),
            lambda: workspace.submit_ask(row.id, "And the formula?"),
        ):
            job = submit()
            wait_for(lambda job=job: workspace.job(job).status == "done", "the job")
            workspace.script = Script(answer=FORMULAS, thinking="It is **known**.", token_s=0.001)
        workspace.new_session("Other")
        yield workspace
        workspace.close()


@pytest.fixture(scope="module")
def shared_window(browser, program):
    """One window for the tests that leave it as it was. Nothing may go wrong in it, to the last test."""
    with serving(program) as served:
        context = browser.new_context(viewport=WIDE)
        watch = Watch(served.address)
        watch.on(context)
        window = Window(context.new_page(), served).open(token=True)
        yield window
        context.close()
        assert watch.faults == []


@pytest.fixture
def window(shared_window):
    """The shared window at its full width, with the session "Novel" and no dialog."""
    page = shared_window.page
    page.set_viewport_size(WIDE)
    for _ in range(page.locator("dialog[open]").count()):
        page.keyboard.press("Escape")
    shared_window.show("sessions")
    shared_window.open_session("Novel")
    shared_window.wait_answers(2)
    return shared_window


def focused(page):
    """Id of the focused control, or of the first part around it that has one."""
    return page.evaluate("document.activeElement.closest('[id]')?.id ?? ''")


def in_view(page, selector):
    box, size = page.locator(selector).bounding_box(), page.viewport_size
    return box is not None and box["y"] >= 0 and box["y"] + box["height"] <= size["height"]


def test_the_page_has_its_landmarks(window):
    for role, name in (
        ("banner", None),
        ("navigation", "Sessions"),
        ("main", "Conversation"),
        ("complementary", "Evidence and sources"),
    ):
        region = window.page.get_by_role(role, name=name) if name else window.page.get_by_role(role)
        expect(region).to_have_count(1)
        expect(region).to_be_visible()


def test_the_right_side_shows_one_panel_at_a_time(window):
    page = window.page
    tab = page.get_by_role("tab", name="Sources", exact=True)
    tab.click()
    expect(page.locator("#panel-sources")).to_be_visible()
    expect(page.locator("#panel-evidence")).to_be_hidden()
    expect(tab).to_have_attribute("aria-selected", "true")
    tab.press("Home")
    expect(page.get_by_role("tab", name="Evidence", exact=True)).to_be_focused()
    expect(page.locator("#panel-evidence")).to_be_visible()


def test_at_400_pixels_the_question_box_is_in_view_and_the_rest_behind_tabs(window):
    page = window.page
    page.set_viewport_size(NARROW)
    window.show("talk")
    assert page.get_by_role("tab").all_inner_texts() == ["Conversation", "Sessions", "Evidence", "Source", "Sources"]
    for view, shown in (
        ("Conversation", "#scroller"),
        ("Sessions", "#nav"),
        ("Evidence", "#panel-evidence"),
        ("Sources", "#panel-sources"),
    ):
        page.get_by_role("tab", name=view, exact=True).click()
        expect(page.locator(shown)).to_be_visible()
        assert in_view(page, "#question textarea"), view
        assert in_view(page, "#send"), view
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
    page.get_by_role("tab", name="Sessions", exact=True).click()
    window.open_session("Other")
    expect(page.locator("#scroller")).to_be_visible()
    window.show("sessions")
    window.open_session("Novel")


def test_keys_open_search_focus_and_close(window):
    page = window.page
    page.locator("#history .turn").last.focus()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keyboard")
    expect(keys).to_be_visible()
    for words in ("New session", "Search the sessions", "Go to the question box", "Send the question"):
        expect(keys.get_by_text(words, exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.keyboard.press("s")
    assert focused(page) == "search"
    page.keyboard.type("s/?")
    assert page.locator("#search :is(textarea, input)").input_value() == "s/?"
    page.locator("#search :is(textarea, input)").fill("")
    page.locator("#history .turn").last.focus()
    page.keyboard.press("/")
    assert focused(page) == "question"
    page.keyboard.press("Control+k")
    assert focused(page) == "search"


def test_single_keys_can_be_switched_off(window):
    page = window.page
    page.locator("#show-keys").click()
    box = page.get_by_role("checkbox", name="Single keys outside of fields")
    box.uncheck()
    page.keyboard.press("Escape")
    page.locator("#history .turn").last.focus()
    page.keyboard.press("/")
    assert focused(page) != "question"
    page.locator("#show-keys").click()
    box.check()
    page.keyboard.press("Escape")


def test_escape_closes_a_form_wherever_the_focus_is(window):
    page = window.page
    page.locator("#rename").click()
    expect(page.locator("#rename-form")).to_be_visible()
    page.locator("#question textarea").focus()
    page.keyboard.press("Escape")
    expect(page.locator("#rename-form")).to_be_hidden()


def test_tab_leaves_the_answers_soon_and_arrows_choose_a_turn(window):
    page = window.page
    page.locator("#history .turn").last.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    expect(page.locator("#history .turn").first).to_be_focused()
    page.keyboard.press("ArrowDown")
    turns = page.locator("#history .talk > .turn")
    expect(turns.nth(1)).to_be_focused()
    stops = 0
    while page.evaluate("document.activeElement.closest('#history') !== null"):
        page.keyboard.press("Tab")
        stops += 1
        assert stops <= 16
    inside = turns.nth(1).locator("a[href], button, summary, [tabindex]").count()
    assert stops <= inside + 1
    assert page.evaluate("document.querySelector('#history .turn:last-child button').tabIndex") == -1


def test_focus_is_visible_on_every_kind_of_control(window):
    page = window.page
    for selector in ("#new-session", "#tabs [role=tab][tabindex='0']", "#send", "#history .turn:last-child"):
        page.locator("#question textarea").focus()
        page.locator(selector).first.focus()
        page.keyboard.press("Shift")  # from now on focus is shown as for the keyboard
        style = page.locator(selector).first.evaluate(
            "one => [getComputedStyle(one).outlineStyle, parseFloat(getComputedStyle(one).outlineWidth)]"
        )
        assert style[0] == "solid", selector
        assert style[1] >= 2, selector


def test_markdown_formulas_code_and_thinking_are_shown(window):
    answer = window.page.locator("#history .bot-row").last
    expect(answer.locator(".katex").first).to_be_visible()
    assert answer.locator("td").all_inner_texts() == ["1", "2"]
    expect(answer.locator(".code .copy")).to_have_text("Copy")
    thinking = answer.locator("details.thinking")
    assert thinking.evaluate("one => one.open") is False
    assert re.match(r"Thought for ", thinking.locator("summary").inner_text())
    thinking.locator("summary").click()
    expect(thinking.locator("strong")).to_have_text("known")
    thinking.locator("summary").click()


def test_a_message_ends_with_what_it_tells(window):
    page = window.page
    window.read_path("not/a/full/path")
    toast = page.locator("#toast .toast")
    expect(toast).to_be_visible()
    page.wait_for_timeout(1700)
    window.open_session("Other")
    expect(toast).to_be_hidden()
    window.open_session("Novel")
    window.read_path("also/not/full")
    expect(toast).to_be_visible()
    page.keyboard.press("Escape")
    expect(toast).to_be_hidden()


def test_a_reading_and_an_answer_are_announced_in_few_words(window, program, tmp_path):
    page = window.page
    page.evaluate(
        "window.told = []; salaLayout.announce(' '); const box = document.getElementById('announcer');"
        "new MutationObserver(() => told.push(box.textContent))"
        ".observe(box, { childList: true, characterData: true, subtree: true })"
    )
    window.open_session("Other")
    program.script = Script(reading_s=2.0, token_s=0.01)
    more = tmp_path / "more.txt"
    more.write_text("More of it.\n")
    window.read_path(str(more))
    window.wait_read()
    wait_for(lambda: page.wait_for_timeout(50) or any("finished" in each for each in page.evaluate("told")), "words")
    window.ask("What of the rain?")
    window.wait_answers(1)
    wait_for(lambda: page.wait_for_timeout(50) or page.evaluate("told").pop().startswith("Answer: "), "the answer")
    told = page.evaluate("told")
    assert re.match(r"Reading, \d+%", told[0].strip() or told[1])
    assert len(told) <= 8
    assert page.locator("#announcer").get_attribute("aria-live") == "polite"


def axe_file(root):
    """axe-core, as npm installs it into the repository or above it, or at `AXE_CORE`; None if it is not there."""
    candidates = [folder / "node_modules" / "axe-core" / "axe.min.js" for folder in (root, *root.parents)]
    if "AXE_CORE" in os.environ:
        candidates.insert(0, Path(os.environ["AXE_CORE"]))
    return next((file for file in candidates if file.is_file()), None)


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", WIDE), ("light", NARROW)])
def test_axe_finds_nothing_serious(browser, program, root, scheme, size):
    file = axe_file(root)
    if file is None:
        pytest.skip("axe-core is not installed: npm install --no-save axe-core")
    with serving(program) as served:
        context = browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=True)
        window = Window(context.new_page(), served).open("Novel", token=True)
        window.wait_answers(2)
        page = window.page
        page.evaluate(file.read_text(encoding="utf-8"))
        found = []
        views = ["talk", "sessions", "evidence"] if size is NARROW else ["sources", "evidence"]
        for view in [*views, *(["#show-keys"] if scheme == "light" else []), "#open-questions"]:
            if view.startswith("#"):
                window.show("talk")
                page.locator(view).click()
                page.wait_for_timeout(300)
            else:
                window.show(view)
            for violation in page.evaluate("axe.run(document)")["violations"]:
                if violation["impact"] in ("serious", "critical"):
                    nodes = [(node["target"], node["failureSummary"]) for node in violation["nodes"][:3]]
                    found.append((view, violation["id"], nodes))
            if view.startswith("#"):
                page.keyboard.press("Escape")
        context.close()
    assert found == [], json.dumps(found, indent=1)
