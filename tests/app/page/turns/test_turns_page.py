"""The page with the real workspace and a small model: turns are asked again, switched, branched; questions wait."""

import re
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from sala_core.session.session import Session
from sala_core.session.workspace import Workspace
from sala_core.store import ReadRequest
from sala_core.store.library import Library

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The library's folder; short answers are set."""
    folder = tmp_path_factory.mktemp("turns") / "library"
    folder.mkdir(mode=0o700)
    (folder / "answers.json").write_text('{"temperature": 0.0, "max_tokens": 6}')
    return folder


@pytest.fixture(scope="module")
def real_workspace(folder, random_model):
    workspace = Workspace(folder, str(random_model), "cpu")
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def page(browser, real_workspace, tmp_path_factory):
    """One window on the page, shared by all tests of this module, in a session that has read a note."""
    from page_driver import Watch, Window, serving, wait_for

    note = tmp_path_factory.mktemp("files") / "note.txt"
    note.write_text("Lena lives in Oslo, and keeps two horses.\n" * 30)
    session = real_workspace.new_session("demo")
    job = real_workspace.submit_read(session.id, [note])
    wait_for(lambda: real_workspace.job(job).status == "done", "the note to be read")
    with serving(real_workspace) as served:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        watch = Watch(served.address)
        watch.on(context)
        yield Window(context.new_page(), served).open("demo", token=True)
        context.close()
        assert watch.faults == []


def press(page, name, turn=0):
    """Press a turn's button by its accessible name, with the keyboard."""
    button = page.page.locator("#history .bot-row").nth(turn).get_by_role("button", name=name, exact=True)
    button.focus()
    page.page.keyboard.press("Enter")


def said(page, number):
    return page.wait_answers(number)


def test_a_turn_is_asked_again_edited_switched_branched_and_deleted(page):
    shown, history = page.page, page.page.locator("#history")
    page.ask("Who?")
    said(page, 1)
    page.ask("Where?")
    said(page, 2)
    press(page, "Regenerate", 1)
    expect(history).to_contain_text("2 of 2")
    expect(history).to_contain_text("0 document tokens re-read")
    press(page, "Edit")
    box = shown.locator("#question textarea")
    expect(box).to_have_value("Who?")
    expect(shown.get_by_role("status").filter(has_text="Editing an earlier question")).to_be_visible()
    box.fill("Which Lena?")
    box.press("Enter")
    expect(history.locator(".user-row")).to_have_count(1)
    said(page, 1)
    assert page.questions() == ["Which Lena?"]
    expect(shown.locator("#editing-note")).to_have_count(0)
    press(page, "Previous version")
    expect(history.locator(".user-row")).to_have_count(2)
    assert page.questions() == ["Who?", "Where?"]
    assert "0 document tokens re-read" in page.toast()
    expect(history.locator(".turn-tool:focus")).to_have_count(1)
    press(page, "Next version")
    expect(history.locator(".user-row")).to_have_count(1)
    press(page, "Branch here")
    expect(shown.locator("#title h1")).to_have_text("demo (copy)")
    assert page.questions() == ["Which Lena?"]
    assert "0 document tokens re-read" in page.toast()
    press(page, "Delete turn")
    expect(history.locator(".user-row")).to_have_count(2)
    assert page.questions() == ["Who?", "Where?"], "its other version is shown, with what followed it"
    press(page, "Delete turn", 1)
    expect(history.locator(".version")).to_have_count(0)
    assert page.questions() == ["Who?", "Where?"]
    press(page, "Delete turn", 1)
    expect(history.locator(".user-row")).to_have_count(1)
    shown.get_by_role("button", name="Undo", exact=True).click()
    expect(history.locator(".user-row")).to_have_count(2)
    press(page, "Delete turn", 1)
    expect(history.locator(".user-row")).to_have_count(1)
    expect(shown.locator("#notice .notice")).to_have_count(0)


def test_an_edit_that_is_cancelled_changes_nothing(page):
    press(page, "Edit")
    box = page.page.locator("#question textarea")
    expect(box).to_have_value("Who?")
    box.press("Escape")
    expect(box).to_have_value("")
    expect(page.page.locator("#editing-note")).to_have_count(0)
    assert page.questions() == ["Who?"]


def test_a_question_during_a_reading_is_answered_from_what_was_read(page, real_workspace, tmp_path):
    from page_driver import wait_for

    book = tmp_path / "long.txt"
    book.write_text("".join(f"{n}. The carriage waited in the rain by the river.\n" for n in range(9000)))
    session = real_workspace.new_session("long")
    job = real_workspace.submit_read(session.id, [book])
    wait_for(lambda: getattr(real_workspace.job(job).progress, "phase", "") == "reading", "a chunk")
    page.open("long")
    page.wait_reading()
    page.ask("What waits?")
    expect(page.page.locator("#history .bot-row")).to_have_count(1, timeout=60_000)
    note = page.page.locator("#history .turn-note").inner_text()
    assert re.fullmatch(r"answered from the first [\d,]+ of [\d,]+ tokens", note)
    assert real_workspace.job(job).status == "running", "the reading goes on"
    page.stop_reading()
    wait_for(lambda: real_workspace.job(job).status == "stopped", "the reading to stop")


def test_a_commands_reading_is_shown_and_a_question_waits_for_it(page, real_workspace, folder, tmp_path):
    from page_driver import wait_for

    book = tmp_path / "book.txt"
    book.write_text("".join(f"{n}. The general said nothing to the prince.\n" for n in range(900)))
    session = real_workspace.new_session("elsewhere")
    with Library.open(folder) as library, Session.open(library, real_workspace._engine, "elsewhere") as reading:
        events = reading.recorded(ReadRequest(paths=(str(book),)), reading.read([book]))
        for event in events:
            if getattr(event, "phase", "") == "reading":
                break
        page.open("elsewhere")
        expect(page.page.locator("#progress")).to_contain_text("Read by a command")
        expect(page.page.locator("#notice .notice")).to_have_count(0)
        page.ask("Who said?")
        status = page.page.locator("#live-status")
        expect(status).to_contain_text("First in the queue: its session is being read by a command")
        page.reload()
        expect(status).to_contain_text("First in the queue")
        assert page.questions() == ["Who said?"]
        for _ in events:
            pass
    page.wait_answers(1)
    assert page.questions() == ["Who said?"]
    wait_for(lambda: real_workspace.active_job(session.id) is None, "the end")


def test_a_question_without_a_session_stays_in_the_box(page, real_workspace):
    for row in real_workspace.library.sessions():
        real_workspace.library.delete_session(row.id)
    shown = page.page
    shown.goto(page._served.home)
    expect(shown.locator("#title .title-none")).to_be_visible()
    box = shown.locator("#question textarea")
    box.fill("Hello?")
    box.press("Enter")
    assert "Choose a session" in page.toast()
    expect(box).to_have_value("Hello?")
    assert real_workspace.library.sessions() == []
