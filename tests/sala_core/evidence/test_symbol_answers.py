"""Answers about names in code: shown as code, quoted word for word, with the whole definition as evidence."""

import numpy as np
import pytest

from sala_core.evidence.finding import DocumentFinder
from sala_core.evidence.searched import SearchedDocument
from sala_core.evidence.symbol_answers import CONFIDENCE
from sala_core.evidence.verify import unverified_quotations
from sala_core.ingest import SourceMap

FILES = '''class File:
    def seek(self, place):
        """Go to a place.

        Raises OSError.
        """
        self.place = place
        return self
'''
MAIN = """from files import File

def start(file):
    file.seek(0)
    return file.seek(1)
"""
README = "# Files\n\nA file is read from its beginning. To read it again, go back to the place where it began.\n"


def document(name: str, text: str) -> SearchedDocument:
    """A document with a token for each character."""
    lines = SourceMap(text, (), np.arange(len(text)))
    return SearchedDocument(document_id=name, name=name, num_tokens=len(text), lines=lambda: lines)


@pytest.fixture
def finder():
    documents = [("io/files.py", FILES), ("main.py", MAIN), ("README.md", README)]
    return DocumentFinder([document(name, text) for name, text in documents])


def test_a_definition_is_shown_as_code_with_its_place(finder):
    answer = finder.answer("What does `seek` do?")
    shown = '`io/files.py`, in `File`:\n\n```py\ndef seek(self, place):\n    """Go to a place.\n```'
    assert answer.text == shown
    assert answer.confidence == CONFIDENCE
    (quotation,) = answer.quotations
    assert (quotation.text, quotation.line_start) == ('def seek(self, place):\n    """Go to a place.', 2)
    assert unverified_quotations(answer.text, answer.quotations) == ()
    assert answer.evidence[0].text.endswith("return self"), "the whole definition"
    assert "Raises OSError" in finder.answer("What does `seek` raise?").text


def test_uses_are_listed_with_what_holds_them(finder):
    answer = finder.answer("Where is `seek` called?")
    assert answer.text.startswith("`seek` is used in 2 places:\n\n`main.py`, in `start`:\n\n```py\nfile.seek(0)\n```")
    assert [(each.document, each.line_start) for each in answer.quotations] == [("main.py", 4), ("main.py", 5)]


def test_a_name_that_nothing_uses_and_one_that_nothing_defines(finder):
    assert finder.answer("Who calls `start`?").text.startswith("Nothing here uses `start`. It is defined here:")
    assert finder.answer("What does `rewind` do?").confidence < 0.5


def test_an_ordinary_question_is_answered_by_sentences(finder):
    assert finder.answer("From where is a file read?").text == '"A file is read from its beginning."'


def test_many_places_are_counted_and_the_first_ones_shown():
    text = "".join(f"class C{i}:\n    def run(self):\n        '''Do {i}.'''\n" for i in range(9))
    answer = DocumentFinder([document("a.py", text)]).answer("Where is `run` defined?")
    assert answer.text.startswith("`run` is defined in 9 places; 4 of them:")
    assert (len(answer.quotations), len(answer.evidence)) == (4, 8)


def test_code_with_a_fence_in_it_stays_whole():
    text = "def seek():\n    '''Go.\n    ```\n    seek()\n    ```\n    '''\n"
    answer = DocumentFinder([document("a.py", text)]).answer("What does `seek` do?")
    assert answer.text.count("````") == 2


def test_passages_begin_with_the_definition(finder):
    first, *others = finder.passages("What does `seek` do?", 4)
    assert first.document == "io/files.py"
    assert first.text.startswith("def seek")
    assert not any(each.document == first.document and each.line_start <= first.line_end for each in others)
