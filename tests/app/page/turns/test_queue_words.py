"""What a question that waits is told."""

import pytest
from fake_workspace import FakeJob

from app.page.reading import progress_html
from app.page.turns.queue_words import waiting_words
from sala_core.session.queue.waiting import Waiting


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        (Waiting(place=2, seconds=41.0), "Second in the queue, about 40 s"),
        (Waiting(place=1, seconds=None), "First in the queue"),
        (Waiting(place=1, seconds=0.0), "First in the queue, about 1 s"),
        (Waiting(place=12, seconds=200.0), "Number 12 in the queue, about 3 min 20 s"),
        (
            Waiting(place=1, seconds=61.0, reason="its session is being read by a command"),
            "First in the queue: its session is being read by a command; it is answered when that is done, about 1 min",
        ),
    ],
)
def test_place_and_time_in_words(waiting, words):
    assert waiting_words(waiting) == words


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        (Waiting(place=1, seconds=0), "Waiting for the model"),  # which is being loaded
        (Waiting(place=1, seconds=200.0), "First in the queue, about 3 min 20 s"),
        (Waiting(place=1, seconds=None), "First in the queue"),
        (Waiting(place=2, seconds=0), "Second in the queue"),
    ],
)
def test_a_reading_behind_another_one_says_so(waiting, words):
    job = FakeJob(id="j", session_id="s", kind="read", waiting=waiting)
    assert words in progress_html(job)
