"""What will be read, in headless Chromium: files and costs before a reading, passwords, addresses, and the queue."""

import http.server
import re
import threading
from dataclasses import replace

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from fake_planner import EASY
from page_driver import WAIT_MS, Window, wait_for
from playwright.sync_api import expect

from sala_core.store import SourceRow

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def patience():
    """Wait as long as the driver does: the machine may be busy."""
    expect.set_options(timeout=WAIT_MS)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture
def project(tmp_path):
    """A folder with files of known sizes, some of them not read."""
    folder = tmp_path / "typed" / "project"
    files = {"a.txt": 400, "docs/big.txt": 40_000, "docs/small.txt": 40, "docs/deep/c.txt": 4000, "id_rsa": 30, "e": 0}
    for name, size in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * size)
    return folder


def dialog_of(window):
    dialog = window.page.get_by_role("dialog", name="What will be read")
    expect(dialog).to_be_visible()
    return dialog


def chosen(workspace):
    return [call[1] for call in workspace.calls if call[0] == "chosen"]


def left(workspace):
    """Files that came through the browser and are still there."""
    folder = workspace.library.folder / "uploads"
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_a_folder_shows_its_files_with_tokens_and_ticks_before_it_is_read(window, workspace, project):
    page = window.page
    window.drop(project)
    dialog = dialog_of(window)
    expect(dialog.locator(".plan-total")).to_have_text("11,114 tokens in 4 files")
    assert workspace.library.rows == {}, "no session is made before it is decided"
    for words in ("about 4 s", "225 MB", "160 MB", "by earlier readings here"):
        expect(dialog.locator(".plan-facts")).to_contain_text(words)
    dialog.get_by_text("2 files are not read").click()
    expect(dialog.locator(".plan-skipped")).to_contain_text("project/id_rsa")
    expect(dialog.locator(".plan-skipped")).to_contain_text("empty")

    dialog.get_by_role("button", name="Largest first").click()
    names = dialog.locator(".plan-file").all_inner_texts()
    assert names == ["project/docs/big.txt", "project/docs/deep/c.txt", "project/a.txt", "project/docs/small.txt"]
    dialog.get_by_role("button", name="Largest first").click()

    dialog.get_by_role("checkbox", name="docs/", exact=True).uncheck()
    expect(dialog.locator(".plan-total")).to_have_text("101 tokens in 1 file")
    opener = dialog.get_by_role("button", name="Files of project/docs", exact=True)
    opener.press("Enter")
    expect(opener).to_be_focused()
    dialog.get_by_role("checkbox", name="small.txt").check()
    assert dialog.get_by_role("checkbox", name="docs/", exact=True).evaluate("box => box.indeterminate")

    workspace.planner.estimate_as = replace(EASY, refusal="1 tokens need 9.9 GiB; read fewer files")
    dialog.get_by_role("checkbox", name="deep/").check()
    expect(dialog.get_by_role("alert")).to_contain_text("This does not fit: 1 tokens need 9.9 GiB; read fewer files")
    expect(dialog.get_by_role("button", name="Read", exact=True)).to_be_disabled()
    workspace.planner.estimate_as = EASY
    dialog.get_by_role("checkbox", name="deep/").uncheck()
    dialog.get_by_role("button", name="Read", exact=True).click()
    window.wait_read()
    assert page.locator("#title h1").inner_text() == "project"
    assert chosen(workspace) == [(["project/docs/big.txt", "project/docs/deep/c.txt"], None)]
    assert left(workspace) == []


def test_cancel_leaves_nothing_and_later_waits_also_for_another_window(window, workspace, project, context, served):
    page = window.page
    window.drop(project)
    dialog_of(window)
    page.keyboard.press("Escape")
    card = page.locator("#upload .plan-card")
    expect(card).to_contain_text("“project” waits for you")
    window.reload().show("sources")
    expect(card).to_contain_text("“project” waits for you")
    second = Window(context.new_page(), served).open()
    second.show("sources")
    second.page.get_by_role("button", name="What will be read").click()
    dialog_of(second).get_by_role("button", name="Cancel").click()
    expect(second.page.locator("#upload .plan-card")).to_have_count(0)
    wait_for(lambda: left(workspace) == [], "the copy to go")
    assert workspace.library.rows == {}
    expect(page.locator("#upload [role=alert]")).to_contain_text("no longer there")
    page.locator("#upload [role=alert] button").click()


def test_a_short_file_is_read_at_once_and_a_long_one_asks(window, workspace, book, tmp_path):
    window.upload(book)
    window.wait_read()
    assert chosen(workspace) == []
    workspace.planner.estimate_as = replace(EASY, seconds=4000.0, is_first=True)
    more = tmp_path / "more.txt"
    more.write_text("more\n")
    window.upload(more)
    dialog = dialog_of(window)
    expect(dialog.locator(".plan-facts")).to_contain_text("about 1 h 6 min")
    expect(dialog.locator(".plan-facts")).to_contain_text("first estimate; no reading on this machine yet")
    dialog.get_by_role("button", name="Cancel").click()
    assert [call[0] for call in workspace.calls] == ["read"]


def test_a_password_is_asked_for_in_the_page_and_only_given_to_the_reading(window, workspace, tmp_path):
    workspace.planner.passwords["secret.pdf"] = "sesame"
    secret = tmp_path / "secret.pdf"
    secret.write_bytes(b"%PDF-1.7 " + b"x" * 100)
    window.upload(secret)
    dialog = dialog_of(window)
    expect(dialog.get_by_role("button", name="Read", exact=True)).to_be_disabled()
    for password in ("open", "sesame"):
        field = dialog.get_by_label("Password")
        assert field.get_attribute("type") == "password"
        field.fill(password)
        field.press("Enter")
        if password == "open":
            expect(dialog.locator(".plan-lock")).to_contain_text("this password does not open it")
    expect(dialog.locator(".plan-total")).to_have_text("28 tokens in 1 file")
    dialog.get_by_role("button", name="Read", exact=True).click()
    window.wait_read()
    assert chosen(workspace) == [([], {"secret.pdf": "sesame"})]
    files = [path for path in workspace.library.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"sesame" in path.read_bytes()]


def test_an_address_is_fetched_after_it_was_announced_and_agreed(window, workspace, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page.html").write_text("<p>The carriage waited in the rain.</p>")
    asked = []

    class Site(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "site"))

        def log_message(self, *arguments):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{site.server_address[1]}/page.html"
        window.read_path(address)
        dialog = dialog_of(window)
        expect(dialog).to_contain_text(f"To be fetched from the network: {address} (a page or file, at most 268 MB)")
        assert asked == []
        dialog.get_by_role("button", name="Fetch").click()
        expect(dialog).to_have_count(0, timeout=30_000)  # a small page is read at once
        window.wait_read()
        site.shutdown()
    assert asked == ["/page.html"]
    assert window.title == "page"
    window.read_path("ftp://example.org/x")
    expect(window.page.locator("#toast", has_text="only https:// and http:// addresses")).to_be_visible()


def test_what_is_dropped_during_a_reading_waits_in_the_list_and_can_be_taken_back(window, workspace, book, tmp_path):
    page = window.page
    workspace.script.reading_s = 120
    window.upload(book)
    window.wait_reading()
    for name in ("second.txt", "third.txt"):
        (tmp_path / name).write_text("more\n")
        window.drop(tmp_path / name)
        expect(page.locator("#documents .waits", has_text=name)).to_contain_text("waiting")
    page.get_by_role("button", name="Remove second.txt").click()
    expect(page.locator("#documents .waits")).to_have_count(1)
    window.reload().show("sources")
    expect(page.locator("#documents .waits")).to_contain_text("third.txt")
    workspace.script.reading_s = 0.5
    expect(page.locator("#documents .source")).to_have_count(2)
    assert window.documents() == ["novel.txt", "third.txt"]


def test_a_wrong_path_and_a_question_without_a_session_create_nothing(window, workspace):
    window.read_path("/no/such/folder")
    expect(window.page.locator("#toast", has_text="there is no file or folder /no/such/folder")).to_be_visible()
    window.page.locator("#question textarea").fill("Who?")
    window.page.locator("#question textarea").press("Enter")
    expect(window.page.locator("#toast", has_text="give it something to read first")).to_be_visible()
    assert workspace.library.rows == {}
    assert workspace.calls == []


def test_a_changed_file_says_so_and_its_costly_reading_asks_first(window, workspace, book):
    window.upload(book)
    window.wait_read()
    (session,) = workspace.library.sessions()
    (document,) = workspace.library.documents(session.id)
    workspace.library.texts[document.id] = replace(document, content_hash="h")
    workspace.library.stream[session.id][0] = workspace.library.parts(session.id)[0]
    known = {"content_hash": "h", "num_bytes": 1, "mtime_ns": 1, "file_hash": "f"}
    workspace.library.files[session.id] = [SourceRow(path=str(book), root=str(book), name="novel.txt", **known)]
    workspace.planner.known["novel.txt"] = "changed"
    workspace.planner.estimate_as = replace(EASY, tokens_again=900_000, seconds=300.0)
    window.reload().show("sources")
    item = window.page.locator("#documents .source")
    expect(item).to_contain_text("changed on disk")
    item.get_by_role("button", name="Read again novel.txt").click()
    dialog = dialog_of(window)
    expect(dialog).to_contain_text("changed: takes the place of its earlier version")
    expect(dialog).to_contain_text("900,000 tokens of this session are read again")
    expect(dialog).to_contain_text(re.compile("about 5 min"))
    dialog.get_by_role("button", name="Read", exact=True).click()
    wait_for(lambda: len([call for call in workspace.calls if call[0] == "read"]) == 2, "the reading")
