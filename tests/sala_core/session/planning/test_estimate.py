"""What a reading takes: by what was measured here, by a first measurement, and what does not fit."""

from dataclasses import replace

import pytest
from reading_helpers import last

from sala_core.engine.memory_budget import MAX_TOKENS
from sala_core.session.planning import estimate as module
from sala_core.session.planning.count import count_files
from sala_core.session.planning.estimate import estimate
from sala_core.session.planning.measured import STRETCH_TOKENS, Count, Measured, Stretch
from sala_core.session.planning.records import Additions, CountOrder
from sala_core.session.planning.shared import FileKey
from sala_core.session.planning.speed import GROWTH_PER_TOKEN, Speed, measure_first, model_key
from sala_core.session.planning.timing import catch_up
from sala_core.session.planning.usage import token_use
from sala_core.session.session import Session

pytestmark = pytest.mark.usefixtures("one_thread", "short_segments")


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("".join(f"Line {number}: the snow fell on the army.\n" for number in range(400)))
    return path


def stretch(index, tokens_per_s):
    return Stretch(start=index * STRETCH_TOKENS, num_tokens=1000.0, seconds=1000 / tokens_per_s)


def test_a_measured_stretch_counts_as_measured_and_others_lie_on_a_line():
    speed = Speed([stretch(0, 1000), stretch(4, 500)])
    assert speed.seconds(0, STRETCH_TOKENS) == pytest.approx(STRETCH_TOKENS / 1000)
    assert speed.seconds(0, 100) == pytest.approx(0.1)
    between = speed.seconds(2 * STRETCH_TOKENS, 3 * STRETCH_TOKENS) / STRETCH_TOKENS
    assert between == pytest.approx((1 / 1000 + 1 / 500) / 2)
    assert speed.seconds(9 * STRETCH_TOKENS, 10 * STRETCH_TOKENS) > STRETCH_TOKENS / 500


def test_one_measured_stretch_grows_as_this_family_does():
    speed = Speed([stretch(0, 1000)])
    far = speed.seconds(10**6, 10**6 + 1000)
    assert far == pytest.approx(1.0 * (1 + GROWTH_PER_TOKEN * 1_000_500), rel=0.06)


def test_readings_are_kept_by_position_and_newer_ones_outweigh_older_ones(measured):
    measured.add_reading("m", 0, 2 * STRETCH_TOKENS, 20.0)
    assert [each.start for each in measured.stretches("m")] == [0, STRETCH_TOKENS]
    assert measured.stretches("m")[0].token_s == pytest.approx(10 / STRETCH_TOKENS)
    for _ in range(20):
        measured.add_reading("m", 0, STRETCH_TOKENS, 5.0)
    assert measured.stretches("m")[0].token_s == pytest.approx(5 / STRETCH_TOKENS, rel=0.1)
    assert measured.stretches("another model") == []
    measured.add_reading("m", 5, 5, 1.0)
    measured.add_reading("m", -1, -1, 0.0)


def test_a_damaged_file_of_measurements_is_made_anew(tmp_path):
    (tmp_path / "measured.db").write_bytes(b"no database at all" * 100)
    measured = Measured(tmp_path)
    assert measured.count("k") is None
    measured.put_count("k", Count(num_tokens=5, num_pages=0))
    assert measured.count("k") == Count(num_tokens=5, num_pages=0)
    measured.close()


def test_a_reading_is_measured_and_an_opening_from_disk_saves_what_reading_took(library, engine, book, measured):
    with Session.open(library, engine, "s", create=True) as session:
        last(session.read([book]))
        session_id, context = session.row.id, session._context
        session.state.forget()
        for _ in catch_up(context, lambda: False, measured):
            pass
        assert measured.saved_s(session_id) == 0, "nothing was measured with this model"
        measured.add_reading(model_key(engine), 0, session.row.position, 600.0)
        for _ in catch_up(context, lambda: False, measured):
            pass
        assert measured.saved_s(session_id) == 0, "the state was in memory"
        session.state.forget()
        for _ in catch_up(context, lambda: False, measured):
            pass
    assert 590 < measured.saved_s(session_id) <= 600


def test_the_time_is_that_of_earlier_readings_and_else_of_a_first_measurement(library, engine, measured):
    additions = Additions(num_tokens=5000)
    unknown = estimate(library, engine, None, additions, measured=measured)
    assert (unknown.seconds, unknown.is_first, unknown.refusal) == (None, True, "")
    first = measure_first(engine)
    known = estimate(library, engine, None, additions, first=first, measured=measured)
    assert known.is_first
    assert known.seconds == pytest.approx(5000 * first.token_s, rel=0.2)
    measured.add_reading(model_key(engine), 0, 1000, 2.0)
    measured_now = estimate(library, engine, None, additions, first=first, measured=measured)
    assert (measured_now.is_first, measured_now.seconds) == (False, pytest.approx(10.0, rel=0.1))
    assert measured_now.memory_bytes > 0
    assert measured_now.disk_bytes > 5000 * 10


def test_what_does_not_fit_is_refused_with_advice(library, engine, measured, monkeypatch):
    too_long = estimate(library, engine, None, Additions(num_tokens=MAX_TOKENS + 1), measured=measured)
    assert "more than a session holds" in too_long.refusal
    assert "read fewer files" in too_long.refusal
    library.max_state_bytes = 1000
    quota = estimate(library, engine, None, Additions(num_tokens=5000), measured=measured)
    assert "quota" in quota.refusal
    library.max_state_bytes = None
    usage = type("usage", (), {"free": 1 << 20})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    full = estimate(library, engine, None, Additions(num_tokens=5000), measured=measured)
    assert "of disk and 0.0 GB is free" in full.refusal


def test_a_changed_file_costs_what_stands_behind_it(library, engine, book, tmp_path, measured):
    other = tmp_path / "other.txt"
    other.write_text("Another text about the general.\n" * 100)
    with Session.open(library, engine, "s", create=True) as session:
        last(session.read([book, other]))
        row = session.row
    first, second = library.documents(row.id)
    lengths = {part.document_id: part.end - part.start for part in library.parts(row.id)}
    changed = Additions(num_tokens=50, replaced=frozenset([first.content_hash]))
    found = estimate(library, engine, row, changed, measured=measured)
    assert found.tokens == row.num_tokens - lengths[first.id] + 50
    assert lengths[second.id] <= found.tokens_again <= row.num_tokens - lengths[first.id]
    new = estimate(library, engine, row, Additions(num_tokens=50), measured=measured)
    assert (new.tokens, new.tokens_again) == (row.num_tokens + 50, 0)
    used = token_use(library, row.id)
    assert used.documents == sum(length for document, length in lengths.items() if document)
    assert used.documents + used.conversation == row.num_tokens


def test_what_another_session_has_read_costs_nothing_and_is_said(library, engine, book, tmp_path, measured):
    note = tmp_path / "note.txt"
    note.write_text("A short note about the general.\n")
    with Session.open(library, engine, "first", create=True) as session:
        last(session.read([book]))
        writer = session._context.writer
    files = []
    count_files(library, writer, CountOrder(paths=(book, note), report=files.append), measured)
    keys = tuple(FileKey(name=file.name, file_hash=file.file_hash, num_tokens=file.num_tokens) for file in files)
    wanted = Additions(num_tokens=sum(file.num_tokens for file in files), files=keys)
    measured.add_reading(model_key(engine), 0, 20_000, 600.0)
    found = estimate(library, engine, None, wanted, measured=measured)
    assert (found.shared_with, found.tokens_shared > 0) == ("first", True)
    assert found.seconds < estimate(library, engine, None, replace(wanted, files=()), measured=measured).seconds
    assert found.disk_bytes < estimate(library, engine, None, replace(wanted, files=()), measured=measured).disk_bytes
    others = (
        keys[::-1],  # another order
        (replace(keys[0], name="other.txt"), keys[1]),  # another header
        (replace(keys[0], file_hash="0" * 32), keys[1]),  # other contents
    )
    for other in others:
        assert estimate(library, engine, None, replace(wanted, files=other), measured=measured).tokens_shared == 0
    with Session.open(library, engine, "second", create=True) as session:
        receipt = last(session.read([book, note]))
    assert receipt.tokens_reused == found.tokens_shared + library.parts("second")[0].end
