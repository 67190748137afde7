"""The records of readings and answers: the JSON that libraries hold reads back to them, byte for byte."""

import json

import pytest

from sala_core.events import (
    Answer,
    AnswerStats,
    Evidence,
    PromptProgress,
    Quotation,
    ReadPlan,
    ReadProgress,
    ReadReceipt,
    progress_from_json,
)
from sala_core.store import AskRequest, ReadRequest, RereadRequest

# as version 0.1.0 wrote them
READ_PROGRESS = (
    '{"phase": "reading", "file": "files/common-sense.txt", "files_done": 0, "files_total": 1, "tokens_done": 14336, '
    '"tokens_total": 34414, "tokens_per_s": 10771.413509759299, "seconds_left": 1.8640079114787107}'
)
FIRST_PROGRESS = (
    '{"phase": "preparing", "file": "a.txt", "files_done": 1, "files_total": 1, "tokens_done": 0, "tokens_total": 9, '
    '"tokens_per_s": 0.0, "seconds_left": null}'
)
PROMPT_PROGRESS = '{"phase": "question", "tokens_done": 17, "tokens_total": 17}'
RECEIPT = (
    '{"files": 1, "pages": 0, "tokens": 34352, "tokens_read": 34377, "tokens_reused": 0, "seconds": 3.87722168099981, '
    '"skipped": [{"name": "files/x.bin", "path": "/books/files/x.bin", "reason": "binary, not text"}], '
    '"warnings": ["a.pdf: page 3: no text (scanned?)"], "stopped": false, "tokens_shared": 512, '
    '"shared_with": "other", '
    '"plan": {"unchanged": 7, "new": [], "changed": ["b.txt"], "moved": ["c.txt -> d.txt"], "gone": ["e.txt"], '
    '"removed": [], "tokens": 40000, "tokens_read": 34377, "tokens_new": 377}, "is_declined": false}'
)
EVIDENCE = (
    '{"document": "files/common-sense.txt", "document_id": "dbb0f9cabdcd7b7fc435385babc6f52b", "page": null, '
    '"line_start": 71, "line_end": 71, "text": "The cause of America", "score": 0.2777}'
)
QUOTATION = (
    '{"text": "The Knave of Hearts, he stole those tarts,", "document": "alice.txt", "document_id": "9edace48", '
    '"page": 4, "line_start": 2863, "line_end": 2863}'
)
STATS = (
    f'{{"quotations": [{QUOTATION}], "tokens_reused": 43031, "tokens_read": 17, "tokens_generated": 34, '
    '"seconds_load": 0.14665144200034774, "seconds_prefill": 0.29150281500005804, '
    '"seconds_decode": 0.08967690700001185, "finish_reason": "stop", "model": "embedded", "warnings": [], '
    '"think": true, "thinking_budget": 8192, "tokens_thinking": 3, "seconds_thinking": 0.5, "thinking_end": "model"}'
)
ANSWER = f'{{"text": "Him.", "thinking": "Hm.", "evidence": [{EVIDENCE}], {STATS[1:]}'


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (ReadProgress, READ_PROGRESS),
        (ReadProgress, FIRST_PROGRESS),
        (PromptProgress, PROMPT_PROGRESS),
        (ReadReceipt, RECEIPT),
        (Evidence, EVIDENCE),
        (Quotation, QUOTATION),
        (AnswerStats, STATS),
        (Answer, ANSWER),
        (ReadRequest, '{"paths": ["/books"], "remove": ["dbb0f9ca"]}'),
        (RereadRequest, '{"paths": []}'),
        (AskRequest, '{"question": "Who stole the tarts?"}'),
    ],
)
def test_stored_json_reads_back_and_is_written_the_same(record, text):
    assert json.dumps(record.from_json(json.loads(text)).to_json()) == text
    assert record.from_json(json.loads(text) | {"a key of a later version": 1}) == record.from_json(json.loads(text))


def test_a_receipt_of_an_early_version_has_no_plan():
    raw = {"files": 1, "tokens": 9, "tokens_read": 9, "seconds": 0.5, "skipped": [], "warnings": [], "stopped": False}
    receipt = ReadReceipt.from_json(raw)
    assert (receipt.plan, receipt.shared_with, receipt.is_declined) == (ReadPlan(), "", False)


def test_progress_is_recognized_by_its_phase():
    assert isinstance(progress_from_json(json.loads(READ_PROGRESS)), ReadProgress)
    assert progress_from_json(json.loads(PROMPT_PROGRESS)) == PromptProgress(tokens_done=17, tokens_total=17)
    assert progress_from_json({}) is None


@pytest.mark.parametrize(
    "record", [ReadProgress, PromptProgress, ReadReceipt, Evidence, Quotation, AnswerStats, Answer]
)
def test_missing_keys_get_defaults(record):
    assert record.from_json(record.from_json({}).to_json()) == record.from_json({})


def test_an_answer_and_its_stats_agree():
    answer = Answer.from_json(json.loads(ANSWER))
    assert answer.stats == AnswerStats.from_json(json.loads(ANSWER)) == AnswerStats.from_json(json.loads(STATS))
    assert (answer.text, answer.thinking, answer.evidence[0].line_end) == ("Him.", "Hm.", 71)


@pytest.mark.parametrize("record", [ReadProgress, ReadReceipt, Answer])
def test_a_misspelled_key_is_an_error(record):
    # mypy finds the same in the program's code before it runs: tests/test_style.py
    found = record.from_json({})
    with pytest.raises(AttributeError):
        _ = found.tokens_raed
    with pytest.raises(TypeError):
        record(tokens_raed=1)
    with pytest.raises(AttributeError):
        found.stopped = True
