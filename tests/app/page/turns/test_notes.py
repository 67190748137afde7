"""What stands under a turn about how its answer came about."""

from app.page.turns.tools import note_html
from sala_core.events import AnswerStats


def test_a_model_that_was_still_reading_says_what_it_knew():
    assert "answered from the first 16,384 of 189,539 tokens" in note_html(AnswerStats(read_so_far=(16384, 189539)))
    assert note_html(AnswerStats()) == ""
