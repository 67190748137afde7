"""Where an answer stands: `annotations` as OpenAI's clients know them, and one object `sala` with all that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.server.api.answering import Finished

if TYPE_CHECKING:
    from sala_core.events import Answer, Evidence, Quotation

FILE_START = "file-"


def citations(answer: Answer) -> list[dict[str, Any]]:
    """The quotations of an answer and the places behind it, as citations of files.

    `index` is where the quotation stands in the answer; that of a place which is not quoted is the answer's end.
    """
    cited = [_citation(item, answer.text.find(item.text), word_for_word=True) for item in answer.quotations]
    known = {(item.document_id, item.line_start) for item in answer.quotations}
    cited += [
        _citation(item, -1, word_for_word=False)
        for item in answer.evidence
        if (item.document_id, item.line_start) not in known
    ]
    for item in cited:
        item["index"] = item["index"] if item["index"] >= 0 else len(answer.text)
    return cited


def sala_object(finished: Finished) -> dict[str, Any]:
    """The object `sala` of a response."""
    answer = finished.answer
    quoted = sum(len(item.text) for item in answer.quotations)
    return {
        "evidence": [_place(item) | {"text": item.text, "score": item.score} for item in answer.evidence],
        "quotations": [_place(item) | {"text": item.text, "word_for_word": True} for item in answer.quotations],
        "word_for_word": bool(answer.quotations),
        "quoted_chars": quoted,
        "confidence": answer.confidence,
        "read_so_far": list(answer.read_so_far) if answer.read_so_far else None,
        "tokens_read": finished.prompt_tokens - finished.tokens_cached,
        "seconds": {
            "load": round(answer.seconds_load, 3),
            "prefill": round(answer.seconds_prefill, 3),
            "decode": round(answer.seconds_decode, 3),
        },
        "finish_reason": answer.finish_reason,
        "warnings": list(answer.warnings),
    }


def _place(item: Evidence | Quotation) -> dict[str, Any]:
    return {
        "document": item.document,
        "document_id": item.document_id,
        "page": item.page,
        "lines": [item.line_start, item.line_end],
    }


def _citation(item: Evidence | Quotation, index: int, *, word_for_word: bool) -> dict[str, Any]:
    return {
        "type": "file_citation",
        "file_id": FILE_START + item.document_id,
        "filename": item.document,
        "index": index,
        "quote": item.text,
        "page": item.page,
        "line_start": item.line_start,
        "line_end": item.line_end,
        "word_for_word": word_for_word,
    }
