"""The places that drew attention, told as document, page and lines; nothing else counts."""

import numpy as np
import pytest
import torch
from sala_kernels import BlockLayout

from sala_core.evidence.places import DocumentSpan, find_evidence
from sala_core.ingest import SourceMap
from sala_core.model.forward import AttentionTrace

LAYOUT = BlockLayout(stride=16, block=64, init=1, local=3, slots=2)
LINE = 16
"""Characters, and tokens, of a line."""


class Shelf:
    """Documents of numbered lines, one token a character, in a stream with gaps between them."""

    def __init__(self, *line_counts, gap=24, page_lines=None):
        self.spans, self.maps, self.texts, position = [], {}, {}, gap
        for number, count in enumerate(line_counts):
            text = "".join(f"{number} line {line:08}\n" for line in range(1, count + 1))
            assert len(text) == LINE * count
            name = f"d{number}"
            pages = tuple(range(0, len(text), page_lines * LINE)) if page_lines else ()
            self.spans.append(
                DocumentSpan(document_id=name, name=f"{name}.txt", start=position, end=position + len(text))
            )
            self.maps[name] = SourceMap(text, pages, np.arange(len(text), dtype=np.int64))
            self.texts[name] = text
            position += len(text) + gap
        self.end = position

    def line(self, document, line):
        """Stream positions of a line."""
        start = self.spans[document].start + (line - 1) * LINE
        return start, start + LINE

    def evidence(self, mass, turn_start=None):
        """mass: {(first, end): attention of each token}, in two layers."""
        trace, end = AttentionTrace(), self.end + 40
        for layer, share in ((0, 0.25), (5, 0.75)):
            total = trace.buffer(layer, end, torch.device("cpu"))
            for (a, b), value in mass.items():
                total[a:b] += share * value
        return find_evidence(trace, self.spans, turn_start or self.end, LAYOUT, self.maps.__getitem__)


def test_the_line_that_drew_most_comes_first():
    shelf = Shelf(100, 100)
    found = shelf.evidence({shelf.line(0, 50): 1.0, shelf.line(1, 30): 3.0, shelf.line(1, 80): 2.0})
    assert [(item.document, item.line_start, item.line_end) for item in found] == [
        ("d1.txt", 30, 30),
        ("d1.txt", 80, 80),
        ("d0.txt", 50, 50),
    ]
    assert [item.score for item in found] == pytest.approx([9 / 14, 4 / 14, 1 / 14], abs=1e-3)
    assert found[0].text in shelf.texts["d1"]
    assert "line 00000030" in found[0].text
    assert found[0].page is None
    assert found[0].document_id == "d1"


def test_pages_are_told_where_there_are_some():
    shelf = Shelf(100, page_lines=10)
    (found,) = shelf.evidence({shelf.line(0, 35): 1.0})
    assert (found.page, found.line_start) == (4, 35)


def test_the_first_block_and_what_the_local_window_always_draws_do_not_count_beside_a_choice():
    shelf = Shelf(100)
    start = (shelf.end // 64 - LAYOUT.local + 1) * 64
    (found,) = shelf.evidence({(0, 64): 100.0, (start, shelf.end + 40): 100.0, shelf.line(0, 40): 0.1})
    assert (found.line_start, found.score) == (40, 1.0)
    (before,) = shelf.evidence({(start - 16, start): 1.0, (start, shelf.end): 50.0})
    assert before.line_end <= (start - shelf.spans[0].start) // LINE + 1


def test_a_line_near_the_end_counts_for_what_it_drew_beyond_its_neighbours():
    shelf = Shelf(100)
    start = (shelf.end // 64 - LAYOUT.local + 1) * 64
    line = (start + 32 - shelf.spans[0].start) // LINE + 1
    usual, far = {(start, shelf.end): 0.01}, {shelf.line(0, 40): 0.5}
    found = shelf.evidence(usual | far | {shelf.line(0, line): 2.0})
    assert found[0].line_start <= line <= found[0].line_end <= found[0].line_start + 1
    assert found[1].line_start == 40
    (only,) = shelf.evidence(usual | far)
    assert only.line_start == 40


def test_short_documents_count_though_they_lie_in_the_window():
    shelf = Shelf(6)
    assert shelf.end < 64 * 3
    (found,) = shelf.evidence({shelf.line(0, 4): 1.0})
    assert (found.line_start, found.line_end) == (4, 4)


def test_nothing_outside_of_documents_counts():
    shelf = Shelf(100, 100)
    between = (shelf.spans[0].end, shelf.spans[1].start)
    assert shelf.evidence({(0, shelf.spans[0].start): 9.0, between: 9.0, (shelf.end, shelf.end + 40): 9.0}) == ()
    (found,) = shelf.evidence({between: 9.0, shelf.line(0, 50): 0.5})
    assert (found.document, found.score) == ("d0.txt", 1.0)


def test_no_attention_and_no_documents_give_no_places():
    assert Shelf(100).evidence({}) == ()
    empty = Shelf()
    assert empty.evidence({(0, 10): 1.0}, turn_start=30) == ()


def test_a_block_that_two_documents_share_gives_a_place_in_each():
    shelf = Shelf(98, 98, gap=8)
    border = shelf.spans[0].end
    assert border // 64 == shelf.spans[1].start // 64
    found = shelf.evidence({shelf.line(0, 98): 1.0, shelf.line(1, 1): 2.0})
    assert [(item.document, item.line_start, item.line_end) for item in found] == [
        ("d1.txt", 1, 1),
        ("d0.txt", 98, 98),
    ]


def test_a_passage_over_two_blocks_is_one_place():
    shelf = Shelf(100)
    boundary = 64 * 12
    first = (boundary - shelf.spans[0].start) // LINE
    (found,) = shelf.evidence({(boundary - 24, boundary + 24): 1.0})
    assert found.line_start <= first <= found.line_end
    assert found.line_end - found.line_start <= 4


def test_far_reaching_attention_is_cut_into_at_most_eight_readable_places():
    shelf = Shelf(400)
    found = shelf.evidence({(0, shelf.end): 1.0})
    assert len(found) == 8
    assert all(item.line_end - item.line_start < 2 * 64 / LINE + 1 for item in found)
    lines = [line for item in found for line in range(item.line_start + 1, item.line_end)]
    assert len(lines) == len(set(lines)), "places must not overlap"
    assert sum(item.score for item in found) <= 1


def test_the_last_token_of_a_document_has_a_place():
    shelf = Shelf(50, 50)
    a, b = shelf.line(0, 50)
    (found,) = shelf.evidence({(b - 1, b): 1.0})
    assert (found.line_start, found.line_end) == (50, 50)
    assert a < b
