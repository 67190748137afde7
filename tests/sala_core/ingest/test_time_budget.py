"""The parser's time: small files get less, files that are given up leave less for the next, read ones cost nothing."""

import time

import pymupdf
import pytest

from sala_core.errors import IngestError
from sala_core.ingest import Limits
from sala_core.ingest.parser_process import ParserProcess
from sala_core.ingest.sniff import Kind
from sala_core.ingest.time_budget import TimeBudget


def test_a_small_file_gets_less_time_than_a_large_one_and_none_more_than_the_limit():
    budget = TimeBudget(Limits())
    assert budget.seconds_for(5_000) < 20
    assert budget.seconds_for(5_000) < budget.seconds_for(4 << 20) < 120
    assert budget.seconds_for(512 << 20) == 120
    assert TimeBudget(Limits(max_parse_s=1.0)).seconds_for(1) == 1


def test_a_folder_of_files_that_take_all_their_time_takes_little_more_than_its_budget():
    budget, total = TimeBudget(Limits()), 0.0
    for _ in range(100):
        seconds = budget.seconds_for(5_000)
        total += seconds
        budget.waste(5_000, seconds)
    assert total < 120 + 100 * 6.1
    assert budget.seconds_for(5_000) == pytest.approx(6, abs=0.1)
    assert budget.seconds_for(512 << 20) == 120  # a large file has its own time


def nested_forms(depth):
    """A PDF whose one page draws a form that draws the next one twice, and so on: 2^depth drawings."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</XObject<</F 5 0 R>>>>>>",
        b"<</Length 5>>stream\n/F Do\nendstream",
    ]
    for number in range(depth):
        inner = f"/XObject<</F {6 + number} 0 R>>" if number < depth - 1 else ""
        draws = b"/F Do /F Do" if inner else b"0 0 1 1 re f"
        head = f"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<<{inner}>>/Length {len(draws)}>>stream\n"
        objects.append(head.encode() + draws + b"\nendstream")
    body = b"".join(b"%d 0 obj\n%b\nendobj\n" % (number, each) for number, each in enumerate(objects, start=1))
    return b"%PDF-1.4\n" + body + b"trailer<</Root 1 0 R>>\n%%EOF"


def test_forms_in_forms_are_given_up_and_the_next_one_sooner(tmp_path):
    path = tmp_path / "nested.pdf"
    path.write_bytes(nested_forms(40))
    limits = Limits(max_parse_s=8.0, max_wasted_parse_s=0.5)
    taken = []
    with ParserProcess(limits) as parser:
        for _ in range(2):
            begin = time.monotonic()
            with pytest.raises(IngestError, match=r"took more than \S+ s, the limit for a file of its size"):
                parser.parse(str(path), Kind.PDF)
            taken.append(time.monotonic() - begin)
    assert taken[0] > taken[1]


def test_a_page_over_a_limit_of_the_reader_is_named_as_such(tmp_path, make_pdf):
    path = tmp_path / "deep.pdf"
    document = pymupdf.open(stream=make_pdf(["first page", "second page"]), filetype="pdf")
    (content,) = document[1].get_contents()
    document.update_stream(content, b"q " * 20_000 + document.xref_stream(content))
    document.save(path)
    with ParserProcess(Limits()) as parser:
        parsed = parser.parse(str(path), Kind.PDF)
        assert any("page 2: over a limit of the PDF reader, not read" in warning for warning in parsed.warnings)
        assert not any("no text" in warning for warning in parsed.warnings)
        document.delete_page(0)
        document.save(path)
        with pytest.raises(IngestError, match="over a limit of the PDF reader") as refused:
            parser.parse(str(path), Kind.PDF)
        assert "no text" not in str(refused.value)
