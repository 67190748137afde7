"""What the page shows, as text: escaping, numbers, progress, receipts, evidence, quotations, windows."""

import re
from dataclasses import replace

import gradio as gr
import pytest
from fake_workspace import FakeDocument, FakeJob, FakeMessage, FakeMeter, FakeModelInfo, FakeWorkspace
from hypothesis import given
from hypothesis import strategies as st

from app import wording
from app.page import conversation, evidence, meter, reading, session_list, view
from app.page.handlers import Handlers
from app.page.markup import block, escape, tag
from app.page.page import build_page, page_options
from app.page.panels import build_panels
from app.page.sources.source_list import SourceFacts, sources_html
from sala_core.events import AnswerStats, Evidence, KernelProgress, ReadProgress, ReadReceipt
from sala_core.ingest import SkippedFile

EVIL = '<script>alert(1)</script>" onload="x\n\n# Heading $$x$$ ![i](http://e.example/i.png)'


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (999, "999"), (1000, "1.0K"), (48_000, "48K"), (999_499, "999K"), (999_500, "1.00M"),
     (1_048_576, "1.05M"), (10_400_000, "10M")],
)  # fmt: skip
def test_short_counts(number, words):
    assert wording.short_count(number) == words


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [(0, "0 B"), (812, "812 B"), (48_200_000, "48 MB"), (3_240_000_000, "3.2 GB"), (9e15, "9000.0 TB")],
)
def test_sizes(num_bytes, words):
    assert wording.size(num_bytes) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "under a second"), (42, "42 s"), (60, "1 min"), (200, "3 min 20 s"), (1810, "30 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds, words):
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("elapsed", "words"),
    [(5, "just now"), (125, "2 min ago"), (7300, "2 h ago"), (90_000, "yesterday"), (4 * 86_400, "4 days ago")],
)
def test_distances_in_time(elapsed, words):
    assert wording.ago(1_000_000, now=1_000_000 + elapsed) == words


def test_places():
    assert wording.place(None, 7, 7) == "line 7"
    assert wording.place(3, 1200, 1204) == "page 3, lines 1,200–1,204"


@given(st.text(max_size=200))
def test_escaped_text_holds_no_markup_and_no_line_break(text):
    assert not set(escape(text)) & set("<>\"'\n\r$")


def test_a_block_is_one_line_of_html():
    shown = block(tag("p", escape(EVIL), title=EVIL), class_="x")
    assert "\n" not in shown
    assert "<script" not in shown
    assert shown.count("<") == 4


def _answer(text, **changes):
    return FakeMessage(id="a", role="assistant", text=text, **changes)


def test_turns_are_shown_with_thinking_first_and_the_pending_question_last():
    said = _answer("Yes", thinking="Hm <b>", stats=AnswerStats(finish_reason="stopped"))
    shown = conversation.history_html([FakeMessage(id="q", role="user", text="So?"), said], "And\n<i>now</i>?")
    order = [shown.index(words) for words in ("So?", "Thought", "Hm &lt;b&gt;", "Yes", "Stopped here.", "Copy answer")]
    assert order == sorted(order)
    assert shown.endswith("<p>And<br>&lt;i&gt;now&lt;/i&gt;?</p></div></article>")
    assert shown.count("<article") == 3


@pytest.mark.parametrize(
    ("seconds", "end", "title"),
    [
        (12.4, "model", "Thought for 12 s"),
        (0.2, "", "Thought for under a second"),
        (83.0, "budget", "Thought for 1 min 23 s, up to its limit"),
        (5.0, "repetition", "Thought for 5 s, until it only repeated itself"),
        (5.0, "open", "Thought for 5 s, not to its end"),
    ],
)
def test_thinking_is_titled_with_its_time_and_its_end(seconds, end, title):
    stats = AnswerStats(seconds_thinking=seconds, thinking_end=end)
    shown = conversation.answer_html(_answer("Yes", thinking="Hm", stats=stats))
    assert f"<summary>{title}</summary>" in shown


def test_the_title_counts_while_the_thinking_goes_on():
    job = FakeJob(id="j", session_id="s", kind="ask", thinking="Hm", thinking_s=7.2, is_thinking=True)
    assert conversation.thinking_title(job) == "Thinking for 7 s"
    job.is_thinking = False
    assert conversation.thinking_title(job) == "Thought for 7 s"


def test_an_answer_that_looped_says_so():
    said = _answer("It was the gardener.", stats=AnswerStats(finish_reason="repetition"))
    ending = "Ended here, because the model only repeated itself. The copies are left out."
    assert f'<p>It was the gardener.</p><p class="ending">{ending}</p>' in conversation.answer_html(said)


def _reading(**progress):
    facts = {
        "phase": "reading", "file": EVIL, "files_done": 1, "files_total": 3, "tokens_done": 250, "tokens_total": 1000,
        "tokens_per_s": 5200.4, "seconds_left": 75.0,
    }  # fmt: skip
    return FakeJob(id="j", session_id="s", kind="read", status="running", progress=ReadProgress(**facts | progress))


def test_progress_gives_phase_file_tokens_speed_and_time_left():
    shown = reading.progress_html(_reading())
    assert "25%" in shown
    assert '<progress max="1000" value="250">' in shown
    assert "file 2 of 3 · 250 of 1,000 tokens · 5,200 tokens/s · 1 min 15 s left" in shown
    assert "<script" not in shown


def test_progress_without_numbers_yet_is_a_moving_bar():
    for job in (_reading(phase="preparing", tokens_total=0), FakeJob(id="j", session_id="s", kind="read")):
        assert "<progress></progress>" in reading.progress_html(job)


def test_a_receipt_names_every_skipped_file_with_its_reason():
    result = ReadReceipt(
        files=2, pages=310, tokens=90_000, tokens_read=60_000, tokens_reused=30_000, seconds=130.0,
        skipped=tuple(SkippedFile(name=f"{EVIL}{n}", path="", reason=f"reason {n}") for n in range(3)),
        warnings=("pages 3, 7-9: no text (scanned?)",), stopped=False,
    )  # fmt: skip
    shown = reading.receipt_html(FakeJob(id="j", session_id="s", kind="read", status="done", result=result))
    assert "2 files · 310 pages · 60,000 tokens read in 2 min 10 s · 30,000 known already" in shown
    assert "3 files skipped" in shown
    assert all(f"reason {n}" in shown for n in range(3))
    assert "1 warning" in shown
    assert "<script" not in shown


def test_long_lists_are_cut_and_give_the_number_of_the_rest():
    rows = [FakeDocument(id=str(n), name=f"f{n}", media_type="", num_bytes=1, num_tokens=1) for n in range(250)]
    shown = sources_html(SourceFacts(documents=rows))
    assert shown.count("<li") == reading.MAX_LISTED + 1
    assert "and 50 more" in shown


def _place(**changes):
    facts = {
        "document": EVIL, "document_id": "d", "page": 2, "line_start": 20, "line_end": 21, "text": EVIL, "score": 0.5,
    }  # fmt: skip
    return Evidence(**facts | changes)


def test_evidence_shows_ranked_places_that_the_source_viewer_can_open():
    shown = evidence.evidence_html([_place(), _place(score=0.25)], "m1")
    assert shown.count("page 2, lines 20–21") == 2
    assert 'class="evidence message-m1"' in shown
    assert re.findall(r'class="place key-(\w+)"', shown) == ["e0", "e1"]
    assert 'value="0.500"' in shown
    assert "<script" not in shown
    assert evidence.evidence_html([_place(score=0.0)], "m1").count('value="0.000"') == 1
    assert evidence.evidence_html([], "m1") == ""


WRAPPED = "was found\n" + "in the banks of the river in the south of the land\n" * 3 + "and is blue."
CODE = "def add(a, b):\n    return a + b  # the sum of both of them, which is what it says\n\nprint(add(1, 2))"
VERSE = (
    "The sea is calm to-night.\nThe tide is full, the moon lies fair\nUpon the straits; on the French coast\nGleams."
)


@pytest.mark.parametrize(("text", "is_joined"), [(WRAPPED, True), (CODE, False), (VERSE, False)])
def test_lines_of_wrapped_prose_are_joined_and_those_of_code_and_verse_stay(text, is_joined):
    shown = evidence.evidence_html([_place(text=text, page=None)], "m1")
    snippet = re.search(r'class="snippet">(.*?)</span>', shown, re.DOTALL)[1]
    assert ("&#10;" not in snippet) == is_joined


def test_evidence_in_a_table_shows_its_rows_and_the_names_of_the_columns():
    shown = evidence.evidence_html([_place(rows=(5000, 5001), header=f"id, {EVIL}")], "m1")
    assert "rows 5,000–5,001" in shown
    assert "Columns: id, " in shown
    assert "<script" not in shown
    assert "Columns" not in evidence.evidence_html([_place()], "m1")


def test_a_place_in_a_pdf_or_a_presentation_is_its_page():
    assert wording.place(129, 5107, 5108, document="a/Report.PDF") == "page 129"
    assert wording.place(3, 40, 40, document="talk.pptx") == "slide 3"
    assert wording.place(2, 40, 41, document="sums.xlsx") == "sheet 2, lines 40–41"


def test_each_answer_has_a_button_for_each_place_of_evidence():
    message = FakeMessage(id="m1", role="assistant", text="So.", evidence=(_place(), _place(document="r.pdf", page=7)))
    shown = conversation.answer_html(message)
    assert 'data-message="m1"' in shown
    assert re.findall(r'data-passage="(\w+)">([^<]+)<', shown) == [("e0", "page 2"), ("e1", "page 7")]
    assert 'aria-label="Open evidence 2: r.pdf, page 7"' in shown
    assert "<script" not in shown
    assert "Evidence" not in conversation.answer_html(FakeMessage(id="m", role="assistant", text="So."))


def test_the_meter_shows_read_free_and_memory():
    facts = FakeMeter(
        tokens_read=48_000, tokens_pending=1200, tokens_free=950_000, state_bytes=409_000_000,
        library_bytes=3_200_000_000, process_bytes=1_240_000_000,
    )  # fmt: skip
    shown = meter.meter_html(facts)
    assert all(words in shown for words in ("48K", "of 999K", "1,200 tokens wait", "409 MB", "3.2 GB", "1.2 GB"))
    for name, number in (("Documents", "47K"), ("Conversation", "900"), ("Thinking", "100"), ("Free", "950K")):
        assert f"<dt>{name}</dt><dd>{number}</dd>" in shown
    assert "saved" not in shown
    assert "saved 41 minutes of reading" in meter.meter_html(replace(facts, saved_s=2460.0))


def test_the_banner_is_for_demonstration_and_failed_models_only():
    shown = meter.banner_html(FakeModelInfo())
    assert "small demonstration model" in shown
    assert '<button type="button" class="open-models">Choose a larger model</button>' in shown
    assert meter.banner_html(FakeModelInfo(is_demonstration=False)) == ""
    assert "no &lt;b&gt; file" in meter.banner_html(FakeModelInfo(status="failed", error="no <b> file"))


def test_a_note_about_the_device_and_the_compiling_of_kernels_are_shown():
    note = "The CPU computes, not the card: torch is a <CPU> build."
    for is_demonstration in (True, False):
        shown = meter.banner_html(FakeModelInfo(is_demonstration=is_demonstration, device_note=note))
        assert "The CPU computes, not the card: torch is a &lt;CPU&gt; build." in shown
        assert ("small demonstration model" in shown) == is_demonstration
    loading = FakeModelInfo(status="loading", kernels=KernelProgress(kernels_done=3, kernels_total=14))
    assert "Compiling kernels 3 of 14 (first start on this card)" in meter.model_html(loading)


def test_new_sessions_get_an_unused_name():
    workspace = FakeWorkspace()
    for _ in range(3):
        workspace.new_session(session_list.unused_name(workspace))
    assert sorted(row.name for row in workspace.library.sessions()) == ["Untitled", "Untitled 2", "Untitled 3"]


def test_the_stamp_changes_with_what_the_page_shows():
    workspace = FakeWorkspace()
    row = workspace.new_session("a")

    def now():
        return view.stamp(workspace, row.id, "", "")

    first = now()
    assert now() == first
    row.num_messages += 2
    second = now()
    workspace.info = FakeModelInfo(status="loading")
    assert len({first, second, now()}) == 3


def test_a_window_that_is_still_loading_is_not_rendered_without_its_session():
    handlers = Handlers(FakeWorkspace(), (panels := build_in_a_page()))
    assert list(handlers.watch("", "", "", "")) == [panels.stamp]
    assert panels.header.title in handlers.watch("", "", "an older stamp", "")


def test_a_window_that_lost_its_job_follows_it_again(tmp_path):
    workspace = FakeWorkspace()
    handlers = Handlers(workspace, (panels := build_in_a_page()))
    row = workspace.new_session("a")
    workspace.script.reading_s = 60
    job_id = workspace.submit_read(row.id, [tmp_path])
    seen = view.stamp(workspace, row.id, job_id, "")
    assert list(handlers.watch(row.id, job_id, seen, "")) == [panels.meter]
    for lost in ("", "another"):
        assert handlers.watch(row.id, lost, seen, "")[panels.job] == job_id
    workspace.close()


def build_in_a_page():
    with gr.Blocks():
        return build_panels()


def test_the_page_has_no_public_api_and_contacts_no_other_host():
    page = build_page(FakeWorkspace())
    assert all(function.api_visibility == "private" for function in page.fns.values())
    assert not any(function.queue for function in page.fns.values())
    options = page_options()
    assert options["run_history"] is False
    assert options["allowed_paths"] == []
    assert all(
        font["url"] is None for font in (f.stylesheet() for f in options["theme"]._font + options["theme"]._font_mono)
    )
    styles = "".join(path.read_text(encoding="utf-8") for path in options["css_paths"])
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_welcome_tells_what_is_still_unread():
    assert "Ready for your questions" in conversation.welcome_html(2, 0, "")
    shown = conversation.welcome_html(2, 0, "", is_read=False)
    assert "Not all is read yet" in shown
    assert "2 documents waiting" in shown
    assert conversation.welcome_html(2, 1, "", is_read=False) == ""


def test_a_model_that_gave_way_to_the_former_one_is_told_above_the_conversation():
    info = FakeModelInfo(switch_failure="big could not be loaded, and embedded is active again: <no memory>")
    shown = meter.banner_html(info)
    assert "banner-error" in shown
    assert "embedded is active again: &lt;no memory&gt;" in shown
    assert "This is a small demonstration model." in shown
