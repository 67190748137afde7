"""How counts, sizes, times and places are written for the user, on the page and by the commands."""

from __future__ import annotations

import time

_THINKING_ENDS = {
    "budget": ", up to its limit",
    "repetition": ", until it only repeated itself",
    "open": ", not to its end",
}
BIN_DAYS = 30
"""How long a deleted session is kept; `sala_core.store.listing.bin` deletes it then."""
_BYTE_UNITS = ("B", "KB", "MB", "GB", "TB")


def count(number: int) -> str:
    """1234567 -> '1,234,567'."""
    return f"{number:,}"


def short_count(number: int) -> str:
    """Write a count in at most five characters: 950, 48K, 1.05M."""
    if number < 1000:
        return str(number)
    if number < 999_500:
        return f"{number / 1000:.0f}K" if number >= 9_950 else f"{number / 1000:.1f}K"
    return f"{number / 1e6:.2f}M" if number < 9_995_000 else f"{number / 1e6:.0f}M"


def plural(number: int, noun: str) -> str:
    """(1, 'page') -> '1 page'; (3, 'page') -> '3 pages'."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def size(num_bytes: int) -> str:
    """Write a number of bytes with a unit: 812 B, 48 MB, 3.2 GB (powers of 1000)."""
    value = float(num_bytes)
    for unit in _BYTE_UNITS:
        if value < 999.5 or unit == _BYTE_UNITS[-1]:
            break
        value /= 1000
    return f"{value:.1f} {unit}" if unit in ("GB", "TB") else f"{value:.0f} {unit}"


def duration(seconds: float) -> str:
    """Write a duration: 'under a second', '42 s', '3 min 20 s', '2 h 5 min'."""
    if seconds < 1:
        return "under a second"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min" if rest == 0 or minutes >= 10 else f"{minutes} min {rest} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60} min"


def saved_reading(seconds: float) -> str:
    """Write how much reading was saved: 'saved 41 minutes of reading'; '' for less than five seconds."""
    if seconds < 5:
        return ""
    if seconds < 60:
        return f"saved {round(seconds)} seconds of reading"
    minutes = round(seconds / 60)
    return f"saved {plural(minutes, 'minute') if minutes < 120 else plural(round(minutes / 60), 'hour')} of reading"


def ago(timestamp: float, now: float | None = None) -> str:
    """Write the time from a Unix time to `now`: 'just now', '5 min ago', 'yesterday', '3 Nov 2025'.

    now: Unix time; None means the current time.
    """
    elapsed = (time.time() if now is None else now) - timestamp
    if elapsed < 60:
        return "just now"
    if elapsed < 3600:
        return f"{int(elapsed // 60)} min ago"
    if elapsed < 86_400:
        return f"{int(elapsed // 3600)} h ago"
    if elapsed < 2 * 86_400:
        return "yesterday"
    if elapsed < 7 * 86_400:
        return f"{int(elapsed // 86_400)} days ago"
    moment = time.localtime(timestamp)
    return f"{moment.tm_mday} {time.strftime('%b %Y', moment)}"


def days_left(binned_at: float, now: float | None = None) -> str:
    """Write how long a session stays in the bin: 'kept for 12 more days', 'deleted for good today'.

    binned_at: when it was deleted, Unix time. now: Unix time; None means the current time.
    """
    elapsed = (time.time() if now is None else now) - binned_at
    days = int((BIN_DAYS * 86_400 - elapsed) // 86_400)
    return f"kept for {plural(days, 'more day')}" if days > 0 else "deleted for good today"


_PAGE_WORDS = {
    **dict.fromkeys(("pptx", "pptm", "ppsx", "ppsm", "potx", "potm", "odp", "otp", "fodp"), "slide"),
    **dict.fromkeys(("xlsx", "xlsm", "xltx", "xltm", "ods", "ots", "fods"), "sheet"),
}
"""Suffix of a document -> what its pages are called."""


def page_word(document: str) -> str:
    """What the pages of a document are called: "page", "slide" or "sheet". document: its name."""
    return _PAGE_WORDS.get(document.lower().rpartition(".")[2], "page")


def place(
    page: int | None, line_start: int, line_end: int, rows: tuple[int, int] | None = None, document: str = ""
) -> str:
    """Write the place of a passage: 'page 3', 'slide 3', 'sheet 2, lines 12–14', 'line 7' without pages.

    Lines are counted in the text as it was read, so they say nothing of a page or slide as it is seen.

    Args:
        page: None in a document without pages.
        line_start, line_end: of the passage.
        rows: first and last row of a table, which take the place of the lines.
        document: its name, which tells what its pages are; lines are written too where it does not.
    """
    if rows is not None:
        return f"row {count(rows[0])}" if rows[0] == rows[1] else f"rows {count(rows[0])}–{count(rows[1])}"
    lines = f"line {count(line_start)}" if line_start == line_end else f"lines {count(line_start)}–{count(line_end)}"
    if page is None:
        return lines
    word = page_word(document)
    is_seen = word == "slide" or document.lower().endswith(".pdf")
    return f"{word} {count(page)}" if is_seen else f"{word} {count(page)}, {lines}"


def thought_for(seconds: float | None, ended_by: str = "") -> str:
    """How long a model thought: 'Thought for 12 s, up to its limit'.

    seconds: None if it was not recorded. ended_by: a `ThinkingEnd` of `sala_core.engine.generate`.
    """
    how_long = "" if seconds is None else f" for {duration(seconds)}"
    return f"Thought{how_long}{_THINKING_ENDS.get(ended_by, '')}"


def compiling(done: int, total: int) -> str:
    """ "Compiling kernels 3 of 14 (first start on this card)"."""
    return f"Compiling kernels {count(done)} of {count(total)} (first start on this card)"


def parameters(number: int) -> str:
    """9477203968 -> '9.48 billion'; 6296320 -> '6.3 million'."""
    return f"{number / 1e9:.2f} billion" if number >= 999_500_000 else f"{number / 1e6:.1f} million"
