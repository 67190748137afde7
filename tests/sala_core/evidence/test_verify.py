"""What an answer quotes is marked only where it stands in a document, with its place."""

import numpy as np
import pytest

from sala_core.events import Quotation
from sala_core.evidence.places import DocumentSpan
from sala_core.evidence.verify import unverified_quotations, verify_quotations
from sala_core.ingest import SourceMap

TALE = (
    "It was the best of times,\nit was the worst of times.\n"
    "\f“Well, Prince,” said she, “so Genoa and Lucca are\nnow just family estates.”\n"
    "He didn't answer — the ship's bell rang."
)
CODE = "def main():\n    print('hello there')\n    return 0\n"


@pytest.fixture
def verify():
    """Verify an answer against a tale of two pages and a program."""
    texts = {"tale.txt": (TALE, (0, TALE.index("\f"))), "main.py": (CODE, ())}
    looked = []

    def source_map(name):
        looked.append(name)
        text, pages = texts[name]
        return SourceMap(text, pages, np.arange(len(text), dtype=np.int64))

    def run(answer, order=("tale.txt", "main.py")):
        spans = [DocumentSpan(document_id=name, name=name, start=0, end=1) for name in order]
        return [
            (item.text, item.document, item.page, item.line_start, item.line_end)
            for item in verify_quotations(answer, spans, source_map)
        ]

    run.looked = looked
    return run


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ('It says "it was the worst of times" there.', (1, 2, 2)),
        ("It says “best of times, it was the worst”.", (1, 1, 2)),
        ("It says «it was the worst of times» there.", (1, 2, 2)),
        ("It says „it was the worst of times“ there.", (1, 2, 2)),
        ('It says "it was\nthe worst of times".', (1, 2, 2)),
        ("> so Genoa and Lucca are now\n> just family estates\n\nSo it ends.", (2, 3, 4)),
        ('"He didn’t answer - the ship’s bell rang"', (2, 5, 5)),
        ('"it was the worst of times," it says.', (1, 2, 2)),
        ('"it was the worst of times;"', (1, 2, 2)),
        ('"It was the best of times..."', (1, 1, 1)),
    ],
)
def test_a_quotation_is_found_with_its_place(verify, answer, place):
    ((_, document, page, first, last),) = verify(answer)
    assert (document, page, first, last) == ("tale.txt", *place)


@pytest.mark.parametrize(
    "answer", ["`print('hello there') return 0`", "```python\nprint('hello there')\nreturn 0\n```"]
)
def test_code_is_a_quotation(verify, answer):
    ((_, document, page, first, last),) = verify(answer)
    assert (document, page, first, last) == ("main.py", None, 2, 3)


@pytest.mark.parametrize(
    "answer",
    [
        'It says "it was the worst of time" there.',
        'It says "it was the worst of all times" there.',
        'It says "It was the worst of times" there.',
        'It says "t was the worst of times" there.',
        '"worst of times. it was the best"',
        "It was the best of times, unquoted.",
        '"of times"',
        '"   ,,, ... ;;;   "',
        '""',
        "",
    ],
)
def test_a_near_miss_or_a_few_words_are_not_marked(verify, answer):
    assert verify(answer) == []


def test_every_passage_is_told_once_and_as_the_answer_has_it(verify):
    answer = (
        'First "it was the worst of times", again "it was the worst of times".\n'
        '"The moon is made of cheese" is nowhere, but “just family estates.” is.'
    )
    assert [text for text, *_ in verify(answer)] == ["it was the worst of times", "just family estates."]


def test_the_longest_passages_are_looked_for_whole(verify):
    whole = TALE.split("\f")[0].strip()
    answer = f'"{whole}"'
    assert verify(answer) == [(whole, "tale.txt", 1, 1, 2)]


SMILE = 'He came in, adding, with a smile,\n"I do not think that he would have gone." Then he sat down.\n'


def verify_smile(answer):
    spans = [DocumentSpan(document_id="d", name="d.txt", start=0, end=1)]
    starts = np.arange(len(SMILE), dtype=np.int64)
    return [item.text for item in verify_quotations(answer, spans, lambda _: SourceMap(SMILE, (), starts))]


@pytest.mark.parametrize(
    ("answer", "quoted"),
    [
        (
            '"He came in, adding, with a smile, "I do not think that he would have gone."',
            ['He came in, adding, with a smile, "I do not think that he would have gone.'],
        ),
        (
            '"He came in, adding, with a smile, "I do not think that he would have gone."" It ends.',
            ['He came in, adding, with a smile, "I do not think that he would have gone."'],
        ),
        ('"I do not think that" and "he would have gone."', ["I do not think that", "he would have gone."]),
        ('So "he came in" and "then he sat down" or "with a smile" too', ["with a smile"]),
    ],
)
def test_quotation_marks_inside_of_a_quotation_do_not_split_it(answer, quoted):
    assert verify_smile(answer) == quoted


def test_documents_are_looked_at_in_order_and_no_longer_than_needed(verify):
    assert verify('"it was the worst of times"') != []
    assert verify.looked == ["tale.txt"]
    verify.looked.clear()
    assert verify("Nothing is quoted here.") == []
    assert verify.looked == []


def test_an_open_quotation_mark_takes_no_time(verify):
    assert verify("“" * 20_000 + '"x ' * 20_001) == []


def test_quotations_that_stand_nowhere_are_told():
    def quotation(text):
        return Quotation(text=text, document="a", document_id="a", page=None, line_start=1, line_end=1)

    answer = 'He said "it was the best of times" and “it was the age of steam” twice, “it was the age of steam”, “so”.'
    assert unverified_quotations(answer, [quotation("it was the best of times")]) == ("it was the age of steam",)
    assert unverified_quotations(answer, []) == ("it was the best of times", "it was the age of steam")
    assert unverified_quotations("Nothing is quoted.", []) == ()
    whole = '"The bell "of the ship" rang at nine" is written there.'
    assert unverified_quotations(whole, [quotation('The bell "of the ship" rang at nine')]) == ()
