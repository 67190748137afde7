"""The page in headless Chromium, behind the guard, over a workspace whose jobs follow a script."""

import re
import time

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from fake_workspace import Script
from page_driver import Window, serving, wait_for
from playwright.sync_api import expect

from sala_core.events import Evidence

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

LONG_ANSWER = " ".join(f"word{number}" for number in range(120))


def test_upload_read_ask_and_see_the_evidence(window, book, workspace):
    workspace.script = Script(reading_s=6, token_s=0.25)
    window.upload(book)
    window.wait_reading()
    assert "1 file · 48,000 tokens read" in window.wait_read()
    assert window.documents() == ["novel.txt"]
    assert window.title == "novel"

    window.ask("What of the carriage?")
    window.wait_streaming()
    (answer,) = window.wait_answers(1)
    assert "the carriage waited in the rain" in answer
    assert window.questions() == ["What of the carriage?"]
    mark = window.page.locator("#history button.mark")
    assert mark.inner_text() == "word for word, line 1"
    assert mark.get_attribute("title") == "Stands word for word in novel.txt, line 1"
    assert ["novel.txt" in place for place in window.evidence()] == [True, True]
    assert "lines 120–122" in window.evidence()[0]


def test_an_uploaded_file_leaves_the_web_servers_folder(window, book, workspace):
    window.upload(book)
    window.wait_read()
    (call,) = workspace.calls
    (path,) = call[1]
    assert re.search(r"sala-read-[^/\\]+[/\\]taken[/\\]files[/\\]novel\.txt$", path)


def test_a_reload_and_a_second_tab_follow_a_running_reading(window, context, served, book, workspace):
    workspace.script.reading_s = 15
    window.upload(book)
    window.wait_reading()
    second = Window(context.new_page(), served).open()
    second.wait_reading()
    before = window.reload().percent() if not window.wait_reading() else 0
    wait_for(lambda: window.percent() > before, "the reloaded page to move on")
    assert "Reading finished" in window.wait_read()
    assert "Reading finished" in second.wait_read()
    assert second.documents() == ["novel.txt"]
    assert len(workspace.calls) == 1


def test_an_answer_from_before_a_reading_does_not_end_its_progress(window, context, book, workspace):
    held = []

    def hold(route):
        is_of_no_job = route.request.post_data_json["data"] == ["", ""]
        if held or not is_of_no_job:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    context.route("**/run/predict*", hold)
    workspace.script.reading_s = 20
    window.reload()
    wait_for(lambda: window.page.wait_for_timeout(50) or held, "the pulse of a page at rest")
    window.upload(book)
    expect(window.page.locator("#job-id").locator("textarea, input")).not_to_have_value("")
    window.page.wait_for_timeout(1500)
    ((route, response),) = held
    route.fulfill(response=response)
    window.wait_reading()
    window.stop_reading()
    assert "Stopped; what was read is kept" in window.wait_read()


def test_stop_reading_keeps_what_was_read(window, book, workspace):
    workspace.script.reading_s = 20
    window.upload(book)
    window.wait_reading()
    window.stop_reading()
    assert "Stopped; what was read is kept" in window.wait_read()


def test_an_answer_continues_to_stream_after_a_reload(window, context, served, workspace):
    workspace.script = Script(answer=LONG_ANSWER, token_s=0.08)
    window.ask("Tell me everything")
    early = window.wait_streaming(20)
    wait_for(lambda: window.questions() == ["Tell me everything"], "the question")
    second = Window(context.new_page(), served).open(window.title)
    window.reload()
    assert len(window.wait_streaming(len(early))) >= len(early)
    assert window.questions() == ["Tell me everything"]
    second.wait_streaming(20)
    assert window.wait_answers(1) == second.wait_answers(1) == [LONG_ANSWER]
    assert window.live_text() == second.live_text() == ""


def test_the_answer_streams_in_many_small_steps(window, workspace):
    workspace.script = Script(answer=LONG_ANSWER, token_s=0.02)
    window.ask("Tell me everything")
    lengths = set()
    wait_for(lambda: lengths.add(len(window.live_text())) or window.answers().count() == 1, "the answer")
    assert len(lengths) > 10


def test_stop_ends_the_answer_with_a_note(window, workspace):
    workspace.script = Script(answer=LONG_ANSWER, token_s=0.1)
    window.ask("Tell me everything")
    window.wait_streaming(20)
    window.stop()
    (answer,) = window.wait_answers(1)
    assert answer.endswith("Stopped here.")
    assert 1 < len(answer.split()) < 100


def test_escape_stops_the_answer_too(window, workspace):
    workspace.script = Script(answer=LONG_ANSWER, token_s=0.1)
    window.ask("Tell me everything")
    window.wait_streaming(20)
    expect(window.page.locator("#stop")).to_be_visible()
    window.page.keyboard.press("Escape")
    (answer,) = window.wait_answers(1)
    assert answer.endswith("Stopped here.")


def test_questions_asked_while_answering_wait_with_their_place_and_can_be_canceled(window, workspace, context, served):
    workspace.script = Script(answer=LONG_ANSWER, token_s=0.5)
    window.ask("First?")
    window.wait_streaming()
    box, line = window.page.locator("#question textarea"), window.page.get_by_role("region", name="Questions that wait")
    expect(window.page.locator("#send")).to_be_hidden()
    box.fill("Second?")
    expect(window.page.locator("#stop")).to_be_visible()
    window.page.get_by_role("button", name="Ask", exact=True).click()
    expect(line.locator(".waits")).to_have_count(1)
    expect(line).to_contain_text("First in the queue, about 40 s")
    for question in ("Third?", "Fourth?"):
        window.ask(question)
        expect(line).to_contain_text(question)
        expect(box).to_have_value("")
    assert len(window.live_text()) > 1
    other = Window(context.new_page(), served).open(window.title)
    expect(other.page.locator("#waiting .waits")).to_have_count(3)
    window.page.get_by_role("button", name="Cancel the question: Third?").click()
    for each in (window, other):
        expect(each.page.locator("#waiting .waits .message")).to_have_text(["Second?", "Fourth?"])
    workspace.script.token_s = 0.0
    window.wait_answers(3)
    assert window.questions() == ["First?", "Second?", "Fourth?"]
    expect(line).to_be_hidden()


def test_an_edit_waits_for_the_answer_and_stays_in_the_box(window, workspace):
    workspace.script = Script(token_s=0.01)
    window.ask("First?")
    window.wait_answers(1)
    workspace.script = Script(answer=LONG_ANSWER, token_s=0.06)
    window.ask("Second?")
    window.wait_streaming()
    window.page.locator("#history .bot-row").first.get_by_role("button", name="Edit").click()
    box = window.page.locator("#question textarea")
    box.press("Enter")
    assert "being answered" in window.toast()
    expect(box).to_have_value("First?")


def test_switching_the_session_while_one_answers_shows_the_right_one(window, workspace):
    workspace.script = Script(answer=LONG_ANSWER, token_s=0.08)
    workspace.new_session("Other")
    window.open_session("Other") if window.title != "Other" else None
    window.page.locator("#new-session").click()
    expect(window.page.locator("#title h1")).to_have_text("Untitled")
    window.ask("Busy?")
    window.wait_streaming(20)
    window.open_session("Other")
    time.sleep(1.5)
    assert window.title == "Other"
    assert window.live_text() == ""
    assert window.questions() == []
    window.open_session("Busy?")
    window.wait_streaming(20)
    window.wait_answers(1)


def test_failures_are_shown_with_their_reason(window, workspace, book):
    workspace.script.read_error = "novel.txt: the disk is full; 3.2 GB are needed"
    window.upload(book)
    notice = window.page.locator("#notice .notice")
    expect(notice).to_contain_text("The reading failed")
    expect(notice).to_contain_text("the disk is full; 3.2 GB are needed")
    workspace.script.ask_error = "<b>memory</b> is short"
    window.ask("What?")
    expect(notice).to_contain_text("<b>memory</b> is short")


def test_an_invalid_path_is_refused_with_a_message(window):
    window.read_path("/no/such/<b>folder</b>")
    assert "there is no file or folder /no/such/<b>folder</b>" in window.toast()
    window.page.locator("#path textarea, #path input").fill("relative/folder")
    window.page.locator("#read-path").click()
    expect(window.page.locator("#toast", has_text="not a full path")).to_be_visible()


def test_an_interrupted_reading_can_be_continued(window, context, served, book, workspace):
    row = workspace.new_session("Cut short")
    job_id = workspace.submit_read(row.id, [book])
    wait_for(lambda: workspace.job(job_id).status == "done", "the reading")
    workspace.library.work[job_id].status = "interrupted"
    workspace.script.reading_s = 6
    window.open("Cut short")
    expect(window.page.locator("#notice")).to_contain_text("The reading was interrupted")
    window.page.locator("#continue").click()
    window.wait_reading()
    window.wait_read()
    assert workspace.calls[-1] == ("read", [str(book)])
    expect(window.page.locator("#continue")).to_be_hidden()


def test_an_interrupted_question_can_be_asked_again(window, workspace):
    row = workspace.new_session("Cut off")
    job_id = workspace.submit_ask(row.id, "Who <b>came</b>?")
    wait_for(lambda: workspace.job(job_id).status == "done", "the answer")
    workspace.library.work[job_id].status = "interrupted"
    workspace.library.talk[row.id].clear()
    window.open("Cut off")
    expect(window.page.locator("#notice")).to_contain_text("“Who <b>came</b>?” was not answered.")
    window.page.get_by_role("button", name="Ask again").click()
    window.wait_answers(1)
    assert window.questions() == ["Who <b>came</b>?"]
    expect(window.page.locator("#continue")).to_be_hidden()


def test_a_refused_state_can_be_read_again(window, workspace):
    row = workspace.new_session("Old model")
    workspace.refusals[row.id] = "It was read by another model (tiny-a, float32)."
    window.open("Old model")
    expect(window.page.locator("#notice")).to_contain_text("tiny-a, float32")
    window.page.locator("#reread").click()
    window.wait_read()
    expect(window.page.locator("#reread")).to_be_hidden()


def test_sessions_are_made_renamed_searched_and_deleted(window, workspace):
    for name in ("Alpha", "Beta"):
        workspace.new_session(name)
    window.open("Alpha")
    window.page.locator("#rename").click()
    window.page.locator("#new-name textarea, #new-name input").fill("  Gamma & <i>co</i> ")
    window.page.locator("#save-name").click()
    expect(window.page.locator("#title h1")).to_have_text("Gamma & <i>co</i>")
    expect(window.page).to_have_url(re.compile("session=Gamma"))
    assert window.page.title() == "Gamma & <i>co</i> – Sala"
    assert window.reload().title == "Gamma & <i>co</i>"

    window.page.locator("#search textarea, #search input").fill("bet")
    wait_for(lambda: window.session_names() == ["Beta"], "the search")
    window.page.locator("#search textarea, #search input").fill("")
    wait_for(lambda: len(window.session_names()) == 2, "the whole list")

    window.page.locator("#delete").click()
    expect(window.page.locator("#title h1")).to_have_text("Beta")
    expect(window.page.locator("#snack")).to_contain_text("“Gamma & <i>co</i>” is in the bin for 30 days.")
    assert [row.name for row in workspace.library.rows.values()] == ["Beta"]


def test_nothing_the_model_writes_becomes_html(window, workspace):
    workspace.script = Script(
        answer="<img src=x onerror=window.bad=1> ![a](http://evil.example/a.png) [go](javascript:window.bad=2)\n\n"
        "<script>window.bad=3</script> <mark>seal</mark> [word for word](#evidence)",
        thinking="<iframe src='http://evil.example'></iframe>",
        evidence=(
            Evidence(
                document="<b>x</b>.txt",
                document_id="novel",
                page=3,
                line_start=1,
                line_end=1,
                text="<img src=y onerror=window.bad=4>",
                score=1.0,
            ),
        ),
    )
    window.ask("<b>Bold?</b>")
    (answer,) = window.wait_answers(1)
    assert "<img src=x onerror=window.bad=1>" in answer
    assert window.questions() == ["<b>Bold?</b>"]
    shown = window.page.locator("#history, #evidence")
    for name in ("img", "script", "iframe", "mark", "b", "a", ".mark"):
        expect(shown.locator(f".talk {name}, .prose {name}")).to_have_count(0)
    assert "<b>x</b>.txt" in window.evidence()[0]
    assert window.page.evaluate("window.bad") is None


def test_the_page_outlives_a_restart_of_the_server(browser, workspace, book):
    context = browser.new_context()
    with serving(workspace) as first:
        window = Window(context.new_page(), first).open(token=True)
        window.upload(book)
        window.wait_read()
    with serving(workspace, port=first.port) as second:
        again = Window(context.new_page(), second).open("novel", token=True)
        again.ask("Still there?")
        again.wait_answers(1)
        assert again.documents() == ["novel.txt"]
    context.close()
