"""Forking, answer settings and free space in headless Chromium."""

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from page_driver import Window, wait_for
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

FIELDS = ("temperature", "top-p", "max-tokens", "seed")


def field(window, name):
    return window.page.locator(f"#set-{name} textarea, #set-{name} input")


def set_answers(window, **values):
    """Open the settings, fill in, save."""
    window.page.locator("#settings").click()
    expect(window.page.locator("#settings-form")).to_be_visible()
    for name, value in values.items():
        field(window, name.replace("_", "-")).fill(value)
    window.page.locator("#save-settings").click()


def test_a_fork_is_opened_shares_what_was_read_and_has_its_own_turns(window, workspace, book):
    window.upload(book)
    window.wait_read()
    window.ask("First?")
    window.wait_answers(1)
    window.page.locator("#fork").click()
    expect(window.page.locator("#title h1")).to_have_text("novel (copy)")
    assert "nothing is read twice" in window.toast()
    expect(window.page).to_have_url(re.compile(r"session=novel"))
    assert window.documents() == ["novel.txt"]
    assert window.questions() == ["First?"]
    window.ask("Second?")
    window.wait_answers(2)
    assert window.reload().title == "novel (copy)"
    window.open_session("novel")
    assert window.questions() == ["First?"]
    window.page.locator("#fork").click()
    expect(window.page.locator("#title h1")).to_have_text("novel (copy 2)")


def test_settings_apply_to_the_next_question_in_every_window_and_after_a_reload(window, workspace, context, served):
    set_answers(window, temperature="0,7", max_tokens="1,000", seed="42")
    expect(window.page.locator("#settings-form")).to_be_hidden()
    note = "Answers with temperature 0.7 · at most 1,000 tokens · seed 42"
    expect(window.page.locator("#settings-note")).to_have_text(note)
    window.ask("So?")
    window.wait_answers(1)
    assert workspace.calls[-1] == ("ask", {"temperature": 0.7, "max_tokens": 1000, "seed": 42})
    second = Window(context.new_page(), served).open()
    expect(second.page.locator("#settings-note")).to_have_text(note)
    set_answers(second, seed="")
    expect(window.page.locator("#settings-note")).to_have_text(note.removesuffix(" · seed 42"))
    window.reload()
    window.page.locator("#settings").click()
    expect(field(window, "temperature")).to_have_value("0.7")
    expect(field(window, "max-tokens")).to_have_value("1000")
    window.page.locator("#reset-settings").click()
    expect(window.page.locator("#settings-note .hint")).to_have_count(0)
    window.ask("And now?")
    window.wait_answers(2)
    assert workspace.calls[-1] == ("ask", {})


def test_the_models_own_values_are_placeholders_and_each_field_has_a_label(window):
    window.page.locator("#settings").click()
    placeholders = [field(window, name).get_attribute("placeholder") for name in FIELDS]
    assert placeholders == ["0", "1", "512 tokens", "random"]
    for label in ("Temperature", "Top-p", "Longest answer", "Seed"):
        expect(window.page.get_by_label(label, exact=True)).to_be_visible()


def test_an_invalid_setting_is_reported_and_the_typed_text_stays(window, workspace):
    set_answers(window, temperature="<b>hot</b>", seed="3")
    expect(window.page.get_by_role("alert")).to_have_text(
        "Temperature must be a number from 0 to 2; “<b>hot</b>” is none."
    )
    expect(field(window, "temperature")).to_have_value("<b>hot</b>")
    field(window, "temperature").fill("1.2")
    field(window, "temperature").press("Enter")
    expect(window.page.locator("#settings-note")).to_contain_text("temperature 1.2 · seed 3")


def test_escape_hides_the_form_and_stores_nothing(window, workspace):
    window.page.locator("#settings").click()
    field(window, "seed").fill("9")
    field(window, "seed").press("Escape")
    expect(window.page.locator("#settings-form")).to_be_hidden()
    window.page.locator("#settings").click()
    expect(field(window, "seed")).to_have_value("")


def test_rendering_the_page_again_keeps_typed_text(window, workspace, book):
    workspace.script.reading_s = 1
    window.upload(book)
    window.page.locator("#settings").click()
    field(window, "seed").fill("123")
    window.wait_read()
    expect(field(window, "seed")).to_have_value("123")


def test_rendering_the_page_again_keeps_a_form_of_its_session_open(window, workspace):
    row = workspace.new_session("Alpha")
    window.open("Alpha")
    window.page.locator("#rename").click()
    expect(window.page.locator("#rename-form")).to_be_visible()
    other = workspace.new_session("While the form is open")
    wait_for(lambda: other.name in window.session_names(), "the page to be rendered again")
    expect(window.page.locator("#rename-form")).to_be_visible()
    workspace.library.delete_session(row.id)
    expect(window.page.locator("#rename-form")).to_be_hidden()


def test_space_is_freed_after_confirmation_and_the_session_is_read_again(window, workspace, book):
    window.upload(book)
    window.wait_read()
    workspace.library.left_over_bytes = 12_000_000
    window.page.locator("#free-space").click()
    choice = window.page.locator("#space-choice")
    expect(choice.get_by_label(re.compile("Left over"))).to_be_checked()
    expect(choice.get_by_label(re.compile("novel"))).not_to_be_checked()
    button = window.page.locator("#confirm-free")
    expect(button).to_have_text("Free 12 MB")
    window.page.locator("#keep-space").click()
    expect(window.page.locator("#space-form")).to_be_hidden()
    assert workspace.library.session("novel").position == 48_000

    window.page.locator("#free-space").click()
    choice.get_by_label(re.compile("novel")).check()
    expect(button).to_have_text("Free 421 MB")
    choice.get_by_label(re.compile("Left over")).uncheck()
    expect(button).to_have_text("Free 409 MB")
    button.click()
    expect(window.page.locator("#toast", has_text="409 MB freed.")).to_be_visible()
    expect(window.page.locator("#notice")).to_contain_text("48,000 tokens are read again when you ask")
    assert window.documents() == ["novel.txt"]
    again = window.page.locator("#continue")
    expect(again).to_have_text("Read again")
    workspace.script.reading_s = 6
    again.click()
    window.wait_reading()
    assert workspace.calls[-1] == ("read", [])


def test_an_empty_choice_cannot_be_freed(window, workspace, book):
    window.upload(book)
    window.wait_read()
    window.page.locator("#free-space").click()
    expect(window.page.locator("#confirm-free")).to_be_disabled()


def test_every_window_shows_that_a_state_was_freed(window, workspace, context, served, book):
    window.upload(book)
    window.wait_read()
    second = Window(context.new_page(), served).open()
    workspace.library.drop_state(workspace.library.session("novel").id)
    for each in (window, second):
        expect(each.page.locator("#notice")).to_contain_text("To be read again")


@pytest.mark.parametrize("width", [1000, 420])
def test_forms_and_buttons_can_be_reached_in_a_narrow_window(window, workspace, book, width):
    window.page.set_viewport_size({"width": width, "height": 800})
    window.upload(book)
    window.wait_read()
    assert window.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for view, opener, form, closer in (
        ("talk", "#settings", "#settings-form", ".dialog-close"),
        ("sessions", "#free-space", "#space-form", "#keep-space"),
    ):
        window.show(view)
        window.page.locator(opener).click()
        expect(window.page.locator(form)).to_be_in_viewport(ratio=0.9)
        assert window.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        window.page.locator(form).locator(closer).click()
        expect(window.page.locator(form)).to_be_hidden()
    for view, control in (("talk", "#fork"), ("sources", "#drop"), ("sources", "#choose-folder")):
        window.show(view)
        window.page.locator(control).click(trial=True)
