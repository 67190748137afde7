"""Encoding in pieces keeps every character and bounds the memory."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.ingest import Document, encode_document
from sala_core.ingest.encode import PIECE_CHARS, pieces
from sala_core.ingest.parser_process import ReadingStoppedError


def document_of(text: str) -> Document:
    content_hash = Document.hash_of("x.txt", text)
    return Document(name="x.txt", media_type="text/plain", num_bytes=len(text), text=text, content_hash=content_hash)


TEXT = st.text(st.sampled_from("ab \n\t.é🙂漢e\u0301"), max_size=200)


@given(TEXT, st.integers(2, 40))
def test_pieces_cover_the_text_once_and_in_order(text: str, max_chars: int) -> None:
    bounds = list(pieces(text, max_chars))
    assert "".join(text[start:end] for start, end in bounds) == text
    assert all(0 < end - start <= max_chars for start, end in bounds)


def test_pieces_are_split_at_lines_that_are_not_indented() -> None:
    text = "def f():\n    return 1\n" * 100
    for start, _ in pieces(text, 300):
        assert text.startswith("def", start)


@pytest.mark.parametrize("text", ["x" * 1000, " " * 1000, "\n" * 1000, "word " * 200])
def test_text_without_lines_is_split_too(text: str) -> None:
    bounds = list(pieces(text, 64))
    assert "".join(text[start:end] for start, end in bounds) == text
    assert len(bounds) <= 2 * len(text) / 64 + 1


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_token_starts_are_nondecreasing_and_spans_cover_the_document(text: str, tokenizer) -> None:
    encoded = encode_document(document_of(text), tokenizer)
    starts = encoded.token_starts
    assert encoded.token_ids.dtype == np.int32
    assert starts.dtype == np.int64
    assert len(encoded.token_ids) == len(starts) == encoded.num_tokens
    assert tokenizer.decode(encoded.token_ids) == text
    bounds = [*starts.tolist(), len(text)]
    assert all(first <= second for first, second in pairwise(bounds))
    assert "".join(text[first:second] for first, second in pairwise(bounds)) == text


def test_a_long_document_encoded_in_pieces_equals_one_encoded_whole(tokenizer) -> None:
    text = "It was the best of times, it was the worst of times.\n" * 12_000
    tokenizer.calls.clear()
    encoded = encode_document(document_of(text), tokenizer)
    assert max(tokenizer.calls) <= PIECE_CHARS
    assert len(tokenizer.calls) > 2
    whole_ids, whole_starts = tokenizer.encode_content_with_offsets(text)
    np.testing.assert_array_equal(encoded.token_ids, whole_ids)
    np.testing.assert_array_equal(encoded.token_starts, whole_starts)


def test_encoding_stops_between_pieces(tokenizer) -> None:
    with pytest.raises(ReadingStoppedError):
        encode_document(document_of("some text"), tokenizer, should_stop=lambda: True)


def test_the_first_token_covers_leading_space_that_an_encoder_drops() -> None:
    class Trimming:
        def encode_content_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
            return np.array([7], np.int32), np.array([len(text) - len(text.lstrip())], np.int64)

    encoded = encode_document(document_of("   x"), Trimming())
    assert encoded.token_starts.tolist() == [0]
