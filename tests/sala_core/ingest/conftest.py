"""A small tokenizer, and functions that make files of every format."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pymupdf
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from sala_core.ingest import EncodedDocument, SkippedFile


class SmallTokenizer:
    """A byte-level BPE without added tokens: it encodes any text as content."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self._tokenizer = tokenizers.Tokenizer(models.BPE())
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
        self._tokenizer.train_from_iterator([SAMPLE] * 20, trainer)

    def encode_content_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        self.calls.append(len(text))
        encoding = self._tokenizer.encode(text)
        starts = np.fromiter((start for start, _ in encoding.offsets), np.int64, len(encoding.ids))
        return np.asarray(encoding.ids, np.int32), starts

    def decode(self, ids: np.ndarray) -> str:
        return self._tokenizer.decode(ids.tolist())


SAMPLE = """It was the best of times, it was the worst of times, it was the age of wisdom,
it was the age of foolishness, it was the epoch of belief.

def walk(paths, limits):
    for path in paths:
        yield path
"""


@pytest.fixture(autouse=True)
def no_recognition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as on a machine without Tesseract; tests of the recognition switch it on."""
    monkeypatch.setenv("SALA_OCR_LANGUAGES", "off")


@pytest.fixture(scope="session")
def tokenizer() -> SmallTokenizer:
    return SmallTokenizer()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write files of a tree: write({"a/b.txt": "text" or b"bytes"}) -> the root."""

    def write_tree(files: dict[str, str | bytes], root: str = "root") -> Path:
        for name, content in files.items():
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / root

    return write_tree


@pytest.fixture
def make_pdf() -> Callable[..., bytes]:
    """A PDF with these page texts; "" is a blank page, "scan" a page that is one picture."""

    def make(pages: list[str], **options: object) -> bytes:
        document = pymupdf.open()
        for text in pages:
            page = document.new_page()
            if text == "scan":
                picture = pymupdf.Pixmap(pymupdf.csRGB, (0, 0, 40, 40), False)
                page.insert_image((50, 50, 400, 400), pixmap=picture)
            elif text:
                page.insert_text((72, 72), text)
        return document.tobytes(**options)

    return make


CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="{opf}" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


@pytest.fixture
def make_epub() -> Callable[..., bytes]:
    """An EPUB with these chapters (name -> XHTML body), in spine order; `extra` adds members."""

    def make(
        chapters: dict[str, str], *, spine: list[str] | None = None, extra: dict[str, bytes] | None = None
    ) -> bytes:
        items = "".join(
            f'<item id="i{number}" href="{name}" media-type="application/xhtml+xml"/>'
            for number, name in enumerate(chapters)
        )
        ids = {name: f"i{number}" for number, name in enumerate(chapters)}
        refs = "".join(f'<itemref idref="{ids.get(name, name)}"/>' for name in spine or chapters)
        package = (
            f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest><spine>{refs}</spine></package>'
        )
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
            archive.writestr("META-INF/container.xml", CONTAINER.format(opf="OEBPS/content.opf"))
            archive.writestr("OEBPS/content.opf", package)
            for name, body in chapters.items():
                page = f'<html xmlns="http://www.w3.org/1999/xhtml"><body>{body}</body></html>'
                if ".." not in name:
                    archive.writestr(f"OEBPS/{name}", page)
            for name, data in (extra or {}).items():
                archive.writestr(name, data)
        return buffer.getvalue()

    return make


@pytest.fixture
def split() -> Callable[..., tuple[dict[str, EncodedDocument], dict[str, str]]]:
    """Sort what `prepare` yields: ({name: encoded}, {name: reason})."""

    def by_name(results: object) -> tuple[dict[str, EncodedDocument], dict[str, str]]:
        entries = list(results)  # type: ignore[call-overload]
        read = {e.document.name: e for e in entries if isinstance(e, EncodedDocument)}
        skipped = {e.name: e.reason for e in entries if isinstance(e, SkippedFile)}
        return read, skipped

    return by_name
