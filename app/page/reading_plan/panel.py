"""From the path field to a plan, and from a plan to the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.grammar.files import path_or_address
from app.page.markup import block
from sala_core.errors import IngestError

if TYPE_CHECKING:
    from app.page.reading_plan.plan import Plan
    from app.page.reading_plan.plans import Plans


def plan_of_text(plans: Plans, session_id: str, text: str) -> Plan:
    """Plan what the user typed: a path of this computer, or an address.

    session_id: "" for a new session. Raises IngestError with what is wrong with the text.
    """
    text = text.strip().strip("'\"")
    if not text:
        raise IngestError("Type the path of a folder or file on this computer, or an address.")
    source = path_or_address(text)
    if isinstance(source, str):
        return plans.of_address(session_id, source)
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise IngestError(
            f"{text} is not a full path; it should begin with / or ~ or a drive, an address with https://"
        )
    return plans.of_paths(session_id, [path])


def plan_carrier(plan: Plan) -> str:
    """A hidden element by which reading_plan.js of this window learns of a plan."""
    return block(class_=f"plan plan-{plan.id}")
