"""Documents by name, quotations with all their places, and passages that are cut where an answer ends."""

import numpy as np
import pytest
from made_documents import encode

from sala_core.errors import LibraryError
from sala_core.store import Library, PartDraft
from sala_core.viewing.session_texts import MAX_PASSAGE_CHARS, SessionTexts

TALE = "It was the best of times,\nit was the worst of times.\nThe bell rang.\nThe bell rang."


@pytest.fixture
def shelf(tmp_path):
    """The texts of a library with one session of four documents, and the session's id."""
    with Library.open(tmp_path / "library") as library:
        session = library.create_session("shelf", model="embedded", fingerprint="").id
        documents = [
            encode(TALE, "tales/tale.txt"),
            encode("A page.\nIts end.\fThe bell\nrang. A second page.", "b.pdf", "application/pdf", (0, 17)),
            encode("".join(f"Line {n} of a long text.\n" for n in range(2000)), "long.txt"),
            encode("word " * 10_000, "one-line.txt"),
        ]
        for encoded in documents:
            document_id = library.put_document(encoded, "words")
            tokens = np.arange(encoded.num_tokens, dtype=np.int32)
            library.append_parts(session, [PartDraft(kind="document", token_ids=tokens, document_id=document_id)])
        yield SessionTexts(library), session


def test_a_document_is_named_by_its_name_its_end_or_its_id(shelf):
    texts, session = shelf
    row = texts.document(session, "tales/tale.txt")
    assert texts.document(session, "tale.txt") == texts.document(session, row.id) == row
    with pytest.raises(LibraryError, match=r"3 documents end with '\.txt'"):
        texts.document(session, ".txt")
    for name in ("absent.txt", ""):
        with pytest.raises(LibraryError, match=r"its documents: 'tales/tale\.txt', 'b\.pdf'"):
            texts.document(session, name)


def test_a_quotation_is_found_in_all_documents_or_in_one(shelf):
    texts, session = shelf
    found = texts.quotation(session, "The bell rang.", 2)
    assert (found.num_places, found.num_documents, found.is_other_case) == (3, 4, False)
    assert [(item.document.name, item.place.line_start) for item in found.places] == [
        ("tales/tale.txt", 3),
        ("tales/tale.txt", 4),
    ]
    paged = texts.document(session, "b.pdf")
    (place,) = texts.quotation(session, "The bell rang.", 9, document_id=paged.id).places
    assert (place.place.page, place.lines) == (2, "Its end.\fThe bell\nrang. A second page.")
    assert texts.quotation(session, "the bell rang", 9).is_other_case
    lost = texts.quotation(session, "the bell never rang", 9)
    assert (lost.num_places, lost.places, lost.is_other_case) == (0, (), False)
    assert texts.quotation(session, "THE BELL " * 30, 9).num_places == 0, "a long one is not cut for other capitals"


def test_a_passage_is_lines_a_page_or_characters(shelf):
    texts, session = shelf
    tale, paged = texts.document(session, "tale.txt"), texts.document(session, "b.pdf")
    lines = texts.passage(tale, 2, 3)
    assert (lines.text, lines.num_lines, lines.is_cut) == ("it was the worst of times.\nThe bell rang.", 4, False)
    assert texts.passage(tale, 4, 99).text == "The bell rang."
    assert texts.page(paged, 2).text == "The bell\nrang. A second page."
    assert (texts.page(paged, 1).page_start, texts.page(paged, 1).num_pages) == (1, 2)
    for wrong in ((0, 1), (5, 5), (3, 2)):
        with pytest.raises(LibraryError, match="lines 1 to 4"):
            texts.passage(tale, *wrong)
    with pytest.raises(LibraryError, match="pages 1 to 2, not 3"):
        texts.page(paged, 3)
    with pytest.raises(LibraryError, match="has no pages"):
        texts.page(tale, 1)


@pytest.mark.parametrize("name", ["long.txt", "one-line.txt"])
def test_a_long_text_is_read_in_parts_that_make_the_whole(shelf, name):
    texts, session = shelf
    row = texts.document(session, name)
    whole, parts, start = texts.text(row.id).text, [], 0
    while True:
        part = texts.characters(row, start, len(whole))
        assert len(part.text) <= MAX_PASSAGE_CHARS
        parts.append(part.text)
        start = part.next_char
        if not part.is_cut:
            break
        assert part.text[-1] in "\n ", "cut behind a line or a word"
    assert "".join(parts) == whole
    assert len(parts) > 1
