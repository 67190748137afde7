"""An HTML file is read as its source among source code, and as a page elsewhere."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sala_core.ingest import FoundFile, Limits, walk
from sala_core.ingest.load import load_document
from sala_core.ingest.parser_process import ParserProcess

CARD = '{% block a %}<p class="{{ kind }}" v-if="open">{{ fare }}</p><script>function computeFare() {}</script>'


def sources(root: Path) -> dict[str, bool]:
    return {entry.name: entry.is_source for entry in walk([root], Limits()) if isinstance(entry, FoundFile)}


@pytest.mark.parametrize("name", ["app.py", "package.json", ".gitignore", "Makefile", "src/main.rs", "lib/x.ts"])
def test_html_beside_source_code_is_source(write: Callable[..., Path], name: str) -> None:
    root = write({name: "x = 1", "index.html": CARD, "tmpl/deep/card.html": CARD})
    found = sources(root)
    assert found["root/index.html"]
    assert found["root/tmpl/deep/card.html"]


@pytest.mark.parametrize("name", ["page_files/code.js", "style.css", "notes.txt", "other/project/main.py"])
def test_html_in_a_folder_of_pages_is_a_page(write: Callable[..., Path], name: str) -> None:
    root = write({name: "x = 1", "index.html": CARD, "more/page.html": CARD})
    found = sources(root)
    assert not found["root/index.html"]
    assert not found["root/more/page.html"]


def test_a_script_among_books_makes_no_project(write: Callable[..., Path]) -> None:
    root = write({"sort.py": "x = 1", "book.epub": "x", "page.html": CARD})
    assert not sources(root)["root/page.html"]


def test_the_source_keeps_what_the_page_hides(write: Callable[..., Path]) -> None:
    root = write({"repository/app.py": "x = 1", "repository/card.html": CARD, "saved/card.html": CARD})
    with ParserProcess(Limits()) as parser:
        texts = {
            entry.name: load_document(entry, parser, Limits()).text
            for entry in walk([root], Limits())
            if isinstance(entry, FoundFile) and entry.name.endswith(".html")
        }
    assert texts["root/repository/card.html"].strip() == CARD
    assert texts["root/saved/card.html"] == "{% block a %}\n\n{{ fare }}\n"
