"""Reads PDF documents that a test makes."""

from collections.abc import Callable
from pathlib import Path

import pymupdf
import pytest

from sala_core.ingest.parsers.pdf.reader import parse_pdf
from sala_core.ingest.parsers.result import Parsed, ParseLimits

LIMITS = ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[pymupdf.Document], Parsed]:
    def read_document(document: pymupdf.Document) -> Parsed:
        path = tmp_path / "x.pdf"
        document.save(path)
        return parse_pdf(str(path), LIMITS)

    return read_document
