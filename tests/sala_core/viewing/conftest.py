"""Documents, PDF files and a library for the tests of the source viewer."""

from collections.abc import Callable
from pathlib import Path

import pymupdf
import pytest
from made_documents import encode

from sala_core.viewing.document_text import DocumentText


@pytest.fixture
def text_of() -> Callable[..., DocumentText]:
    """Make a document's text; arguments as `encode` takes them."""
    return lambda *args, **kwargs: DocumentText(encode(*args, **kwargs))


@pytest.fixture
def write_pdf(tmp_path: Path) -> Callable[..., Path]:
    """Write a PDF with these texts, one a page, at (72, 72); `change` is called with each page at the end."""

    def write(*pages: str, name: str = "a.pdf", change=None, **saving) -> Path:
        made = pymupdf.open()
        for text in pages:
            page = made.new_page(width=400, height=500)
            page.insert_text((72, 72), text.split("\n"), fontsize=11)
            if change is not None:
                change(page)
        made.save(tmp_path / name, **saving)
        return tmp_path / name

    return write
