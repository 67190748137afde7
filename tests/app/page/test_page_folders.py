"""Files and whole folders dropped on the page or chosen there, in headless Chromium."""

import os
import time
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from page_driver import WAIT_MS, Window, wait_for
from playwright.sync_api import expect

from sala_core.ingest import FoundFile, Limits, walk

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture
def project(tmp_path):
    """A repository: ignored, hidden, secret and installed files, and more in one folder than one listing gives."""
    files = {
        ".gitignore": "build/\n*.log\n",
        ".git/info/exclude": "notes.txt\n",
        ".git/objects/aa/bb": "x" * 100_000,
        ".env": "PASSWORD=1\n",
        "build/deep/out.py": "pass\n",
        "notes.txt": "mine\n",
        "a.log": "gone\n",
        "node_modules/left-pad/index.js": "x",
        "env/pyvenv.cfg": "home = /usr\n",
        "env/lib/thing.py": "x",
        "src/sub/.gitignore": "*.tmp\n",
        "src/sub/x.tmp": "x",
        "src/sub/é <b>name</b> 'quoted'.txt": "accent\n",
        "empty.txt": "",
        **{f"many/chapter {number}.txt": f"Chapter {number}.\n" for number in range(230)},
    }
    folder = tmp_path / "typed" / "project"
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def verdicts(path):
    return [(type(entry).__name__, entry.name, getattr(entry, "reason", "")) for entry in walk([path], Limits())]


def received(workspace):
    """The paths of the only reading there was."""
    (call,) = [paths for kind, paths in workspace.calls if kind == "read"]
    return [Path(path) for path in call]


def check_same(folder, copy):
    """A reading of the copy gives the same receipt and the same texts."""
    assert verdicts(copy) == verdicts(folder)
    for entry in walk([copy], Limits()):
        if isinstance(entry, FoundFile):
            assert Path(entry.path).read_bytes() == (folder.parent / entry.name).read_bytes()
    private = {".env", "bb", "index.js", "notes.txt", "thing.py"}
    for path in copy.rglob("*"):
        assert path.name not in private or path.stat().st_size <= 1, f"{path} was sent"


def test_a_dropped_folder_is_read_like_one_given_by_its_path(window, workspace, project, book):
    window.drop(project, book)
    window.wait_read()
    assert window.title == "project"
    copy, alone = received(workspace)
    check_same(project, copy)
    assert (alone.name, alone.read_text()) == (book.name, book.read_text())
    expect(window.page.locator("#upload .progress")).to_have_count(0)


def test_a_chosen_folder_is_read_like_one_given_by_its_path(window, workspace, project):
    with window.page.expect_file_chooser() as choosing:
        window.page.locator("#choose-folder").click()
    choosing.value.set_files(str(project))
    window.wait_read()
    (copy,) = received(workspace)
    check_same(project, copy)


def test_files_can_be_dropped_anywhere_on_the_page(window, workspace, book):
    window.drop(book, on="#main")
    window.wait_read()
    assert [path.name for path in received(workspace)] == ["novel.txt"]
    assert window.page.url.startswith("http://127.0.0.1"), "the browser did not open the file itself"


def test_the_drop_zone_opens_a_chooser_by_keyboard(window, workspace, book):
    zone = window.page.get_by_role("button", name="Drop books, PDFs, code or whole folders here")
    with window.page.expect_file_chooser() as choosing:
        zone.press("Enter")
    choosing.value.set_files(str(book))
    window.wait_read()
    window.page.keyboard.press("Tab")
    expect(window.page.locator("#choose-folder")).to_be_focused()


def test_five_thousand_files_arrive(window, workspace, tmp_path):
    folder = tmp_path / "typed" / "big"
    for number in range(5000):
        path = folder / f"part {number // 100}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {number}\n")
    window.drop(folder)
    expect(window.page.locator("#upload .progress-facts")).to_contain_text("of 5,000 files", timeout=WAIT_MS)
    window.wait_read()
    (copy,) = received(workspace)
    assert sorted(path.read_text() for path in copy.rglob("*.txt")) == sorted(f"file {n}\n" for n in range(5000))


def test_an_upload_goes_to_the_session_that_was_open_when_it_began(window, workspace, book):
    for name in ("First", "Second"):
        workspace.new_session(name)
    window.open("First")
    window.page.route("**/api/uploads", lambda route: (time.sleep(1), route.continue_()))
    window.upload(book)
    window.open_session("Second")
    expect(window.page.locator("#toast", has_text="is being read in “First”")).to_be_visible()
    assert window.title == "Second"
    wait_for(lambda: workspace.library.session("First").num_documents == 1, "the reading")
    assert workspace.library.session("Second").num_documents == 0


def begin_endless_upload(window, project):
    """Drop the project and wait until it is being sent. No batch ever arrives."""
    held = []
    window.page.route("**/api/uploads/*/files", lambda route: held.append(route))
    window.drop(project)
    wait_for(lambda: window.page.locator("#upload .percent").inner_text() == "0%", "the files to be sent")


def upload_folders(tmp_path):
    return list(tmp_path.glob("sala-upload-*"))


def test_cancel_leaves_nothing_behind(window, workspace, project, tmp_path):
    begin_endless_upload(window, project)
    assert len(upload_folders(tmp_path)) == 1
    window.page.get_by_role("button", name="Cancel").click()
    expect(window.page.locator("#upload .progress")).to_have_count(0)
    wait_for(lambda: upload_folders(tmp_path) == [], "the copy to go")
    assert workspace.calls == []


def test_a_closed_tab_leaves_nothing_behind(window, workspace, project, tmp_path, context, served):
    Window(context.new_page(), served).open()
    begin_endless_upload(window, project)
    window.page.close()
    wait_for(lambda: upload_folders(tmp_path) == [], "the copy to go")
    assert workspace.calls == []


def test_a_vanished_file_is_reported_and_the_others_are_read(window, workspace, project):
    if os.name == "nt":
        pytest.skip("permissions of another kind")

    def vanish(route):
        if route.request.method == "POST":
            (project / "many" / "chapter 7.txt").unlink(missing_ok=True)
        route.continue_()

    window.page.route("**/api/uploads", vanish)
    window.drop(project)
    window.wait_read()
    (copy,) = received(workspace)
    found = {name: reason for _, name, reason in verdicts(copy)}
    assert found["project/many/chapter 7.txt"] == "cannot be opened: permission denied"
    assert found["project/many/chapter 8.txt"] == ""
    assert (copy / "many" / "chapter 229.txt").read_text() == "Chapter 229.\n"


def test_a_refusal_is_shown_with_its_reason(window, workspace, tmp_path):
    folder = tmp_path / "<img src=x onerror=window.bad=1>"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    words = '{"detail": "the library\'s <b>disk</b> is full"}'
    window.page.evaluate(
        """words => { const real = window.fetch; window.fetch = (to, how) => how && how.method === "POST"
           && String(to).endsWith("api/uploads")
           ? Promise.resolve(new Response(words, {status: 507})) : real(to, how); }""",
        words,
    )
    window.drop(folder)
    card = window.page.locator("#upload [role=alert]")
    expect(card).to_contain_text("the library's <b>disk</b> is full")
    expect(card).to_contain_text("<img src=x onerror=window.bad=1> could not be copied")
    assert window.page.evaluate("window.bad") is None
    card.get_by_role("button", name="Close").click()
    expect(card).to_have_count(0)


def test_an_empty_folder_is_said_so_and_leaves_nothing(window, workspace, tmp_path):
    folder = tmp_path / "nothing"
    folder.mkdir()
    window.drop(folder)
    dialog = window.page.get_by_role("dialog", name="What will be read")
    expect(dialog).to_contain_text("Nothing here can be read.")
    expect(dialog.get_by_role("button", name="Read", exact=True)).to_be_disabled()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    assert workspace.calls == []
    assert workspace.library.rows == {}
