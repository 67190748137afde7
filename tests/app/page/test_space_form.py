"""What the form for free space proposes, counts, frees and keeps; and names of copied sessions."""

import pytest
from fake_workspace import FakePart, FakeWorkspace

from app.page import space
from app.page.session_list import copied_words, copy_name
from app.page.view import notice_html, session_view
from sala_core.errors import SessionBusyError

DAY_S = 86_400
NOW = 2_000_000_000.0


@pytest.fixture
def workspace():
    workspace = FakeWorkspace()
    for name, days, position in (("new", 1, 100), ("old", 45, 1000), ("empty", 90, 0)):
        row = workspace.new_session(name)
        row.position = row.num_tokens = position
        row.updated_at = NOW - days * DAY_S
    return workspace


def key(workspace, name):
    return workspace.library.session(name).id


def test_the_least_recently_used_is_listed_first(workspace):
    workspace.library.left_over_bytes = 5_000_000
    found = space.freeable(workspace, NOW)
    assert [item.key for item in found] == [space.LEFT_OVER, key(workspace, "old"), key(workspace, "new")]
    assert [item.is_proposed for item in found] == [True, True, False]
    assert found[0].label == "Left over: no session needs it\n5 MB"
    assert found[2].label == "new\n851 KB · used yesterday"
    assert space.chosen_bytes(workspace, [item.key for item in found]) == sum(item.num_bytes for item in found)


def test_a_session_that_shares_its_state_is_listed_with_its_own_bytes(workspace):
    workspace.library.shared_bytes = 9_000_000
    old, _ = space.freeable(workspace, NOW)
    assert old.label.startswith("old\n9 MB and 9 MB shared · used ")
    assert old.num_bytes == 1000 * 8512


def test_what_other_programs_have_sent_is_one_item_and_freed_together(workspace):
    for number in (1, 2):
        row = workspace.new_session(f"api: client {number}")
        row.position = row.num_tokens = 1000
    sent = space.freeable(workspace, NOW)[0]
    assert (sent.key, sent.is_proposed) == (space.SENT, False)
    assert sent.label == "Sent by other programs: 2 conversations\n17 MB"
    assert space.chosen_bytes(workspace, [space.SENT]) == sent.num_bytes
    freed, kept = space.free(workspace, [space.SENT])
    assert (freed, kept) == (sent.num_bytes, [])
    assert [row.position for row in workspace.library.sessions_of_others()] == [0, 0]


def test_the_form_tells_that_there_is_nothing_to_free():
    assert space.freeable(FakeWorkspace()) == []
    assert "Nothing can be freed" in space.question_html([])


def test_freeing_reports_bytes_and_keeps_busy_sessions(workspace, monkeypatch):
    drop = workspace.library.drop_state

    def held(session_id):
        if session_id == key(workspace, "new"):
            raise SessionBusyError("session 'new' is held for writing by process 7")
        return drop(session_id)

    monkeypatch.setattr(workspace.library, "drop_state", held)
    workspace.library.left_over_bytes = 1000
    gone = workspace.new_session("gone")
    keys = [space.LEFT_OVER, gone.id, key(workspace, "new"), key(workspace, "old")]
    workspace.library.delete_session(gone.id)
    monkeypatch.setattr(workspace, "active_job", lambda _: None)
    monkeypatch.setattr(workspace.library, "drop_state", _without(gone.id, held))
    freed, kept = space.free(workspace, keys)
    assert freed == 1000 * 8512 + 1000
    assert kept == ["session 'new' is held for writing by process 7"]
    assert space.freed_words(freed, kept) == "9 MB freed. Not freed: session 'new' is held for writing by process 7."
    assert workspace.library.session("old").position == 0


def _without(missing, drop):
    from sala_core.errors import SessionNotFoundError

    def dropped(session_id):
        if session_id == missing:
            raise SessionNotFoundError("no such session")
        return drop(session_id)

    return dropped


def test_the_notice_of_a_freed_session_tells_that_it_is_read_again(workspace):
    row = workspace.library.session("old")
    workspace.library.texts["d"] = object()
    workspace.library.stream[row.id] = [FakePart(ordinal=0, kind="document", start=0, end=1000, document_id="d")]
    assert not session_view(workspace, row).is_freed
    workspace.library.drop_state(row.id)
    view = session_view(workspace, row)
    assert view.is_freed
    assert view.can_continue
    assert "up to 1,000 tokens are read again when you ask, or now" in notice_html(view)


def test_copies_get_numbered_names():
    workspace = FakeWorkspace()
    names = ["Tolstoy"]
    workspace.new_session("Tolstoy")
    for expected in ("Tolstoy (copy)", "Tolstoy (copy 2)", "Tolstoy (copy 3)"):
        assert copy_name(workspace, names[-1]) == expected
        workspace.new_session(expected)
        names.append(expected)
    assert copy_name(workspace, "(copy)") == "(copy) (copy)"
    assert len(copy_name(workspace, "x" * 200)) <= 200


def test_the_message_of_a_copy_tells_that_nothing_is_read_twice():
    workspace = FakeWorkspace()
    row = workspace.new_session("a (copy)")
    assert copied_words(row) == "Copied as “a (copy)”."
    row.num_tokens = 5
    assert "nothing is read twice" in copied_words(row)
