"""Each limit costs only the file that exceeds it; a file chosen by itself is refused with the reason."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sala_core.errors import IngestError
from sala_core.ingest import Document, EncodedDocument, Limits, encode_document, prepare

Split = Callable[..., tuple[dict[str, EncodedDocument], dict[str, str]]]


def cases(make_pdf: Callable[..., bytes], make_epub: Callable[..., bytes]) -> dict[str, tuple[str, bytes, Limits, str]]:
    """What is limited -> (name of a file beyond the limit, its bytes, the limit, a part of the reason)."""
    words = b"one two three\n" * 300
    chapter = {"c.xhtml": "<p>" + "word " * 3000}
    return {
        "bytes of a text": ("a.txt", words, Limits(max_file_bytes=4000), "0.0 MiB, over the limit of 0.0 MiB"),
        "bytes of a page": ("a.html", b"<p>" + words, Limits(max_file_bytes=4000), "over the limit"),
        "bytes of a table": ("a.csv", words, Limits(max_file_bytes=4000), "over the limit"),
        "bytes of a container": ("a.pdf", make_pdf(["page"] * 9), Limits(max_container_bytes=400), "over the limit"),
        "text of a container": ("a.epub", make_epub(chapter), Limits(max_file_bytes=9000), "of text"),
        "unpacked bytes": ("a.epub", make_epub(chapter), Limits(max_unpacked_bytes=9000), "unpacks to more than"),
        "tokens": ("a.txt", words, Limits(max_file_tokens=500), "tokens, over the limit of 500 for one file"),
        "seconds": ("a.epub", make_epub(chapter), Limits(max_parse_s=1e-9), "took more than"),
    }


@pytest.mark.parametrize(
    "limited",
    [
        "bytes of a text", "bytes of a page", "bytes of a table", "bytes of a container", "text of a container",
        "unpacked bytes", "tokens", "seconds",
    ],
)  # fmt: skip
def test_a_file_beyond_a_limit_is_skipped_in_a_folder_and_refused_alone(
    write: Callable[..., Path],
    split: Split,
    make_pdf: Callable[..., bytes],
    make_epub: Callable[..., bytes],
    tokenizer,
    limited: str,
) -> None:
    name, data, limits, reason = cases(make_pdf, make_epub)[limited]
    root = write({name: data, "b.txt": "fine", "z/c.txt": "fine"})
    read, skipped = split(prepare([root], tokenizer, limits))
    assert set(read) == {"root/b.txt", "root/z/c.txt"}
    assert set(skipped) == {f"root/{name}"}
    assert reason in skipped[f"root/{name}"]
    with pytest.raises(IngestError, match=f"{name} is not read: .*{reason}"):
        list(prepare([root / name], tokenizer, limits))
    read, skipped = split(prepare([root / name, root / "b.txt"], tokenizer, limits))
    assert set(read) == {"b.txt"}
    assert set(skipped) == {name}
    assert not split(prepare([root], tokenizer))[1], "within the default limits"


def test_the_number_of_files_is_limited_and_what_was_read_stays(
    write: Callable[..., Path], split: Split, tokenizer
) -> None:
    root = write({f"{number}.txt": "x" for number in range(6)})
    read, skipped = split(prepare([root], tokenizer, Limits(max_files=4)))
    assert len(read) == 4
    assert skipped == {"root/4.txt": "this and all that follows: a reading takes at most 4 files"}


def test_a_repository_beyond_the_number_of_files_is_not_listed_to_its_end(
    write: Callable[..., Path], split: Split, tokenizer
) -> None:
    root = write({"setup.py": "x"} | {f"pkg{number}/a.py": "x" for number in range(9)})
    read, skipped = split(prepare([root], tokenizer, Limits(max_files=4)))
    assert set(read) == {"root (files)", "root/setup.py", *(f"root/pkg{number}/a.py" for number in range(3))}
    assert list(skipped) == ["root/pkg3/a.py"]


def test_a_long_text_is_given_up_at_the_limit_of_tokens_and_its_length_is_estimated(tokenizer) -> None:
    text = "word " * 400_000
    document = Document(name="a", media_type="text/plain", num_bytes=1, text=text, content_hash="")
    with pytest.raises(IngestError, match=r"about 800,0\d\d tokens, over the limit of 1,000"):
        encode_document(document, tokenizer, max_tokens=1000)
    assert encode_document(document, tokenizer, max_tokens=801_000).num_tokens >= 800_000


def test_the_longest_file_is_what_a_session_holds() -> None:
    memory_budget = pytest.importorskip("sala_core.engine.memory_budget")
    assert Limits().max_file_tokens == memory_budget.MAX_TOKENS
