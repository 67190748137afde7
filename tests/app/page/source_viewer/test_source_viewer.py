"""The panel "Source" and the attention map, in headless Chromium over a real library. All tests share one window."""

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

import pymupdf
from page_driver import Watch, Window, serving
from playwright.sync_api import expect
from read_library import SESSION, ReadWorkspace

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

CODE = "".join(f"def step_{number}():\n    return {number}  # <b>x</b>\n\n\n" for number in range(200))
HOSTILE = "<img src=x onerror='window.bad = 1'> [link](javascript:window.bad=2) It rained on the <b>bridge</b>.\n"
LONG_LINES = 170_000
PATIENCE_MS, USUAL_MS = 30_000, 5_000
FACTS = "**/api/sources/documents/*?session=*"


def write_report(path):
    made = pymupdf.open()
    for number in range(1, 13):
        page = made.new_page()
        lines = [f"Chapter {number}.", f"In the year {number} the bridge was", "closed, and nobody said why."]
        page.insert_text((72, 300), lines, fontsize=12)
    made.save(path)
    return path


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    (folder / "steps.py").write_text(CODE)
    (folder / "notes.txt").write_text(HOSTILE + "It snowed on the road.\n" * 20)
    (folder / "book.html").write_text(
        "<h1>One</h1><p>It rained.</p>" + "".join(f"<h2>Part {number}</h2><p>It snowed.</p>" for number in range(2, 62))
    )
    long = "".join(f"Line {number} tells of weather, roads and bridges.\n" for number in range(1, LONG_LINES + 1))
    (folder / "long.txt").write_text(long)
    made = ReadWorkspace(folder / "library")
    files = [write_report(folder / "report.pdf")]
    files += [folder / name for name in ("steps.py", "notes.txt", "book.html", "long.txt")]
    made.read(*files)
    made.folder = folder
    made.answer("And before?", "Nothing.", evidence=[("notes.txt", "It snowed")], has_map=False)
    made.answer(
        "What of the bridge?",
        "It says “In the year 7 the bridge was closed, and nobody said why”.",
        quoted=[("report.pdf", "In the year 7 the bridge was\nclosed, and nobody said why")],
        evidence=[
            ("report.pdf", "In the year 9 the bridge"),
            ("steps.py", "return 150"),
            ("long.txt", "Line 90000 tells"),
        ],
    )
    made.answer(
        "And then?", "It says “the ferry sank on its way over”.", lost=[("notes.txt", "the ferry sank on its way over")]
    )
    made.answer(
        "Where?", "On the road.", evidence=[("long.txt", "Line 90000 tells"), ("report.pdf", "In the year 3 the")]
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def page(browser, workspace):
    with serving(workspace) as served:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        watch = Watch(served.address)
        watch.on(context)
        expect.set_options(timeout=PATIENCE_MS)
        window = Window(context.new_page(), served).open(SESSION, token=True)
        expect(window.answers()).to_have_count(4)
        yield window.page
        expect.set_options(timeout=USUAL_MS)
        context.close()
        assert watch.faults == []


@pytest.fixture
def source(page):
    """The region "Source", empty."""
    page.set_viewport_size({"width": 1440, "height": 900})
    page.evaluate("salaSource.close()")
    return page.get_by_role("region", name="Source", exact=True)


def turn(page, number):
    return page.locator("#history .bot-row").nth(number)


def button(place, name):
    return place.get_by_role("button", name=name, exact=True)


def open_from_list(page, name):
    page.evaluate("salaLayout.show('sources')")
    button(page, f"Open {name}").click()


def open_and_hold(page, name):
    """Open a source, and keep it on its way until `release`. Returns the request."""
    held = []
    page.route(FACTS, lambda route: held.append(route))
    open_from_list(page, name)
    while not held:
        page.wait_for_timeout(20)
    return held[0]


def release(page, held):
    held.continue_()
    page.unroute(FACTS)


def test_a_quotation_of_an_earlier_turn_opens_its_page_with_the_passage_marked(page, source):
    address = page.url
    turn(page, 1).locator(".mark").click()
    expect(source.locator(".source-name")).to_have_text("report.pdf")
    expect(source.locator(".source-where")).to_have_text("Word for word, page 7")
    boxes = source.locator(".source-box.passage")
    expect(boxes).to_have_count(2)
    expect(boxes.first).to_be_in_viewport()
    expect(source.get_by_text("7 of 12")).to_be_visible()
    assert page.url == address
    sheet = source.get_by_role("figure", name="Page 7 of 12").locator(".source-sheet")
    expect(sheet).to_have_class(re.compile("drawn"))
    inside, outside = boxes.first.bounding_box(), sheet.bounding_box()
    assert 0.3 < (inside["y"] - outside["y"]) / outside["height"] < 0.5  # the text begins at 300 of 842 points


def test_next_and_previous_evidence_go_through_all_places_of_the_turn(page, source):
    button(turn(page, 1), "Open evidence 1: report.pdf, page 9").click()
    expect(source.get_by_text("Evidence 1 of 3")).to_be_visible()
    expect(source.get_by_text("9 of 12")).to_be_visible()
    button(source, "Next evidence").click()
    expect(source.locator(".source-name")).to_have_text("steps.py")
    expect(source.get_by_text("Evidence 2 of 3")).to_be_visible()
    line = source.locator(".source-row.in-passage")
    expect(line).to_have_count(1)
    expect(line).to_be_in_viewport()
    expect(line).to_contain_text("602    return 150  # <b>x</b>")
    expect(line.locator(".k")).to_have_text("return")
    for _ in range(2):
        button(source, "Previous evidence").click()
        page.wait_for_timeout(150)
    expect(source.get_by_text("Quotation 1 of 1")).to_be_visible()
    expect(button(source, "Previous evidence")).to_be_disabled()


def test_pages_are_turned_and_can_be_read_as_text(page, source):
    turn(page, 1).locator(".mark").click()
    expect(source.get_by_text("7 of 12")).to_be_visible()
    button(source, "Next page").click()
    expect(source.get_by_text("8 of 12")).to_be_visible()
    for _ in range(2):
        button(source, "Previous page").click()
        page.wait_for_timeout(100)
    expect(source.get_by_text("6 of 12")).to_be_visible()
    button(source, "Text").click()
    marked = source.locator("mark.passage")
    expect(marked).to_have_text(["In the year 7 the bridge was", "closed, and nobody said why"])
    expect(marked.first).to_be_in_viewport()
    button(source, "Pages").click()
    expect(source.locator(".source-box.passage")).to_have_count(2)


def test_words_are_searched_in_the_document(page, source):
    open_from_list(page, "report.pdf")
    box = source.get_by_role("searchbox", name="Search in this document")
    box.fill("bridge WAS closed")
    box.press("Enter")
    expect(source.locator(".source-box.hit")).to_have_count(2)
    box.press("Enter")
    box.press("Enter")
    expect(source.locator(".source-finder .source-count")).to_have_text("3 of 12")
    expect(source.locator(".source-box.hit")).to_have_count(2)
    figure = source.get_by_role("figure", name="Page 3 of 12")
    expect(figure.locator(".source-box.hit").first).to_be_in_viewport()
    box.fill("nothing like it")
    expect(source.get_by_text("none")).to_be_visible()
    box.press("Escape")
    expect(box).to_have_value("")
    expect(source.locator(".source-box")).to_have_count(0)


def test_words_typed_while_the_source_is_on_its_way_are_searched_in_it(page, source):
    """Who types at once must not lose the words when the document arrives, nor find them in the one shown before."""
    open_from_list(page, "notes.txt")
    expect(source.locator(".source-name")).to_have_text("notes.txt")
    held = open_and_hold(page, "report.pdf")
    box = source.get_by_role("searchbox", name="Search in this document")
    box.fill("bridge WAS closed")
    box.press("Enter")
    release(page, held)
    expect(source.locator(".source-name")).to_have_text("report.pdf")
    expect(source.locator(".source-finder .source-count")).to_have_text("1 of 12")
    expect(source.locator(".source-box.hit")).to_have_count(2)
    expect(box).to_have_value("bridge WAS closed")
    expect(box).to_be_focused()
    open_from_list(page, "notes.txt")
    expect(source.locator(".source-name")).to_have_text("notes.txt")
    expect(box).to_have_value("")


def test_a_source_on_its_way_stays_out_of_another_session(page, workspace):
    held = open_and_hold(page, "book.html")
    other = workspace.library.create_session("Another", model="embedded", fingerprint="")
    page.evaluate("id => salaDialogs.openSession(id)", other.id)
    expect(page.locator("#title h1")).to_have_text("Another")
    with page.expect_response(FACTS):
        release(page, held)
    expect(page.locator(".source.empty")).to_have_count(1)
    page.evaluate("id => salaDialogs.openSession(id)", workspace.session_id)
    expect(page.locator("#title h1")).to_have_text(SESSION)
    expect(page.locator(".source .source-name")).to_have_text("")
    workspace.library.delete_session(other.id)


def test_matches_stay_when_another_passage_of_the_document_opens(page, source):
    button(turn(page, 1), "Open evidence 1: report.pdf, page 9").click()
    expect(source.get_by_text("9 of 12")).to_be_visible()
    box = source.get_by_role("searchbox", name="Search in this document")
    box.fill("bridge was")
    count = source.locator(".source-finder .source-count")
    expect(count).to_have_text("9 of 12")
    turn(page, 1).locator(".mark").click()
    expect(source.locator(".source-where")).to_have_text("Word for word, page 7")
    expect(count).to_have_text("12 matches")
    button(source, "Previous match").click()
    expect(count).to_have_text("12 of 12")


def test_a_search_that_fails_says_so_and_is_asked_again(page, source):
    open_from_list(page, "report.pdf")
    box = source.get_by_role("searchbox", name="Search in this document")
    expect(source.locator(".source-name")).to_have_text("report.pdf")
    page.route("**/search?query=*", lambda route: route.fulfill(json={"error": "The library is busy."}))
    box.fill("bridge was")
    expect(source.get_by_role("status")).to_have_text("The library is busy.")
    expect(source.get_by_text("none")).to_have_count(0)
    page.unroute("**/search?query=*")
    box.press("Enter")
    expect(source.locator(".source-finder .source-count")).to_have_text("1 of 12")


def test_ten_megabytes_open_at_once_at_the_passage_and_only_a_window_of_them(page, source):
    button(turn(page, 1), "Open evidence 3: long.txt, line 90,000").click()
    marked = source.locator(".in-passage, .source-row:has(mark.passage)")
    expect(marked).to_contain_text("Line 90000 tells of weather")
    expect(marked).to_be_in_viewport()
    assert source.locator(".source-row").count() < 800
    source.locator(".source-body").evaluate("body => body.scrollTo(0, body.scrollHeight)")
    last = source.get_by_text(f"Line {LONG_LINES} tells")
    expect(last).to_be_in_viewport()
    assert source.locator(".source-row").count() < 800
    source.locator(".source-body").evaluate("body => body.scrollTo(0, 0)")
    expect(source.get_by_text("Line 1 tells")).to_be_in_viewport()
    button(source, "Next page").click()
    expect(source.get_by_text("Line 1 tells")).not_to_be_in_viewport()


def test_headings_of_a_book_are_headings_and_lead_to_their_place(page, source):
    open_from_list(page, "book.html")
    expect(source.get_by_role("heading", name="One")).to_be_in_viewport()
    source.get_by_label("Headings").select_option(index=50)
    expect(source.get_by_role("heading", name="Part 51")).to_be_in_viewport()
    expect(source.get_by_role("heading", name="One")).not_to_be_in_viewport()


def test_nothing_of_a_document_becomes_active(page, source):
    open_from_list(page, "notes.txt")
    row = source.locator(".source-row").first
    expect(row.locator(".source-words")).to_have_text(HOSTILE.strip())
    assert row.locator("img, a, b").count() == 0
    assert page.evaluate("window.bad") is None


def test_a_passage_that_does_not_stand_there_is_said_so_and_not_guessed(page, source):
    page.evaluate("message => salaSource.open({ message, key: 'q0' })", turn(page, 2).get_attribute("data-message"))
    expect(source.get_by_role("status")).to_contain_text("cannot be placed")
    expect(source.locator(".source-row").first).to_be_visible()
    assert source.locator("mark, .in-passage").count() == 0


def test_a_changed_file_is_shown_as_it_was_read(page, source, workspace):
    open_from_list(page, "steps.py")
    expect(button(source, "Open original")).to_be_visible()
    page.evaluate("salaSource.close()")
    path = workspace.folder / "steps.py"
    path.write_text("# all is new\n")
    open_from_list(page, "steps.py")
    expect(source.get_by_role("status")).to_contain_text("has changed since it was read")
    expect(source.get_by_text("def step_0")).to_be_visible()
    expect(button(source, "Open original")).to_be_hidden()
    path.write_text(CODE)


def test_the_keyboard_opens_and_escape_closes(page, source):
    place = turn(page, 1).get_by_role("button", name="Open evidence 1: report.pdf, page 9")
    place.press("Enter")
    expect(source.locator(".source-body")).to_be_focused()
    page.keyboard.press("Escape")
    expect(source).to_be_hidden()
    expect(place).to_be_focused()
    item = page.locator("#evidence .place").first
    page.evaluate("salaLayout.show('evidence')")
    item.press("Enter")
    expect(source.locator(".source-name")).to_have_text("long.txt")


def test_the_attention_map_names_places_and_opens_them(page, source):
    page.evaluate("salaLayout.show('evidence')")
    region = page.locator("#evidence").get_by_role("region", name="Attention map")
    strip = region.get_by_role("slider")
    assert strip.locator("i").count() == 100
    expect(region.locator(".map-top")).to_contain_text("Most at long.txt, line 90,000")
    shares = strip.locator("i").evaluate_all(
        "cells => cells.map(cell => Number(cell.style.getPropertyValue('--share')))"
    )
    best = shares.index(100)
    box = strip.bounding_box()
    page.mouse.move(box["x"] + (best + 0.5) * box["width"] / 100, box["y"] + 5)
    expect(region.locator(".map-place")).to_have_text("long.txt, line 90,000 · 50% of the attention")
    page.mouse.down()
    page.mouse.up()
    expect(source.locator(".source-name")).to_have_text("long.txt")
    expect(source.get_by_text("Line 90000 tells")).to_be_in_viewport()
    expect(source.get_by_role("region", name="Attention map").locator("i.current")).to_have_count(1)


def test_the_attention_map_works_by_keyboard(page, source):
    page.evaluate("salaLayout.show('evidence')")
    region = page.locator("#evidence").get_by_role("region", name="Attention map")
    strip = region.get_by_role("slider")
    strip.focus()
    strip.press("End")
    expect(strip).to_have_attribute("aria-valuenow", "100")
    strip.press("ArrowLeft")
    expect(strip).to_have_attribute(
        "aria-valuetext", re.compile(r"long\.txt, line 16\d,\d\d\d · under 0\.1% of the attention")
    )
    strip.press("Home")
    strip.press("Enter")
    expect(source.locator(".source-name")).to_have_text("report.pdf")
    page.evaluate("salaLayout.show('evidence')")
    region.get_by_role("button", name="report.pdf, page 3").click()
    expect(source.get_by_text("3 of 12")).to_be_visible()


def test_an_answer_without_a_map_has_none_in_the_viewer(page, source):
    button(turn(page, 0), "Open evidence 1: notes.txt, line 2").click()
    expect(source.locator(".source-name")).to_have_text("notes.txt")
    assert source.get_by_role("slider").count() == 0


def test_what_is_in_view_stays_when_the_window_changes_its_width(page, source):
    turn(page, 1).locator(".mark").click()
    expect(source.locator(".source-box.passage").first).to_be_in_viewport()
    for width in (1000, 1300):
        page.set_viewport_size({"width": width, "height": 800})
        expect(source.locator(".source-box.passage").first).to_be_in_viewport()
    button(source, "Next evidence").click()
    button(source, "Next evidence").click()
    line = source.locator(".source-row", has_text="return 150")
    expect(line).to_be_in_viewport()
    page.set_viewport_size({"width": 1000, "height": 700})
    expect(line).to_be_in_viewport()


def test_at_400_pixels_the_source_has_the_window(page, source):
    page.set_viewport_size({"width": 400, "height": 800})
    page.evaluate("salaLayout.show('talk')")
    turn(page, 1).locator(".mark").click()
    expect(source.locator(".source-box.passage").first).to_be_in_viewport()
    box = source.bounding_box()
    assert box["width"] >= 390
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
