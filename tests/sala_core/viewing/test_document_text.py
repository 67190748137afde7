"""A document in rows: nothing is lost, long lines are cut, passages and words are found where they stand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_documents import encode

from sala_core.viewing.document_text import MAX_HITS, MAX_ROW_CHARS, MAX_ROWS, DocumentText

TEXTS = st.lists(
    st.one_of(st.text(alphabet="a é𝒳\t", max_size=30), st.just("x" * (2 * MAX_ROW_CHARS + 7))), max_size=12
).map("\n".join)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_rows_hold_the_whole_text_once(content):
    text = DocumentText(encode(content))
    rows = [row for first in range(0, text.num_rows, 5) for row in text.rows(first, 5)]
    assert len(rows) == text.num_rows
    assert all(content[row.start : row.start + len(row.text)] == row.text for row in rows)
    assert all(len(row.text) <= MAX_ROW_CHARS + 1 for row in rows)
    shown = "".join(("\n" if row.is_first and index else "") + row.text for index, row in enumerate(rows))
    assert shown == content.removesuffix("\n")
    assert [row.line for row in rows if row.is_first] == list(range(1, text.num_lines + 1))
    assert [text.row_of(row.start) for row in rows] == list(range(len(rows)))


def test_one_answer_has_a_limited_number_of_rows(text_of):
    text = text_of("line\n" * 5000)
    assert text.num_rows == 5000
    assert len(text.rows(0, 10**9)) == MAX_ROWS
    assert text.rows(5000, 10) == text.rows(10**12, 10) == []


def test_a_passage_is_placed_in_its_lines(text_of):
    text = text_of("The end.\nIt rained all\nday, “he said”. It rained all day.\nThe end.\n")
    whole = text.passage(2, 3, "It rained all\nday, “he said”. It rained all day.")
    assert text.text[whole.char_start : whole.char_end] == "It rained all\nday, “he said”. It rained all day."
    quoted = text.passage(2, 3, 'rained all day, "he said"')
    assert text.text[quoted.char_start : quoted.char_end] == "rained all\nday, “he said”"
    assert (quoted.row_start, quoted.row_end) == (1, 2)
    last = text.passage(4, 4, "The end.")
    assert (last.row_start, last.char_start) == (3, text.text.rindex("The end."))


def test_a_divided_word_is_found(text_of):
    text = text_of("a mix-\nture of both\n")
    found = text.passage(1, 2, "a mixture of both.")
    assert text.text[found.char_start : found.char_end] == "a mix-\nture of both"


@pytest.mark.parametrize("place", [(1, 1, "nothing of it"), (0, 1, "one"), (2, 9, "two"), (2, 1, "one")])
def test_a_passage_that_does_not_stand_there_is_not_placed(text_of, place):
    assert text_of("one\ntwo\n").passage(*place) is None


def test_pages_hold_rows_and_passages(text_of):
    text = text_of("one\ntwo\nthree\nfour\n", page_starts=(0, 8, 14))
    assert text.page_rows() == [0, 2, 3]
    assert [text.page_range(page) for page in (1, 2, 3)] == [(0, 8), (8, 14), (14, 19)]
    found = text.span(4, 10)
    assert (found.page_start, found.page_end, found.row_start, found.row_end) == (1, 2, 1, 2)
    with pytest.raises(IndexError, match="page 4 of a document of 3 pages"):
        text.page_range(4)


def test_a_search_ignores_case_white_space_and_typography(text_of):
    text = text_of("Lady Catherine de\nBourgh’s well-known LADY  CATHERINE\n")
    hits, total = text.search("lady catherine")
    assert [(hit.char_start, hit.char_end) for hit in hits] == [(0, 14), (38, 53)]
    assert total == 2
    assert text.search("catherine de bourgh's well-known")[1] == 1
    assert text.search("(")[1] == text.search("  ")[1] == 0


def test_more_hits_are_counted_than_given(text_of):
    hits, total = text_of("word " * 3000).search("word")
    assert (len(hits), total) == (MAX_HITS, 3000)


def test_headings_only_where_the_format_has_them(text_of):
    content = "# One\ntext\n## Two `#`\n#no heading\n"
    text = text_of(content, name="a.epub", media_type="application/epub+zip")
    assert [(one.row, one.level, one.text) for one in text.headings] == [(0, 1, "One"), (2, 2, "Two `#`")]
    assert text_of(content, name="a.py").headings == []
