"""A plan as JSON for the page, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app import wording

if TYPE_CHECKING:
    from app.page.reading_plan.plan import Plan
    from sala_core.ingest.fetch.address import Address
    from sala_core.session.planning.records import Estimate, PlannedFile

_KINDS = {"page": "a page or file", "git": "a git repository: its latest files, without history"}


def plan_json(plan: Plan, since: int, max_fetch_bytes: int) -> dict[str, Any]:
    """The plan as it stands.

    since: how many of its files the page has already. max_fetch_bytes: limit of what is fetched.
    """
    return {
        "id": plan.id,
        "name": plan.name,
        "session": plan.read_in,
        "status": plan.status,
        "needs_decision": plan.needs_decision,
        "note": plan.note,
        "error": plan.error,
        "done": plan.bytes_done,
        "total": plan.bytes_total,
        "since": since,
        "files": [file_json(file) for file in plan.files[since:]],
        "gone": list(plan.gone),
        "addresses": [address_words(address, max_fetch_bytes) for address in plan.addresses],
    }


def file_json(file: PlannedFile) -> dict[str, Any]:
    """One file: name, state, tokens, pages, and what is said of it."""
    return {
        "name": file.name,
        "state": file.state,
        "tokens": file.num_tokens,
        "pages": file.num_pages,
        "reason": file.reason,
        "made": file.is_made,
    }


def address_words(address: Address, max_bytes: int) -> str:
    """What will be fetched."""
    return f"{address.url} ({_KINDS[address.kind]}, at most {wording.size(max_bytes)})"


def estimate_json(found: Estimate | None, max_tokens: int) -> dict[str, Any]:
    """The estimate in words: `facts` as (title, value, remark), and `refusal`.

    found: None until the model is loaded. max_tokens: the longest session.
    """
    if found is None:
        return {"facts": [["Time", "…", "the model is being loaded"]], "refusal": "", "is_final": False}
    if not found.tokens_new:
        return {"facts": [], "refusal": "", "is_final": True}
    facts = [
        _time(found),
        ["Memory", wording.size(found.memory_bytes), f"of {wording.size(found.memory_free_bytes)} that are free"],
        ["Disk", wording.size(found.disk_bytes), f"of {wording.size(found.disk_free_bytes)} that are free"],
        ["Session", f"{wording.count(found.tokens)} tokens", f"of {wording.short_count(max_tokens)} at most"],
    ]
    again = ""
    if found.tokens_shared:
        shared = wording.plural(found.tokens_shared, "token")
        again = f"{shared} cost nothing: “{found.shared_with}” has read them already. "
    if found.tokens_again:
        again += f"{wording.plural(found.tokens_again, 'token')} of this session are read again, or for the first time."
    return {"facts": facts, "again": again.strip(), "refusal": found.refusal, "is_final": found.seconds is not None}


def _time(found: Estimate) -> list[str]:
    if found.seconds is None:
        return ["Time", "measuring …", "no reading on this machine yet"]
    remark = "first estimate; no reading on this machine yet" if found.is_first else "by earlier readings here"
    return ["Time", f"about {wording.duration(found.seconds)}" if found.seconds >= 1 else "a second", remark]
