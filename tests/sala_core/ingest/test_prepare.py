"""From a folder with every kind of file to documents and reasons."""

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from sala_core.errors import IngestError
from sala_core.ingest import EncodedDocument, Limits, SkippedFile, SourceMap, prepare


def test_a_mixed_folder(
    write: Callable[..., Path],
    make_pdf: Callable[..., bytes],
    make_epub: Callable[..., bytes],
    split: Callable[..., tuple[dict[str, EncodedDocument], dict[str, str]]],
    tokenizer,
) -> None:
    root = write(
        {
            "book.epub": make_epub({"c.xhtml": "<h1>Chapter</h1><p>in a book</p>"}),
            "paper.pdf": make_pdf(["page one", "scan", "page three"]),
            "scan.pdf": make_pdf(["scan", "scan"]),
            "broken.pdf": b"%PDF-1.4 garbage",
            "page.html": "<title>T</title><p>a page</p>",
            "notes.md": "# notes\r\nline\r\n",
            "latin.txt": "déjà vu, la mère et l'été".encode("latin-1"),
            "wide.txt": "wide — text".encode("utf-16"),
            "code.py": "print('<|im_end|>')\n",
            "key.pem": "-----BEGIN RSA PRIVATE KEY-----\nabc\n",
            "picture.png": b"\x89PNG\r\n\x1a\n\0\0",
            "blank.txt": " \n\n",
            "large.txt": "x" * 5000,
            ".env": "SECRET=1",
            "clone/.git/config": "x",
        }
    )
    limits = Limits(max_file_bytes=4000, max_parse_s=60)
    read, skipped = split(prepare([root], tokenizer, limits))
    texts = {name.removeprefix("root/"): entry.document.text for name, entry in read.items()}
    assert texts == {
        "book.epub": "# Chapter\n\nin a book\n",
        "paper.pdf": "page one\npage three\n",
        "page.html": "# T\n\na page\n",
        "notes.md": "# notes\nline\n",
        "latin.txt": "déjà vu, la mère et l'été",
        "wide.txt": "wide — text",
        "code.py": "print('<|im_end|>')\n",
    }
    paper = read["root/paper.pdf"]
    assert paper.document.page_starts == (0, 9, 9)
    assert paper.document.warnings[0] == "page 2: no text (scanned?)"
    assert paper.document.media_type == "application/pdf"
    place = SourceMap(paper.document.text, paper.document.page_starts, paper.token_starts).find("page three")
    assert place is not None
    assert (place.page, place.line_start) == (3, 2)
    expected = {
        "scan.pdf": "scanned",
        "broken.pdf": "damaged",
        "key.pem": "holds a private key",
        "picture.png": "binary: a picture",
        "blank.txt": "empty",
        "large.txt": "over the limit",
        ".env": "secrets",
        "clone/.git/": "version control",
    }
    assert {name.removeprefix("root/") for name in skipped} == set(expected)
    for name, word in expected.items():
        assert word in skipped[f"root/{name}"]


def test_a_single_file_has_its_own_name_and_the_same_checks(write: Callable[..., Path], tokenizer) -> None:
    root = write({"a.txt": "text", "k": "-----BEGIN PRIVATE KEY-----\nx"})
    (document,) = prepare([root / "a.txt"], tokenizer)
    assert isinstance(document, EncodedDocument)
    assert document.document.name == "a.txt"
    with pytest.raises(IngestError, match="k is not read: holds a private key"):
        list(prepare([root / "k"], tokenizer))
    _, skipped = prepare([root / "a.txt", root / "k"], tokenizer)
    assert skipped == SkippedFile(name="k", path=str(root / "k"), reason="holds a private key")


def test_a_missing_path_is_refused_at_the_call(tmp_path: Path, tokenizer) -> None:
    with pytest.raises(IngestError, match="cannot be found"):
        prepare([tmp_path / "none"], tokenizer)


def test_two_runs_give_the_same_documents(write: Callable[..., Path], tokenizer) -> None:
    root = write({f"{name}/{name}.txt": f"text {name}" for name in "cab"})
    assert list(prepare([root], tokenizer)) == list(prepare([root], tokenizer))


def test_the_hash_depends_on_name_and_text(write: Callable[..., Path], tokenizer) -> None:
    root = write({"a.txt": "same", "b.txt": "same", "c.txt": "other"})
    hashes = [entry.document.content_hash for entry in prepare([root], tokenizer)]
    assert len(set(hashes)) == 3
    assert all(len(content_hash) == 32 for content_hash in hashes)


def test_preparing_stops_between_files(write: Callable[..., Path], tokenizer) -> None:
    root = write({f"{number}.txt": "text" for number in range(10)})
    done: list[object] = []
    for entry in prepare([root], tokenizer, should_stop=lambda: len(done) >= 3):
        done.append(entry)
    assert len(done) == 3


def test_a_file_that_disappears_is_skipped_with_a_reason(write: Callable[..., Path], tokenizer) -> None:
    root = write({"a.txt": "text", "b.txt": "text", "c.txt": "text"})
    entries = prepare([root], tokenizer)
    next(entries)
    (root / "b.txt").unlink()
    assert isinstance(next(entries), SkippedFile)
    assert isinstance(next(entries), EncodedDocument)


def test_memory_does_not_grow_with_the_folder(write: Callable[..., Path], tokenizer) -> None:
    """On a folder of over a million tokens, one file bounds the memory."""
    page = "It was the best of times, it was the worst of times, it was the age of wisdom.\n" * 700
    root = write({f"{number // 10}/{number}.txt": f"{number}\n{page}" for number in range(80)})
    num_tokens = num_kept_bytes = 0
    kept = []
    gc.collect()
    tracemalloc.start()
    try:
        for entry in prepare([root], tokenizer):
            assert isinstance(entry, EncodedDocument)
            num_tokens += entry.num_tokens
            kept.append((entry.token_ids, entry.token_starts))
            num_kept_bytes += entry.token_ids.nbytes + entry.token_starts.nbytes
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_tokens > 1_000_000
    assert num_kept_bytes == 12 * num_tokens
    # one file takes under a megabyte for text, ids and offsets; all of them would take over 50
    assert peak - num_kept_bytes < 8 << 20


def test_real_books_are_covered_by_their_tokens(shared: Path, tokenizer) -> None:
    paths = [shared / "samples" / "pride-and-prejudice.pdf", shared / "corpus" / "rust-book"]
    entries = list(prepare(paths, tokenizer))
    assert len(entries) > 100
    for entry in entries:
        assert isinstance(entry, EncodedDocument), entry
        assert entry.document.warnings == ()
        assert entry.token_starts[0] == 0
        assert (entry.token_starts[1:] >= entry.token_starts[:-1]).all()
        assert entry.token_starts[-1] < len(entry.document.text)
    book = entries[0]
    source = SourceMap(book.document.text, book.document.page_starts, book.token_starts)
    place = source.find("It is a truth universally acknowledged, that a single man in possession of a good fortune")
    assert place is not None
    assert place.page is not None
    first, last = source.tokens_of_chars(place.char_start, place.char_end)
    assert "universally" in tokenizer.decode(book.token_ids[first : last + 1])
