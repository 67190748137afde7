"""Pins, system prompts and hits of a search."""

import numpy as np
import pytest

from sala_core.errors import LibraryError
from sala_core.store import MessageDraft, PartDraft
from sala_core.store.listing.marks import MAX_PROMPT_CHARS


def ask(library, session, text, answer):
    messages = [MessageDraft(role="user", text=text), MessageDraft(role="assistant", text=answer)]
    parts = [PartDraft(kind="user", token_ids=np.arange(4, dtype=np.int32))]
    library.commit_turn(session, parts=parts, messages=messages, head=None, position=0)


def test_pinned_sessions_come_first(library, new_session):
    first, _second = new_session("first"), new_session("second")
    assert [row.name for row in library.sessions()] == ["second", "first"]
    library.pin_session(first, pinned=True)
    assert [row.name for row in library.sessions()] == ["first", "second"]
    library.pin_session(first, pinned=False)
    assert [row.name for row in library.sessions()] == ["second", "first"]


def test_a_system_prompt_is_kept_and_a_fork_begins_with_the_same(library, new_session):
    session = new_session("book")
    library.set_system_prompt(session, "  Answer in French.\n")
    library.pin_session(session, pinned=True)
    fork = library.fork_session(session, "copy")
    assert (fork.system_prompt, fork.pinned) == ("Answer in French.", False)
    with pytest.raises(LibraryError, match="shorten it"):
        library.set_system_prompt(session, "x" * (MAX_PROMPT_CHARS + 1))


def test_a_hit_names_session_and_message_with_the_words_around(library, new_session):
    session = new_session("Moby-Dick")
    answer = "At the very beginning of it all, long before the voyage of which the book tells, his name is Ishmael"
    ask(library, session, "What is the narrator called?", f"{answer}, he says; and he goes to sea.")
    (hit,) = library.search_hits("ISHMAEL,   he")
    row = library.messages(session)[1]
    assert (hit.session, hit.kind, hit.item, hit.role) == ("Moby-Dick", "message", row.id, "assistant")
    assert (hit.found, hit.after) == ("Ishmael, he", " says; and he goes to sea.")
    assert hit.before.startswith("…")
    assert hit.before.endswith("his name is ")


def test_names_are_hits_before_messages_and_any_text_is_a_valid_search(library, new_session):
    whale, other = new_session("The whale"), new_session("other")
    ask(library, other, "Is there a whale?", "There is 100% one.")
    assert [(hit.kind, hit.session_id) for hit in library.search_hits("whale")] == [("name", whale), ("message", other)]
    assert [hit.found for hit in library.search_hits("100%")] == ["100%"]
    for text in ("", "  ", "%", '"', "\0", "'; DROP TABLE sessions", "ſ"):
        library.search_hits(text)
    assert len(library.search_hits("whale", limit=1)) == 1
    assert [hit.found for hit in library.search_hits("whales whale xy")] == [], "its longest word is not there"
