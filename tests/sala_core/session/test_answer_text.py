"""The text of an answer without its copies."""

import pytest

from sala_core.engine.generate import Token
from sala_core.session.answer_text import AnswerText

LOOP = " It was the old gardener."


@pytest.mark.parametrize(
    ("text", "repeated", "kept"),
    [
        (f"I think so.{LOOP * 9}", len(LOOP * 8), f"I think so.{LOOP}"),
        (f"I think so.{LOOP * 9}", len(LOOP * 8) + 1, f"I think so.{LOOP}"),
        (f"I think so.{LOOP * 9}", len(LOOP * 8) + 12, f"I think so.{LOOP}"),
        ("He said so: " + "y" * 300, 299, "He said so: y"),
        ("- one\n" * 50, 6 * 49 + 2, "- one\n"),
        ("y" * 300, 300, ""),
        ("Whole. Text", 0, "Whole. Text"),
    ],
)
def test_one_copy_is_kept_and_a_cut_sentence_is_completed(text, repeated, kept):
    assert AnswerText(text=text).without_copies(repeated) == kept


def test_thinking_is_timed_from_its_first_token_to_its_end(monkeypatch):
    now = iter([10.0, 13.0, 20.0, 30.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    answer = AnswerText(is_thinking=True)
    assert answer.thinking_s is None
    answer.add(Token(id=1, text="Hm", thinking=True))
    assert answer.thinking_s == 3.0
    assert answer.is_thinking
    answer.add(Token(id=2, text="", thinking=False))
    assert (answer.thinking_s, answer.is_thinking, answer.thinking, answer.text) == (10.0, False, "Hm", "")
    answer.add(Token(id=3, text="Yes", thinking=False))
    assert (answer.thinking_s, answer.text) == (10.0, "Yes")
