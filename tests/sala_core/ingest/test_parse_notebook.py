"""Notebooks, subtitles and embedded files as programs write them: the words are read, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from sala_core.ingest.parsers.result import ParseLimits
from sala_core.ingest.parsers.structured.data_uris import without_data_uris
from sala_core.ingest.parsers.structured.notebook import parse_notebook
from sala_core.ingest.parsers.structured.subtitles import parse_subtitles

LIMITS = ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20)
PICTURE = "iVBORw0KGgoAAAANSUhEUg/+" * 20
CODE = "```python\nx\n```\n"


def notebook(*cells: dict[str, Any]) -> str:
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4})


def with_output(**output: Any) -> dict[str, Any]:
    return {"cell_type": "code", "source": "x", "outputs": [{"output_type": "display_data", **output}]}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"text/html": ["<table><tr><td>x<td>10<sup>6</sup>", "</table>"]}, "x | 10⁶"),
        ({"text/html": "<p>At nine", "text/plain": "<IPython.core.display.HTML object>"}, "At nine"),
        ({"text/html": "<table>", "text/plain": "   a\n0  1"}, "   a\n0  1"),
        ({"text/latex": "$x^2$", "text/plain": "<IPython.core.display.Math object>"}, "$x^2$"),
        ({"text/latex": "$\\frac12$", "text/plain": "1/2"}, "1/2"),
        ({"application/json": {"a": 1}, "text/plain": "<IPython.core.display.JSON object>"}, '{"a": 1}'),
        ({"image/png": PICTURE, "text/plain": "Accuracy 0.93"}, "Accuracy 0.93"),
        ({"text/html": f"<img src='data:image/png;base64,{PICTURE}'>caption"}, "caption"),
        ({"text/plain": "<Figure size 640x480 with 1 Axes>", "image/png": PICTURE}, None),
        ({"image/svg+xml": "<svg/>", "text/plain": "<Figure>"}, None),
        ({"application/javascript": "alert(1)"}, None),
    ],
)
def test_an_output_is_read_in_the_form_that_says_something(data: Any, text: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text(notebook(with_output(data=data)))
    parsed = parse_notebook(str(tmp_path / "a.ipynb"), LIMITS)
    assert parsed.text == (CODE if text is None else f"{CODE}\nOutput:\n```\n{text}\n```\n")
    assert len(parsed.warnings) == (text is None)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ([("stdout", "a"), ("stdout", "b\n")], ["ab"]),
        ([("stderr", "low\n"), ("stdout", "b\n")], ["low", "b"]),
        ([("stdout", " 1%\r100%|#|\nDone\r\n")], ["100%|#|\nDone"]),
        ([("stdout", "1/2\b\b\b2/2\n")], ["2/2"]),
        ([("stdout", "\x1b]8;;http://x\x07link\x1b]8;;\x07 \x1b[1;31mred\x1b[0m\x1b(B\n")], ["link red"]),
    ],
)
def test_a_stream_is_read_as_a_terminal_shows_it(written: Any, shown: list[str], tmp_path: Path) -> None:
    outputs = [{"output_type": "stream", "name": name, "text": text} for name, text in written]
    (tmp_path / "a.ipynb").write_text(notebook({"cell_type": "code", "source": "x", "outputs": outputs}))
    expected = CODE + "".join(f"\nOutput:\n```\n{text}\n```\n" for text in shown)
    assert parse_notebook(str(tmp_path / "a.ipynb"), LIMITS).text == expected


WHOLE = notebook(
    {"cell_type": "markdown", "source": "The ferry."},
    {"cell_type": "markdown", "source": "The lamp."},
    with_output(data={"image/png": PICTURE * 20}),
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (WHOLE.replace("}]}], ", "}]},], "), "The ferry.\n\nThe lamp.\n\n" + CODE),
        (WHOLE[: WHOLE.index("image/png") + 2000], "The ferry.\n\nThe lamp.\n"),
        (WHOLE.replace('"The lamp."}, ', '"The lamp."}, \n<<<<<<< HEAD\n'), "The ferry.\n\nThe lamp.\n\n" + CODE),
    ],
    ids=["a comma too many", "cut off", "a conflict of versions"],
)
def test_what_is_left_of_a_damaged_notebook_is_read(text: str, left: str, tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text(text)
    parsed = parse_notebook(str(tmp_path / "a.ipynb"), LIMITS)
    assert parsed.text == left
    assert "damaged JSON: only the" in parsed.warnings[0]


def test_a_picture_in_what_is_no_notebook_is_not_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text('{"cells": [{"png": "' + PICTURE)
    assert parse_notebook(str(tmp_path / "a.ipynb"), LIMITS).text == '{"cells": [{"png": "[data left out]'


@pytest.mark.parametrize(
    ("cue", "shown"),
    [
        ("R&amp;D &lt;x&gt; caf&eacute;", "R&D <x> café"),
        ("one<br>two\\Nthree\\hfour", "one\ntwo\nthree four"),
        ("{\\an8}{y:i}5 < 6 and a <3 b", "5 < 6 and a <3 b"),
        ("<ruby>漢<rt>kan</rt></ruby> <lang en>x</lang>", "漢(kan) x"),
        ("<v.loud Esme>Hey!</v>\n<v Bob>Yo", "Esme: Hey!\nBob: Yo"),
        ("The code is\n4711", "The code is\n4711"),
    ],
)
def test_a_cue_keeps_its_words(cue: str, shown: str, tmp_path: Path) -> None:
    time = "00:00:01,000 --> 00:00:02,000"
    (tmp_path / "a.srt").write_text(f"1\n{time}\n{cue}\n2\n{time}\nBye\n")
    assert parse_subtitles(str(tmp_path / "a.srt"), LIMITS).text == f"{time}\n{shown}\n{time}\nBye\n"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"a DATA:IMAGE/PNG;BASE64,{PICTURE} b", "a [IMAGE/PNG, 480 characters, left out] b"),
        (f'{{"a": "data:image\\/png;base64,{PICTURE}"}}', '{"a": "[image/png, 480 characters, left out]"}'),
        (f"[a]: <data:image/png;name=a.png;base64,{PICTURE}>\nb", "[a]: <[image/png, 480 characters, left out]>\nb"),
        ("<img src='data:image/svg+xml;utf8,<svg><path d=\"M0 0\"/></svg>'> b",
         "<img src='[image/svg+xml, 27 characters, left out]'> b"),
        ("data:image/png;base64,short data:text/plain,at", "data:image/png;base64,short data:text/plain,at"),
    ],
)  # fmt: skip
def test_an_embedded_file_is_left_out_and_the_text_around_it_stays(text: str, left: str) -> None:
    assert without_data_uris(text)[0] == left


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["0", "<b", "<v ", "<rt>", "{\\", "00:00 ", "\b", "&", "\x1b]"])
def test_a_cue_of_any_length_takes_linear_time(part: str, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(part.encode() * (120_000 // len(part)) + b"\xff")
    assert len(parse_subtitles(str(tmp_path / "a.srt"), LIMITS).text) > 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part", ["data:image/svg+xml,<svg ", "data:image/png;base64,", "a", "</svg>data:image/svg+xml,"]
)
def test_embedded_files_without_an_end_take_linear_time(part: str) -> None:
    text = "</svg>" + part * (300_000 // len(part))
    assert without_data_uris(text)[0].startswith("</svg>")
