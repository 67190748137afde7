"""Engines in words, for the page and the command line: who wrote an answer and from what, and what an engine takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.wording import count, plural

if TYPE_CHECKING:
    from sala_core.remote.engine import EngineInfo
    from sala_core.written_by import WrittenBy


def answered_by(by: WrittenBy) -> list[str]:
    """The sentences of a receipt: who and from what, what was read again, and what was checked here."""
    return [sentence for sentence in (_who(by), _cost(by), _left_out(by), _checked(by)) if sentence]


def _who(by: WrittenBy) -> str:
    who = f"Answered by {by.engine} at {by.address}"
    if by.basis == "passages":
        return f"{who} from {plural(by.passages, 'passage')} that the reader found, not from the whole text."
    if by.basis == "state":
        return f"{who}, which has read the whole text itself."
    return f"{who} from the whole text."


def _cost(by: WrittenBy) -> str:
    if by.tokens_again is None:
        return f"{by.engine} does not tell how much it has read for this."
    if by.tokens_reused is None:
        return f"Read for this: {plural(by.tokens_again, 'token')}; it does not tell whether it reused any."
    return f"Read again: {count(by.tokens_again)}, reused: {count(by.tokens_reused)}."


def _left_out(by: WrittenBy) -> str:
    if not by.turns_left_out:
        return ""
    return f"It was not told the first {plural(by.turns_left_out, 'turn')} of the conversation: its context is small."


def _checked(by: WrittenBy) -> str:
    if by.basis == "state" and not by.quotations_checked:
        return ""
    if not by.quotations_checked:
        return "It quotes nothing that could be checked here, word for word."
    found = f"{count(by.quotations_found)} of {plural(by.quotations_checked, 'quotation')}"
    verb = "stands" if by.quotations_found == 1 else "stand"
    return f"{found} {verb} word for word in the text; this was checked here."


def context_words(info: EngineInfo) -> str:
    """How long a prompt and its answer may be together."""
    if info.context_tokens is None:
        return "context not told, 4,096 tokens are assumed"
    return f"context of {count(info.context_tokens)} tokens"
