"""Rows of CSV and TSV files, as places and as evidence."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sala_core.events import Evidence
from sala_core.ingest import EncodedDocument, SourceMap, prepare
from sala_core.ingest.rows import TableRows, table_rows


def test_evidence_keeps_its_row_and_header_in_the_library() -> None:
    raw = {"document": "a.csv", "line_start": 7, "line_end": 8, "text": "x", "score": 0.5}
    plain = Evidence.from_json(raw)
    assert plain.rows is None
    assert "rows" not in plain.to_json()
    found = replace(plain, rows=(5000, 5001), header="id, name")
    assert Evidence.from_json(json.loads(json.dumps(found.to_json()))) == found


def rows_of(text: str) -> TableRows:
    starts = [0, *(index + 1 for index, char in enumerate(text) if char == "\n")]
    return table_rows(text, np.array(starts, np.int64))


@pytest.mark.parametrize(
    ("text", "delimiter", "header"),
    [
        ("id,name,price\n1,a,2.5\n2,b,3\n", ",", "id, name, price"),
        ("id;name;price\n1;a;2,5\n2;b;3,0\n", ";", "id, name, price"),
        ("id\tname\n1\ta, b\n2\tc, d\n", "\t", "id, name"),
        ("id|name\n1|x;y\n2|x;y\n", "|", "id, name"),
        ("sep=;\nid;a,b\n1;2,3\n", ";", "id, a,b"),
        ('"full\nname",age\n"A\nB",3\n', ",", "full name, age"),
        ("1,2\n3,4\n", ",", ""),
        ("name,\nx,y\n", ",", ""),
        ("a,b\n", ",", ""),
        ("", ",", ""),
    ],
)
def test_delimiter_and_header_are_found(text: str, delimiter: str, header: str) -> None:
    found = rows_of(text)
    assert (found.delimiter, found.header) == (delimiter, header)


def test_a_line_break_in_quotation_marks_ends_no_row() -> None:
    found = rows_of('id,note\n1,"two\nlines"\n2,plain\n3,"a ""quoted""\n\nword"\n4,x\n')
    assert found.row_lines.tolist() == [1, 2, 4, 5, 8]
    assert found.at(3, 3) == (2, 2)
    assert found.at(2, 4) == (2, 3)
    assert found.at(6, 8) == (4, 5)


def test_a_blank_line_is_a_row_as_in_a_spreadsheet() -> None:
    assert rows_of("a,b\n\n1,2\n").row_lines.tolist() == [1, 2, 3]


def test_a_quotation_mark_that_is_never_closed_costs_one_row() -> None:
    text = "id,size\n" + '1,"\n' + "".join(f"{number},x\n" for number in range(5000))
    found = rows_of(text)
    assert len(found.row_lines) == 5002
    assert found.at(5002, 5002) == (5002, 5002)
    long_cells = "id,text\n" + '1,"' + "w" * 200_000 + "\n2,b\n3,c\n"
    assert rows_of(long_cells).row_lines.tolist() == [1, 2, 3, 4]


def test_many_open_quotation_marks_take_linear_time() -> None:
    text = "a,b\n" + "".join(f'{number},"{"x" * 50}\n' + "y,z\n" * 1100 for number in range(60))
    assert len(rows_of(text).row_lines) == 1 + 60 * 1101


def test_a_place_has_its_row_and_the_header(
    write: Callable[..., Path], split: Callable[..., tuple[dict[str, EncodedDocument], dict[str, str]]], tokenizer
) -> None:
    rows = "".join(f'{number},"item {number}\nsecond line",{number * 2}\n' for number in range(2, 6001))
    root = write({"stock.csv": "id,name,price\n" + rows, "notes.txt": "id,name\n1,2\n"})
    read, _ = split(prepare([root], tokenizer))
    document = read["root/stock.csv"]
    assert document.document.media_type == "text/csv"
    source = SourceMap(document.document.text, (), document.token_starts, media_type=document.document.media_type)
    place = source.find("item 5000")
    assert place is not None
    assert place.rows == (5000, 5000)
    assert place.header == "id, name, price"
    assert place.line_start == 9998
    assert source.place(*source.tokens_of_chars(place.char_start, place.char_end)).rows == (5000, 5000)
    notes = read["root/notes.txt"]
    plain = SourceMap(notes.document.text, (), notes.token_starts, media_type=notes.document.media_type)
    assert plain.place(0, 0).rows is None
