"""Which messages of a long conversation the page holds."""

from __future__ import annotations

from app import wording
from app.page.markup import tag

MIN_MESSAGES = 60
"""The latest messages that are always shown."""
STEP = 40
"""The first shown message moves on by this many at a time, so that seldom anything but the end of the page changes."""


def num_folded(num_messages: int) -> int:
    """How many messages at the beginning are not sent with the page; an even number, so that no turn is cut."""
    return max(0, (num_messages - MIN_MESSAGES) // STEP * STEP)


def earlier_button(num_messages: int) -> str:
    """The button that shows earlier turns; '' if there are none. num_messages: that are not shown."""
    if not num_messages:
        return ""
    words = f"Show earlier turns ({wording.count(num_messages // 2)} more)"
    return tag("button", words, type="button", class_="show-earlier")
