"""The places of evidence below each answer, as buttons that open them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import wording
from app.page.markup import tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sala_core.events import Evidence, Quotation

MAX_SHOWN = 8


def places_html(evidence: Sequence[Evidence]) -> str:
    """One button for each of the best places; '' without evidence."""
    if not evidence:
        return ""
    buttons = [_place_html(index, item) for index, item in enumerate(evidence[:MAX_SHOWN])]
    return tag("div", tag("span", "Evidence", class_="places-head"), *buttons, class_="places")


def _place_html(index: int, item: Evidence) -> str:
    where = wording.place(item.page, item.line_start, item.line_end, item.rows, item.document)
    short = short_place(item)
    return tag(
        "button",
        short,
        type="button",
        class_="place-link",
        title=f"{item.document}, {where}",
        aria_label=f"Open evidence {index + 1}: {item.document}, {where if short in where else f'{short} ({where})'}",
        data_passage=f"e{index}",
    )


def short_place(item: Evidence | Quotation) -> str:
    """The place in two words: "page 44", or the first line of a document without pages."""
    if item.page is not None:
        return f"{wording.page_word(item.document)} {item.page:,}"
    return f"line {item.line_start:,}"
