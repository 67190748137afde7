"""The list of sources in headless Chromium: removing a document, and the switch that watches a folder."""

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from fake_workspace import FakeJob, FakeMessage
from playwright.sync_api import expect

from app.page.conversation import history_html
from app.page.reading import receipt_html, watch_note_html
from app.page.sources.source_list import SourceFacts, sources_html
from sala_core.events import ReadPlan, ReadReceipt
from sala_core.ingest import SkippedFile
from sala_core.store import PartRow, SourceRow
from sala_core.store.rows import DocumentRow, JobRow, ReadRequest


def source(name="a.txt", **changes):
    values = {"path": f"/books/{name}", "root": "/books", "content_hash": name, "num_bytes": 1, "file_hash": ""}
    return SourceRow(name=name, mtime_ns=-1, **values | changes)


def row(name="a.txt"):
    return DocumentRow(
        id="0" * 32,
        name=name,
        media_type="text/plain",
        num_bytes=1,
        num_chars=1,
        num_tokens=1200,
        num_pages=0,
        warnings=(),
        content_hash=name,
        tokenizer_fingerprint="",
        file_bytes=1,
        created_at=0.0,
    )


def listed(**facts):
    return sources_html(SourceFacts(documents=[row()], **facts))


def test_the_list_tells_what_was_replaced_and_what_is_gone():
    assert "replaced 2 times" in listed(sources=[source(num_changes=2)])
    assert "gone from its place; its text stays" in listed(sources=[source(status="gone")])
    assert "drop a changed file again" in watch_note_html([source(root="", path="a.txt")], "")
    assert watch_note_html([source()], "") == ""


def test_each_source_shows_its_state():
    part = PartRow(ordinal=1, kind="document", start=100, end=1300, document_id="0" * 32, body_start=9, message_id=None)
    assert "waiting · 1.2K tokens" in listed(parts=[part], position=100)
    assert "being read · 1.2K tokens" in listed(parts=[part], position=500)
    assert "<span>0 of 1</span>" in listed(parts=[part], position=500)
    assert "<span>1</span>" in listed(parts=[part], position=1300)
    assert "changed on disk · 1.2K tokens" in listed(on_disk={"a.txt": "changed"})
    failed = SkippedFile(name="bad.pdf", path="", reason="a damaged PDF: it cannot be opened", is_failed=True)
    left_out = SkippedFile(name="x.bin", path="", reason="binary")
    receipt = ReadReceipt.from_json({"skipped": [failed.to_json(), left_out.to_json()]})
    shown = listed(last=FakeJob(id="j", session_id="s", kind="read", result=receipt))
    assert "failed: a damaged PDF: it cannot be opened" in shown
    assert "x.bin" not in shown
    waits = FakeJob(id="j7", session_id="s", kind="read", request=ReadRequest(paths=("/up/<b>.txt",)))
    shown = sources_html(SourceFacts(documents=[], waiting=[waits]))
    assert "&lt;b&gt;.txt" in shown
    assert "waits job-j7" in shown
    assert sources_html(SourceFacts(documents=[])) == ""


def test_an_answer_from_an_earlier_version_is_marked():
    said = FakeMessage(id="a", role="assistant", text="Yes.")
    shown = history_html([said], "", {"a": ("an earlier version of <b>.txt",)})
    assert "Answered from an earlier version of &lt;b&gt;.txt." in shown
    assert "Answered from" not in history_html([said])


def test_the_receipt_tells_what_is_read_again_and_with_whom_a_beginning_is_shared():
    plan = ReadPlan(changed=("a.txt",), gone=("b.txt",), tokens=50_000, tokens_read=38_300, tokens_new=200)
    receipt = ReadReceipt(
        files=2,
        pages=0,
        tokens=900,
        tokens_read=38_300,
        tokens_reused=11_700,
        seconds=3.0,
        skipped=(),
        warnings=(),
        stopped=False,
        tokens_shared=11_700,
        shared_with="other",
        plan=plan,
    )
    assert ReadReceipt.from_json(receipt.to_json()) == receipt
    job = JobRow(
        id="1",
        session_id="1",
        kind="read",
        status="done",
        request=ReadRequest(),
        progress=None,
        result=receipt,
        error=None,
        owner_pid=1,
        owner_started=0.0,
        created_at=0.0,
        updated_at=0.0,
    )
    shown = receipt_html(job)
    assert "replaced, 38,100 tokens read again" in shown
    assert "shared with other: 11,700 tokens not read again" in shown
    assert "gone; its text stays" in shown


@pytest.mark.browser
@pytest.mark.timeout(120)
def test_a_source_is_removed_after_a_question_and_a_folder_is_watched(window, workspace, book):
    window.upload(book)
    window.wait_read()
    page = window.page
    expect(page.locator("#watch-folder")).to_be_hidden()
    page.get_by_role("button", name="Remove novel.txt").click()
    question = page.locator("#remove-form")
    expect(question).to_contain_text("Remove “novel.txt” from this session? About 38,100 tokens")
    page.locator("#keep-source").click()
    expect(question).to_be_hidden()
    (session,) = workspace.library.sessions()
    workspace.watchers.watchable[session.id] = ["/books"]
    window.reload()
    page.get_by_label("Watch this folder").check()
    expect(page.locator("#toast")).to_contain_text("Changes in /books are read as they come")
    assert workspace.watchers.is_on(session.id)
    page.get_by_role("button", name="Remove novel.txt").click()
    page.locator("#confirm-remove").click()
    expect(page.locator("#documents li")).to_have_count(0)
    assert [call[0] for call in workspace.calls if call[0] == "remove"] == ["remove"]
