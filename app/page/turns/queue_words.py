"""What a question waits for: its place in the queue, and about how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import wording

if TYPE_CHECKING:
    from sala_core.session.queue.waiting import Waiting

_ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth")
_STEP_S = 5.0
_FROM_S = 10.0


def waiting_words(waiting: Waiting | None) -> str:
    """ "Second in the queue, about 40 s". waiting: None for a job that another program has queued."""
    if waiting is None:
        return "Waiting for another window"
    place = _ORDINALS[waiting.place - 1] if waiting.place <= len(_ORDINALS) else f"Number {waiting.place}"
    words = f"{place} in the queue"
    if waiting.reason:
        words += f": {waiting.reason}; it is answered when that is done"
    if waiting.seconds is not None:
        words += f", about {wording.duration(_rounded(waiting.seconds))}"
    return words


def _rounded(seconds: float) -> float:
    """Whole steps of five seconds, because an estimate is no better."""
    return max(1.0, seconds) if seconds < _FROM_S else _STEP_S * round(seconds / _STEP_S)
