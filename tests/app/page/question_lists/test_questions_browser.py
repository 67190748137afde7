"""First questions, templates, question lists, exports and long conversations in headless Chromium."""

import csv
import io
import json
import re

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from fake_workspace import NOVEL, FakeMessage, Script
from page_driver import wait_for
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

STORY = (
    "“Where is the key?” said Clara Vane to the old man. “It is in the house,” he answered Clara Vane. In the evening "
    "he saw Clara Vane at Thornfield, and the dogs were at Thornfield too, and that was all of it.\n\n"
) * 6


@pytest.fixture
def read_window(window, workspace, book, monkeypatch):
    """A window with a session in which a story is read."""
    workspace.script = Script(reading_s=0.1, token_s=0.01)
    row = workspace.new_session("Story")
    job = workspace.submit_read(row.id, [book])
    wait_for(lambda: workspace.job(job).status == "done", "the reading")
    for document in workspace.library.texts.values():
        object.__setattr__(document, "text", STORY)
    window.open("Story")
    return window


def test_a_first_question_is_asked_by_a_click(read_window):
    page = read_window.page
    proposed = page.get_by_role("region", name="First questions").get_by_role("button")
    expect(proposed.first).to_be_visible()
    assert set(proposed.all_inner_texts()) == {"Who is Clara Vane?", "What happens at Thornfield?"}
    proposed.first.click()
    read_window.wait_answers(1)
    assert read_window.questions() == ["Who is Clara Vane?"]
    expect(proposed).to_have_count(0)


def test_templates_fill_the_box_and_the_users_own_are_kept(read_window):
    page = read_window.page
    page.get_by_role("button", name="Questions", exact=True).click()
    dialog = page.get_by_role("dialog", name="Questions")
    dialog.get_by_label("New template").fill("What does ... cost?")
    dialog.get_by_role("button", name="Add").click()
    expect(dialog.get_by_role("button", name="What does ... cost?")).to_be_visible()
    dialog.get_by_label("New template").fill("  ")
    dialog.get_by_role("button", name="Add").click()
    expect(dialog.get_by_role("alert")).to_contain_text("a template needs words")
    dialog.get_by_role("button", name="Where is ... defined?").click()
    box = page.locator("#question textarea")
    expect(box).to_have_value("Where is ... defined?")
    expect(box).to_be_focused()
    page.keyboard.type("the key")
    expect(box).to_have_value("Where is the key defined?")
    read_window.reload()
    page.get_by_role("button", name="Questions", exact=True).click()
    expect(dialog.get_by_role("button", name="What does ... cost?")).to_be_visible()
    dialog.get_by_role("listitem").filter(has_text="What does ... cost?").get_by_role("button", name="Remove").click()
    expect(dialog.get_by_role("button", name="What does ... cost?")).to_have_count(0)


def test_a_list_is_answered_stopped_continued_and_saved(read_window, workspace, tmp_path):
    page = read_window.page
    questions = tmp_path / "mine.csv"
    questions.write_text("question\n" + "".join(f"What is {n}?\n" for n in range(30)))
    workspace.script.token_s = 0.1
    page.get_by_role("button", name="Questions", exact=True).click()
    dialog = page.get_by_role("dialog", name="Questions")
    dialog.locator("#chosen-list").set_input_files(str(questions))
    expect(dialog.get_by_text("being answered")).to_be_visible()
    dialog.get_by_role("button", name="Stop").click()
    expect(dialog.get_by_text(re.compile(r"\d+ of 30 answered, stopped"))).to_be_visible()
    workspace.script.token_s = 0.0
    dialog.get_by_role("button", name="Continue").click()
    expect(dialog.get_by_text("30 of 30 answered, finished")).to_be_visible()
    dialog.get_by_text("Answers", exact=True).click()
    expect(dialog.locator("tbody tr")).to_have_count(30)
    expect(dialog.locator("tbody tr").first).to_contain_text("novel.txt, line 1")
    saved = {}
    for name in ("CSV", "Markdown", "JSON lines"):
        with page.expect_download() as download:
            dialog.get_by_role("link", name=name).click()
        saved[download.value.suggested_filename] = download.value.path().read_text(encoding="utf-8-sig")
    assert set(saved) == {"mine answers.csv", "mine answers.md", "mine answers.jsonl"}
    rows = list(csv.DictReader(io.StringIO(saved["mine answers.csv"])))
    assert [row["question"] for row in rows] == [f"What is {n}?" for n in range(30)]
    assert len(saved["mine answers.jsonl"].splitlines()) == 30
    assert read_window.questions() == []


def test_a_conversation_is_exported_in_three_formats(read_window):
    page = read_window.page
    read_window.ask("What of the carriage?")
    read_window.wait_answers(1)
    page.get_by_role("button", name="Export", exact=True).click()
    saved = {}
    for name in ("Markdown", "HTML", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("dialog").get_by_role("link", name=name, exact=True).click()
        saved[download.value.suggested_filename] = download.value.path().read_text(encoding="utf-8")
    assert set(saved) == {"Story.md", "Story.html", "Story.json"}
    assert "novel.txt, lines 120–122" in saved["Story.md"]
    assert "novel.txt, lines 120–122" in saved["Story.html"]
    assert "<script" not in saved["Story.html"]
    assert json.loads(saved["Story.json"])["messages"][1]["evidence"][0]["line_start"] == 120


def test_a_long_conversation_holds_its_end_and_shows_the_rest_on_demand(window, workspace):
    row = workspace.new_session("Long")
    workspace.library.talk[row.id] = [
        FakeMessage(
            id=f"m{n}", role="assistant" if n % 2 else "user", text=f"{'Answer' if n % 2 else 'Question'} {n // 2}"
        )
        for n in range(400)
    ]
    row.num_messages = 400
    window.open("Long")
    turns = window.page.locator("#history .turn")
    expect(turns).to_have_count(80)
    expect(turns.first).to_have_text("Question 160")
    earlier = window.page.get_by_role("button", name="Show earlier turns")
    for number, first in ((140, "Question 130"), (200, "Question 100")):
        earlier.click()
        expect(turns).to_have_count(number)
        expect(turns.first).to_have_text(first)
    expect(earlier).to_have_count(1)
    window.page.locator("#new-session").click()
    expect(window.page.locator("#title h1")).to_have_text("Untitled")
    window.open_session("Long")
    expect(turns).to_have_count(80)


def test_asking_while_scrolled_up_shows_the_end(window, workspace):
    workspace.script = Script(answer=NOVEL[:6000], token_s=0.0005)
    window.ask("All of it?")
    window.wait_answers(1)
    scroller = window.page.locator("#scroller")
    scroller.evaluate("one => one.scrollTo({ top: -one.scrollHeight })")
    workspace.script = Script(answer="Yes.", token_s=0.01)
    window.ask("And now?")
    window.wait_answers(2)
    expect(window.page.locator("#history .user-row").last).to_be_in_viewport()
