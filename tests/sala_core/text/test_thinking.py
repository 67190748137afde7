"""Splitting thinking from the answer, for any division of the text into pushes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sala_core.text.thinking import ThinkSplitter

TEXTS = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "</", "think>", " ", "\n", "a", "b ", "<thin", "k>"]),
    max_size=12,
).map("".join)


def split(pieces, *, inside=False):
    """(thinking, answer) of text pushed in pieces."""
    splitter = ThinkSplitter(inside=inside)
    out = [piece for text in pieces for piece in splitter.push(text)] + splitter.flush()
    assert all(piece.text for piece in out)
    kinds = [piece.thinking for piece in out]
    assert kinds == sorted(kinds, reverse=True)  # thinking comes first
    return tuple("".join(piece.text for piece in out if piece.thinking is kind) for kind in (True, False))


@given(TEXTS, st.booleans())
def test_pushing_single_characters_equals_pushing_all_at_once(text, inside):
    assert split(list(text), inside=inside) == split([text], inside=inside)


@given(TEXTS)
def test_text_that_does_not_open_with_the_tag_is_all_answer(text):
    text = "x" + text
    assert split(list(text)) == ("", text)


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>why</think>so", "why", "so"),
        ("\n <think>\nwhy\n\nindeed\n</think>\n\nso\n", "why\n\nindeed", "so\n"),
        ("<think>\n\n</think>\n\nso", "", "so"),
        ("<think>never closed </thin", "never closed </thin", ""),
        ("so <think>no tag</think>", "", "so <think>no tag</think>"),
        ("<think>a</think>b</think><think>c", "a", "b</think><think>c"),
        ("<thinking>", "", "<thinking>"),
        ("  plain", "", "  plain"),
        ("", "", ""),
    ],
)
def test_thinking_and_answer_are_separated(text, thinking, answer):
    assert split([text]) == (thinking, answer)


def test_a_prompt_that_opens_the_block_starts_inside():
    assert split(["why</th", "ink>so"], inside=True) == ("why", "so")


def test_text_is_returned_as_soon_as_it_cannot_be_a_tag():
    splitter = ThinkSplitter()
    assert splitter.push("<thi") == []
    assert [piece.text for piece in splitter.push("s")] == ["<this"]
    assert [piece.text for piece in splitter.push(" is")] == [" is"]


@given(TEXTS, st.booleans())
def test_where_the_text_ends_is_known_at_every_character(text, inside):
    splitter = ThinkSplitter(inside=inside)
    for n, character in enumerate(text, 1):
        splitter.push(character)
        begin = text[:n].lstrip()
        opened = inside or begin.startswith("<think>")
        closed = "</think>" in (text[:n] if inside else begin.removeprefix("<think>"))
        assert splitter.thinking == (opened and not closed)
        assert splitter.in_open_tag == (not opened and begin != "" and "<think>".startswith(begin))
        ends = [text[:n].endswith("</think>"[:k]) for k in range(1, 8)]
        if splitter.in_close_tag:
            assert splitter.thinking
            assert any(ends)
