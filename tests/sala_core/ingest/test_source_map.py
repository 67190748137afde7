"""Every token and every quotation maps to its page, lines and characters."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.ingest import Document, Place, SourceMap, encode_document


def map_of(text: str, page_starts: tuple[int, ...] = ()) -> SourceMap:
    """A map with one token per character."""
    return SourceMap(text, page_starts, np.arange(len(text), dtype=np.int64))


def found(text: str, quotation: str) -> str | None:
    source = map_of(text)
    place = source.find(quotation)
    return source.text(place) if place else None


def test_places_have_page_lines_and_characters() -> None:
    text = "one\ntwo\nthree\nfour\n"
    source = map_of(text, (0, 8, 8, 14))
    assert source.place(4, 6) == Place(page=1, line_start=2, line_end=2, char_start=4, char_end=7)
    assert source.place(4, 7).line_end == 2
    assert source.place(4, 8).line_end == 3
    # an empty page starts at the same offset as the next one
    assert source.place(8, 8).page == 3
    assert source.place(18, 18) == Place(page=4, line_start=4, line_end=4, char_start=18, char_end=19)
    assert map_of(text).place(0, 0).page is None


def test_a_character_of_several_tokens_is_not_split() -> None:
    source = SourceMap("a🙂b", (), np.array([0, 1, 1, 1, 1, 2], np.int64))
    assert source.text(source.place(2, 2)) == "🙂"
    assert source.text(source.place(1, 5)) == "🙂b"
    assert source.tokens_of_chars(1, 2) == (1, 4)
    assert source.tokens_of_chars(0, 3) == (0, 5)


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (0, 3), (2, 1)])
def test_tokens_outside_the_document_are_refused(first: int, last: int) -> None:
    with pytest.raises(IndexError):
        map_of("abc").place(first, last)
    with pytest.raises(IndexError):
        map_of("abc").place_of_chars(2, 4)


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("ab \né🙂"), min_size=1, max_size=120), data=st.data())
def test_places_equal_a_count_of_lines_and_pages_and_round_trip(text: str, data: st.DataObject, tokenizer) -> None:
    content_hash = Document.hash_of("x", text)
    document = Document(name="x", media_type="text/plain", num_bytes=1, text=text, content_hash=content_hash)
    encoded = encode_document(document, tokenizer)
    first = data.draw(st.integers(0, encoded.num_tokens - 1))
    last = data.draw(st.integers(first, encoded.num_tokens - 1))
    page_starts = tuple(sorted({0, *data.draw(st.lists(st.integers(0, len(text)), max_size=3))}))
    source = SourceMap(text, page_starts, encoded.token_starts)
    place = source.place(first, last)
    assert place.line_start == text.count("\n", 0, place.char_start) + 1
    assert place.line_end == text.count("\n", 0, max(place.char_start, place.char_end - 1)) + 1
    assert place.page == max(page for page, start in enumerate(page_starts, 1) if start <= place.char_start)
    assert source.place_of_chars(place.char_start, place.char_end) == place
    begin, end = source.tokens_of_chars(place.char_start, place.char_end)
    assert begin <= first <= last <= end
    assert source.place(begin, end) == place


@pytest.mark.parametrize(
    ("text", "quotation", "expected"),
    [
        ("It was the\n   best of times.", "was the best of", "was the\n   best of"),
        ("He said “don’t” — and left.", 'said "don\'t" - and', "said “don’t” — and"),
        ('He said "don\'t"--and left.', "“don’t”—and left", '"don\'t"--and left'),
        ("Then… nothing", "Then... nothing", "Then… nothing"),
        ("Then... nothing", "Then… nothing", "Then... nothing"),
        ("an oﬃce in ﬁne order", "an office in fine", "an oﬃce in ﬁne"),
        ("a\u00a0fixed\u2009space", "a fixed space", "a\u00a0fixed\u2009space"),
        ("cafe\u0301 noir", "café noir", "cafe\u0301 noir"),
        ("soft\u00adened words", "softened words", "soft\u00adened words"),
        ("a divi-\nded word and well-\nknown men", "a divided word", "a divi-\nded word"),
        ("a divi-\nded word and well-\nknown men", "and well- known men", "and well-\nknown men"),
        ("漢字とかな文", "とかな", "とかな"),
        ("  padded  ", "\n padded \n", "padded"),
    ],
)
def test_quotations_are_found_whatever_their_typography(text: str, quotation: str, expected: str) -> None:
    assert found(text, quotation) == expected


@pytest.mark.parametrize(
    ("text", "quotation"),
    [
        ("It was the best", "It was the worst"),
        ("concatenate", "cat"),
        ("page 12", "page 1"),
        ("It was", "it was"),
        ("minus -5", "minus 5"),
        ("anything", ""),
        ("anything", " \n"),
        ("", "x"),
    ],
)
def test_a_text_that_is_not_there_is_not_found(text: str, quotation: str) -> None:
    assert found(text, quotation) is None


def test_a_whole_word_is_found_after_a_match_within_a_word() -> None:
    source = map_of("concatenate the cat")
    assert source.find("cat") == source.place_of_chars(16, 19)


def test_every_place_of_a_quotation_is_found_in_order() -> None:
    source = map_of("The cat sat. A “cat  sat” there;\nconcat sat, cat sat, the divi-\nded cat and a divided cat.")
    places = list(source.find_all("cat sat"))
    assert [source.text(place) for place in places] == ["cat sat", "cat  sat", "cat sat"]
    assert [place.line_start for place in places] == [1, 1, 2]
    assert places[0] == source.find("cat sat")
    assert [source.text(place) for place in source.find_all("divided cat")] == ["divi-\nded cat", "divided cat"]
    assert [place.char_start for place in map_of("aa aa aa").find_all("aa aa")] == [0], "places do not overlap"
    assert list(source.find_all("dog")) == list(source.find_all(" ")) == []


WORDS = st.sampled_from(["a", "b", "“a”", "it’s", "ab—b", "(ab),", "ﬁx", "so…", "漢字", "cafe\u0301", "-5"])
PLAIN = str.maketrans({"“": '"', "”": '"', "’": "'", "—": "-", "ﬁ": "fi", "…": "..."})


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(WORDS, st.sampled_from([" ", "\n", "  \n ", "\u00a0"])), min_size=1, max_size=20),
    st.data(),
)
def test_any_run_of_words_is_found_at_its_place(words: list[tuple[str, str]], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    source = map_of("".join(word + space for word, space in words))
    wanted = [word.translate(PLAIN) for word, _ in words[first : last + 1]]
    place = source.find(" ".join(wanted))
    assert place is not None
    text = source.text(place)
    assert text == text.strip()
    assert " ".join(text.translate(PLAIN).split()) == " ".join(wanted)
    assert place.char_start <= sum(len(word) + len(space) for word, space in words[:first])


def test_lookups_in_a_long_book_are_fast(shared: Path) -> None:
    text = (shared / "corpus" / "books" / "war-and-peace.txt").read_text(encoding="utf-8") * 2
    source = SourceMap(text, (), np.arange(0, len(text), 3, dtype=np.int64))
    quotation = " ".join(text[3_000_000:3_000_400].split()[3:-3]).replace("“", '"').replace("’", "'")
    source.find("to build the index")
    begin = time.perf_counter()
    place = source.find(quotation)
    for token in range(0, 1_000_000, 1000):
        source.place(token, token + 50)
    assert time.perf_counter() - begin < 2
    assert place is not None
    assert abs(place.char_start - 3_000_000) < 100
