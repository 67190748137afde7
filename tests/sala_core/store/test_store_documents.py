"""Documents are stored once, and are loaded equal or refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sala_core.errors import CorruptStateError, LibraryError
from sala_core.store import PartDraft


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"])),
    pages=st.lists(st.integers(0, 2**40), max_size=3),
    warnings=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=2),
)
def test_a_document_comes_back_equal(library, encoded, text, pages, warnings):
    document = encoded(text, page_starts=tuple(pages), warnings=tuple(warnings))
    assert library.load_document(library.put_document(document, "t")) == document


def test_a_row_describes_the_document(library, encoded):
    made = encoded("ab\ncd\n", name="a/b.txt", page_starts=(0, 3), warnings=("page 2: no text",))
    row = library.document(library.put_document(made, "tokenizer-1"))
    assert (row.name, row.num_chars, row.num_tokens, row.num_pages) == ("a/b.txt", 6, 6, 2)
    assert (row.warnings, row.tokenizer_fingerprint) == (("page 2: no text",), "tokenizer-1")
    assert row.content_hash == made.document.content_hash
    assert row.file_bytes == (library.documents_folder / f"{row.id}.safetensors").stat().st_size


def test_equal_documents_are_stored_once_and_different_ones_separately(library, encoded):
    made = encoded()
    ids = [
        library.put_document(made, "t"),
        library.put_document(made, "t"),
        library.put_document(made, "other tokenizer"),
        library.put_document(replace(made, document=replace(made.document, warnings=("x",))), "t"),
        library.put_document(replace(made, token_ids=made.token_ids + 1), "t"),
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    assert len(list(library.documents_folder.iterdir())) == 4


def test_the_documents_of_a_session_come_in_reading_order(library, new_session, encoded):
    session = new_session()
    ids = [library.put_document(encoded(name=name), "t") for name in ("z.txt", "a.txt")]
    for document_id in [*ids, ids[0]]:
        library.append_parts(session, [PartDraft(kind="document", token_ids=[1], document_id=document_id)])
    assert [row.id for row in library.documents(session)] == ids
    assert library.session(session).num_documents == 2


@pytest.mark.parametrize("damage", ["bit", "short", "missing"])
def test_a_damaged_document_is_refused(library, encoded, damage):
    document_id = library.put_document(encoded(), "t")
    path = library.documents_folder / f"{document_id}.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.unlink()
    if damage != "missing":
        path.write_bytes(data if damage == "bit" else data[:-1])
    with pytest.raises(CorruptStateError, match=r"tale\.txt"):
        library.load_document(document_id)


def test_unknown_documents_and_mismatched_token_starts_are_refused(library, encoded):
    with pytest.raises(LibraryError, match="not in the library"):
        library.load_document("unknown")
    with pytest.raises(LibraryError, match="token starts"):
        library.put_document(replace(encoded(), token_starts=np.zeros(1, dtype=np.int64)), "t")
