"""The program around the conversation, in one browser: first run, models, settings, sessions, bin; with real models."""

import re
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from page_driver import WAIT_MS, Watch, Window, serving, wait_for
from playwright.sync_api import expect

from app.page.first_run.sample import NAME, make_sample, questions
from app.page.settings.stored import chosen_library, load_program
from sala_core.session.workspace import Workspace

sys.path.append(str(Path(__file__).resolve().parents[2] / "sala_core" / "hub"))
from local_hub import MODEL, running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def patience():
    """Let expectations wait as long as the other waits of the driver: machines can be busy."""
    expect.set_options(timeout=WAIT_MS)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture(scope="module")
def hub(root):
    """A hub on this computer with the embedded model under another name."""
    with running() as hub:
        hub.add(MODEL, root / "assets" / "embedded")
        yield hub


@pytest.fixture(scope="module")
def workspace(hub, tmp_path_factory):
    """The program's own workspace on a new library. Its downloads talk to the hub of the tests."""
    folder = tmp_path_factory.mktemp("program")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        patch.setenv("HF_HUB_CACHE", str(folder / "cache"))
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        opened = Workspace(folder / "library", "embedded", "cpu")
        make_sample(opened)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def window(browser, workspace):
    """One window for all tests of this file. Nothing may go wrong in it."""
    with serving(workspace) as served:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
        watch = Watch(served.address)
        watch.on(context)
        yield Window(context.new_page(), served).open(token=True)
        context.close()
        assert watch.faults == []


def button(window, name):
    return window.page.get_by_role("button", name=name, exact=True)


def test_the_first_run_shows_a_sample_that_is_read_with_questions_that_work(window, workspace):
    assert window.title == NAME
    button(window, "End tour").click()
    expect(window.page.locator(".tour")).to_have_count(0)
    wait_for(lambda: load_program(workspace.library.folder).tour == "done", "the tour to be noted")
    names = [button(window, question) for question in questions()]
    for name in names:
        expect(name).to_be_visible(timeout=60_000)
    names[0].click()
    (answer,) = window.wait_answers(1)
    assert "It was found in the banks of the Amoy River in southern China" in " ".join(answer.split())
    window.reload()
    expect(window.page.locator(".tour")).to_have_count(0)
    assert make_sample(workspace) == "", "it is made once"


def test_the_tour_comes_back_from_the_list_of_keys(window):
    window.page.locator("#title h1").click()
    window.page.keyboard.press("?")
    expect(window.page.get_by_text("Start the short tour")).to_be_visible()
    window.page.keyboard.press("Escape")
    window.page.keyboard.press("t")
    for number in range(1, 5):
        expect(window.page.locator(".tour .tour-count")).to_have_text(f"{number} of 4")
        window.page.locator(".tour .primary").click()
    expect(window.page.locator(".tour")).to_have_count(0)


def test_the_tour_gives_way_to_a_reader_who_asks(window):
    window.page.locator("#title h1").click()
    window.page.keyboard.press("t")
    expect(window.page.locator(".tour")).to_be_visible()
    asked = window.page.locator("#history .user-row").count()
    window.ask("Where was the stone found?")
    expect(window.page.locator("#history .user-row")).to_have_count(asked + 1)
    expect(window.page.locator(".tour")).to_have_count(0)
    window.wait_answers(asked + 1)
    button(window, "Delete turn").last.click()
    expect(window.page.locator("#history .user-row")).to_have_count(asked)


def test_models_are_listed_with_what_fits_and_downloaded_with_pause_and_resume(window, workspace, hub):
    button(window, "Models").click()
    dialog = window.page.get_by_role("dialog", name="Models")
    expect(dialog).to_contain_text("It does not summarize, compare or reason")
    expect(dialog).to_contain_text(re.compile(r"Reads texts of up to [\d.]+[MK] tokens on this machine"))
    expect(dialog.get_by_role("button", name="Download openbmb/MiniCPM-SALA")).to_be_visible()
    hub.gate = threading.Event()
    dialog.get_by_label("A model of this family on huggingface.co").fill(MODEL)
    dialog.get_by_role("button", name="Download", exact=True).click()
    expect(dialog.get_by_role("status")).to_contain_text(re.compile(r"4 MB of 7 MB"), timeout=60_000)
    assert dialog.get_by_role("progressbar").evaluate("bar => bar.value / bar.max") > 0.4
    dialog.get_by_role("button", name=f"Pause {MODEL}").click()
    expect(dialog.get_by_role("status")).to_contain_text("Paused")
    hub.gate.set()
    hub.gate = None
    dialog.get_by_role("button", name=f"Resume {MODEL}").click()
    use = dialog.get_by_role("button", name=f"Use {MODEL}", exact=True)
    expect(use).to_be_enabled(timeout=60_000)
    use.click()
    expect(dialog.get_by_role("region", name="Active model")).to_contain_text(MODEL, timeout=60_000)
    expect(dialog.locator(".state-ready")).to_have_text("Active", timeout=60_000)
    window.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(window.page.locator("#model")).to_contain_text(MODEL)


def test_a_folder_can_be_chosen_and_sessions_are_opened_with_their_own_model(window, workspace, random_model):
    button(window, "Models").click()
    dialog = window.page.get_by_role("dialog", name="Models")
    folder = dialog.get_by_label("A folder on this computer")
    folder.fill(str(random_model / "nothing"))
    dialog.get_by_role("button", name="Use folder").click()
    expect(dialog.get_by_role("alert").first).to_contain_text("cannot be used")
    folder.fill(str(random_model))
    dialog.get_by_role("button", name="Use folder").click()
    expect(dialog.locator(".state-ready")).to_have_text("Active", timeout=60_000)
    expect(dialog.get_by_role("region", name="Active model")).to_contain_text(str(random_model))
    dialog.get_by_role("button", name="Close").click()
    expect(window.page.locator("#notice")).to_contain_text("It was read by the model 'embedded'", timeout=60_000)
    button(window, "Open with its own model").click()
    expect(window.page.locator("#model")).to_contain_text("embedded", timeout=60_000)
    expect(button(window, "Open with its own model")).to_be_hidden(timeout=60_000)
    assert str(random_model) in load_program(workspace.library.folder).folders


def test_each_setting_takes_effect_or_says_when(window, workspace, tmp_path):
    button(window, "Settings").click()
    dialog = window.page.get_by_role("dialog", name="Settings")
    dialog.get_by_label("Dark").check()
    expect(window.page.locator("body")).to_have_class(re.compile(r"\bdark\b"))
    dialog.get_by_label("Limit for saved states").fill("lots")
    button(window, "Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("“lots” is none")
    dialog.get_by_label("Limit for saved states").fill("30 GB")
    dialog.get_by_label("Library folder").fill(str(tmp_path / "other"))
    dialog.get_by_label("System prompt").fill("Answer in one word.")
    dialog.get_by_label("Device").select_option("cpu")
    button(window, "Save").click()
    expect(dialog).to_be_hidden()
    snack = window.page.locator("#snack")
    for words in ("kept to 30.0 GB", "after a restart", "once it is read again", "The model is loaded again"):
        expect(snack).to_contain_text(words)
    kept = load_program(workspace.library.folder)
    assert (kept.theme, kept.device) == ("dark", "cpu")
    assert (workspace.library.quota(), chosen_library()) == (30 * 10**9, tmp_path / "other")
    assert workspace.library.session(NAME).system_prompt == "Answer in one word."
    wait_for(lambda: workspace.wanted is None and workspace.model_info().status == "ready", "the model")
    window.reload()
    expect(window.page.locator("body")).to_have_class(re.compile(r"\bdark\b"))
    button(window, "Settings").click()
    expect(dialog.get_by_label("Limit for saved states")).to_have_value("30.0 GB")
    dialog.get_by_label("Light").check()
    window.page.keyboard.press("Escape")
    expect(window.page.locator("body")).to_have_class(re.compile(r"\bdark\b"))  # nothing was saved


def test_a_search_leads_to_the_words_in_another_session(window, workspace):
    other = workspace.new_session("Other")
    window.open("Other")
    window.page.locator("#search :is(textarea, input)").press_sequentially("Amoy River", delay=5)
    hits = window.page.get_by_role("region", name="Search hits")
    hit = hits.get_by_role("button", name=re.compile("Answer in Sample"))
    expect(hit).to_contain_text("in the banks of the Amoy River in southern China")
    hit.click()
    expect(window.page.locator("#title h1")).to_have_text(NAME)
    found = window.page.locator("#history .hit-found")
    expect(found).to_contain_text("Amoy River")
    expect(found).to_be_in_viewport()
    window.page.locator("#search :is(textarea, input)").fill("")
    expect(hits).to_be_hidden()
    workspace.library.delete_session(other.id)


def test_sessions_are_pinned_and_show_size_and_age(window, workspace):
    window.open(NAME)
    workspace.new_session("Newer")
    wait_for(lambda: window.session_names() == ["Newer", NAME], "the new session")
    button(window, "Pin").click()
    wait_for(lambda: window.session_names() == [NAME, "Newer"], "the pinned session first")
    label = window.page.locator("#sessions label").first
    expect(label).to_have_text(re.compile(r"pinned · 1 document · \d+ MB · (just now|\d+ min ago)"))
    button(window, "Unpin").click()
    expect(label).not_to_contain_text("pinned")


def test_a_deleted_session_comes_back_by_undo_and_from_the_bin(window, workspace):
    window.open(NAME)
    button(window, "Delete").click()
    expect(window.page.locator("#title h1")).to_have_text("Newer")
    button(window, "Undo").click()
    expect(window.page.locator("#title h1")).to_have_text(NAME)
    expect(window.page.locator("#history .user-row .message")).to_have_count(1)
    button(window, "Delete").click()
    expect(window.page.locator("#title h1")).to_have_text("Newer")
    button(window, "Bin").click()
    bin_dialog = window.page.get_by_role("dialog", name="Bin")
    expect(bin_dialog).to_contain_text(re.compile(r"1 document · 2 messages · \d+ MB · Deleted just now, kept for 29"))
    bin_dialog.get_by_role("button", name=f"Restore {NAME}").click()
    expect(bin_dialog).to_be_hidden()
    expect(window.page.locator("#title h1")).to_have_text(NAME)
    button(window, "Delete").click()
    button(window, "Bin").click()
    bin_dialog.get_by_role("button", name="Empty bin").click()
    bin_dialog.get_by_role("button", name="Delete all for good").click()
    expect(bin_dialog).to_contain_text("The bin is empty.")
    window.page.keyboard.press("Escape")
    assert [row.name for row in workspace.library.sessions()] == ["Newer"]
    assert make_sample(workspace) == "", "a deleted sample does not come back"


def test_the_bin_shows_a_deletion_that_was_under_way_and_a_list_that_fails(window, workspace, monkeypatch):
    workspace.new_session("Soon gone")
    window.open("Soon gone")
    may_delete = threading.Event()
    bin_session = workspace.library.bin_session
    monkeypatch.setattr(workspace.library, "bin_session", lambda name: may_delete.wait(60) and bin_session(name))
    button(window, "Delete").click()
    button(window, "Bin").click()
    bin_dialog = window.page.get_by_role("dialog", name="Bin")
    expect(bin_dialog).to_contain_text("The bin is empty.")
    may_delete.set()
    expect(bin_dialog.get_by_role("button", name="Restore Soon gone")).to_be_visible()
    bin_dialog.get_by_role("button", name="Close").click()
    window.page.route("**/api/bin", lambda route: route.fulfill(json={"refused": "The library is busy."}))
    button(window, "Bin").click()
    expect(bin_dialog.get_by_role("alert")).to_have_text("The library is busy.")
    expect(bin_dialog.get_by_text("The bin is empty.")).to_have_count(0)
    window.page.unroute("**/api/bin")
    window.page.keyboard.press("Escape")


@pytest.mark.parametrize("name", ["Models", "Settings", "Bin"])
def test_dialogs_fit_a_narrow_window(window, name):
    window.page.set_viewport_size({"width": 400, "height": 800})
    window.page.evaluate(
        f"document.getElementById('{'settings' if name == 'Settings' else 'open-' + name.lower()}').click()"
    )
    dialog = window.page.get_by_role("dialog", name=name)
    expect(dialog).to_be_in_viewport(ratio=0.95)
    assert window.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    body = dialog.locator(".dialog-body")
    assert body.evaluate("body => body.scrollWidth <= body.clientWidth")
    window.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
