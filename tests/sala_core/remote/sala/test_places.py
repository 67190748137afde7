"""What a server says of places counts only where the text kept here says it too."""

from dataclasses import replace

import pytest

from sala_core.attention_map import AttentionMap
from sala_core.events import Answer, Evidence, Quotation
from sala_core.ingest import Document
from sala_core.remote.sala.places import LocalPlaces

TEXT = "The first line.\nThe second line is longer.\nA third one follows.\nThe second line is longer.\nThe end.\n"
DOCUMENT = Document(
    name="book.pdf",
    media_type="application/pdf",
    num_bytes=9,
    text=TEXT,
    page_starts=(0, TEXT.index("A third")),
    content_hash=Document.hash_of("book.pdf", TEXT),
)
EVIDENCE = Evidence(
    document="book.pdf",
    document_id=DOCUMENT.content_hash,
    page=1,
    line_start=2,
    line_end=3,
    text="The second line is longer.\nA third one follows.",
    score=0.5,
)
QUOTATION = Quotation(
    text="The second line is longer.",
    document="book.pdf",
    document_id=DOCUMENT.content_hash,
    page=2,
    line_start=4,
    line_end=4,
)
MAP = AttentionMap(
    num_tokens=9, documents=((DOCUMENT.content_hash, 0),), max_share=0.5, levels="/w==", peaks="AQAAAA=="
)
ANSWER = Answer(
    text="x",
    thinking="",
    evidence=(EVIDENCE,),
    quotations=(QUOTATION,),
    tokens_reused=0,
    tokens_read=0,
    tokens_generated=0,
    seconds_load=0,
    seconds_prefill=0,
    seconds_decode=0,
    finish_reason="stop",
    model="m",
    attention_map=MAP,
)


@pytest.fixture
def places():
    return LocalPlaces({DOCUMENT.content_hash: "here"}, {"here": DOCUMENT}.__getitem__)


def test_places_keep_their_lines_and_pages_under_the_id_here(places):
    answer, lost = places.answer(ANSWER)
    assert lost == 0
    assert answer.evidence == (replace(EVIDENCE, document_id="here"),)
    assert answer.quotations == (replace(QUOTATION, document_id="here"),), "the second of two places, as was told"
    assert answer.attention_map == replace(MAP, documents=(("here", 0),))


@pytest.mark.parametrize(
    "wrong",
    [
        {"document_id": "unknown"},
        {"text": "A line that nobody wrote."},
        {"text": ""},
        {"line_start": 4, "line_end": 5},
        {"line_start": 0},
        {"line_start": 3, "line_end": 2},
        {"line_end": 99},
    ],
)
def test_evidence_that_does_not_stand_here_is_left_out(places, wrong):
    answer, lost = places.answer(replace(ANSWER, evidence=(replace(EVIDENCE, **wrong),)))
    assert (answer.evidence, lost) == ((), 1)


def test_a_wrong_page_is_put_right(places):
    answer, _ = places.answer(replace(ANSWER, evidence=(replace(EVIDENCE, page=7),)))
    assert answer.evidence[0].page == 1
    answer, _ = places.answer(replace(ANSWER, evidence=(replace(EVIDENCE, page=2),)))
    assert answer.evidence[0].page == 2, "the place goes on to there"


def test_a_quotation_is_looked_for_in_the_whole_text_and_left_out_where_it_is_not_there(places):
    moved = replace(QUOTATION, line_start=1, line_end=1, page=1)
    answer, lost = places.answer(replace(ANSWER, quotations=(moved, replace(QUOTATION, text="The second lion roars."))))
    assert [(item.line_start, item.page) for item in answer.quotations] == [(2, 1)]
    assert lost == 1


def test_a_map_over_documents_that_are_not_here_is_left_out(places):
    answer, _ = places.answer(replace(ANSWER, attention_map=replace(MAP, documents=(("unknown", 0),))))
    assert answer.attention_map is None
