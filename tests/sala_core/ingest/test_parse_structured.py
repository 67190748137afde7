"""Notebooks are read as cells, e-mail as headers and text, subtitles with their times."""

import json
from pathlib import Path
from typing import Any

import pytest

from sala_core.errors import IngestError
from sala_core.ingest import Limits
from sala_core.ingest.parser_process import ParserProcess
from sala_core.ingest.parsers.result import Parsed, ParseError, ParseLimits
from sala_core.ingest.parsers.structured.mail import parse_mail, parse_mbox, parse_mhtml
from sala_core.ingest.parsers.structured.notebook import parse_notebook
from sala_core.ingest.parsers.structured.subtitles import parse_subtitles
from sala_core.ingest.sniff import Kind

LIMITS = ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20)
PICTURE = "iVBORw0KGgoAAAANSUhEUg" * 50


@pytest.fixture
def parse(tmp_path: Path) -> Any:
    def parse_bytes(parser: Any, data: bytes | str) -> Parsed:
        path = tmp_path / "file"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return parser(str(path), LIMITS)

    return parse_bytes


def _code(source: Any, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": list(outputs)}


def test_a_notebook_is_read_as_cells_with_the_outputs_that_are_text(parse: Any) -> None:
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Ferry\n", "It leaves at nine."], "attachments": {"a": PICTURE}},
            _code(
                ["plot(ferry)\n", "print(9)"],
                {"output_type": "stream", "text": ["  5%\r 100%\n", "9\n"]},
                {
                    "output_type": "display_data",
                    "data": {"image/png": PICTURE, "text/plain": ["<Figure size 640x480 with 1 Axes>"]},
                },
                {"output_type": "execute_result", "data": {"text/html": "<table>", "text/plain": ["a  b\n", "1  2"]}},
            ),
            _code("1/0", {"output_type": "error", "traceback": ["\x1b[0;31mZeroDivisionError\x1b[0m: no"]}),
            {"cell_type": "raw", "source": "as is"},
        ],
        "metadata": {"language_info": {"name": "julia"}},
        "nbformat": 4,
    }
    parsed = parse(parse_notebook, json.dumps(notebook))
    assert parsed.text == (
        "# Ferry\nIt leaves at nine.\n\n```julia\nplot(ferry)\nprint(9)\n```\n\n"
        "Output:\n```\n 100%\n9\n```\n\nOutput:\n```\na  b\n1  2\n```\n\n"
        "```julia\n1/0\n```\n\nOutput:\n```\nZeroDivisionError: no\n```\n\nas is\n"
    )
    assert parsed.warnings == ("1 output that is not text (pictures, widgets) left out",)


def test_an_old_notebook_is_read_too(parse: Any) -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Lamp"},
        {"cell_type": "code", "input": "x", "outputs": [{"output_type": "pyout", "text": "4711", "png": PICTURE}]},
    ]
    parsed = parse(parse_notebook, json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3}))
    assert parsed.text == "## Lamp\n\n```python\nx\n```\n\nOutput:\n```\n4711\n```\n"


@pytest.mark.parametrize("text", ['{"cells": [', "[1, 2]", '{"a": 1}', "<<<<<<< HEAD\n{}\n"])
def test_what_is_no_notebook_is_read_as_text_with_a_note(parse: Any, text: str) -> None:
    parsed = parse(parse_notebook, text)
    assert parsed.text == text
    assert len(parsed.warnings) == 1
    assert "read as plain text" in parsed.warnings[0]


MAIL = (
    b"Received: from x\r\nFrom: =?iso-8859-1?Q?J=FCrgen?= <j@x>\r\nTo: a@b\r\nSubject: =?utf-8?B?U2NobMO8c3NlbA==?=\r\n"
    b" =?utf-8?Q?_am_Tor?=\r\nDate: Mon, 6 Jan 2025 09:00:00 +0100\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="B"\r\n\r\n'
    b'--B\r\nContent-Type: multipart/alternative; boundary="A"\r\n\r\n'
    b"--A\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"Der Schl=FCssel h=E4ngt =93hier=94.\r\n"
    b"--A\r\nContent-Type: text/html\r\n\r\n<p>Der Schl</p>\r\n--A--\r\n"
    b'--B\r\nContent-Type: image/png; name="lamp.png"\r\nContent-Transfer-Encoding: base64\r\n'
    b'Content-Disposition: attachment; filename="lamp.png"\r\n\r\niVBORw0KGgo=\r\n--B--\r\n'
)


def test_a_message_is_read_as_headers_and_text_and_its_attachments_are_named(parse: Any) -> None:
    parsed = parse(parse_mail, MAIL)
    assert parsed.text == (
        "From: Jürgen <j@x>\nTo: a@b\nDate: Mon, 6 Jan 2025 09:00:00 +0100\nSubject: Schlüssel am Tor\n\n"
        "Der Schlüssel hängt “hier”.\n\nAttachments (not read): lamp.png (image/png, 8 bytes)\n"
    )
    assert parsed.warnings == ("attachment not read: 1",)


def test_a_message_in_html_only_is_read_as_text_in_its_declared_encoding(parse: Any) -> None:
    head = "From: a@b\nContent-Type: text/html; charset=windows-1251\n\n"
    parsed = parse(parse_mail, head.encode() + '<meta charset="utf-8"><p>Сторож <b>склада</b>'.encode("cp1251"))
    assert parsed.text == "From: a@b\n\nСторож склада\n"


def test_a_damaged_header_stays_as_it_stands(parse: Any) -> None:
    assert parse(parse_mail, "Subject: =?utf-8?B?abcde?=\n\nFerry.\n").text == (
        "Subject: =?utf-8?B?abcde?=\n\nFerry.\n"
    )


def test_a_mailbox_is_read_message_by_message(parse: Any) -> None:
    start = b"From a@b Mon Jan  6 09:00:00 2025\n"
    data = start + b"From: a@b\n\nFerry.\n>From here on\nFrom 2024 no start\n\n" + start + b"From: c@d\n\nLamp.\n"
    assert parse(parse_mbox, data).text == (
        "From: a@b\n\nFerry.\nFrom here on\nFrom 2024 no start\n\n---\n\nFrom: c@d\n\nLamp.\n"
    )
    with pytest.raises(ParseError, match="not a mailbox"):
        parse(parse_mbox, b"hello")


def test_a_saved_page_is_read_without_its_pictures(parse: Any) -> None:
    data = (
        'From: <Saved>\nMIME-Version: 1.0\nContent-Type: multipart/related; boundary="B"\n\n'
        "--B\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n"
        "<h1>Ferry</h1><p>at ni=\nne=E2=80=A6</p>\n"
        f"--B\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n{PICTURE}\n--B--\n"
    )
    parsed = parse(parse_mhtml, data)
    assert parsed.text == "# Ferry\n\nat nine…\n"
    assert parsed.warnings == ("1 embedded file (pictures, styles) left out",)
    with pytest.raises(ParseError, match="without readable text"):
        parse(parse_mhtml, "MIME-Version: 1.0\nContent-Type: image/png\n\nx")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            "1\r\n00:00:01,000 --> 00:00:03,500\r\n<i>It leaves</i>\r\nat nine.\r\n\r\n"
            "2\r\n00:01:00,000 --> 00:01:02,000 X1:1\r\n{\\an8}Bring 3\r\n",
            "00:00:01,000 --> 00:00:03,500\nIt leaves\nat nine.\n\n00:01:00,000 --> 00:01:02,000\nBring 3\n",
        ),
        (
            "WEBVTT - x\n\nSTYLE\n::cue {}\n\nNOTE hidden\n\nintro\n00:01.000 --> 00:03.000 align:start\n"
            "<v Ann>R&amp;D <00:02.000><c.red>is</c> 5 < 6\n",
            "00:01.000 --> 00:03.000\nAnn: R&D is 5 < 6\n",
        ),
        (
            "WEBVTT\n   \n  \n6e2b/12-0\n0:0:0.0 --> 0:1:3.54\n<v Ann>At nine.</v>\n",
            "0:0:0.0 --> 0:1:3.54\nAnn: At nine.\n",
        ),
        ("no times here\n", "no times here\n"),
    ],
)
def test_subtitles_keep_times_and_words(parse: Any, data: str, text: str) -> None:
    assert parse(parse_subtitles, data).text == text


def test_these_formats_are_parsed_in_the_child_process(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(MAIL)
    (tmp_path / "a.ipynb").write_text('{"cells": [{"cell_type": "markdown", "source": "Ferry"}]}')
    (tmp_path / "a.srt").write_bytes("1\n00:00:01,000 --> 00:00:02,000\nSchlüssel über Tür\n".encode("cp1252"))
    with ParserProcess(Limits()) as parser:
        assert "Der Schlüssel hängt" in parser.parse(str(tmp_path / "a.eml"), Kind.MAIL).text
        assert parser.parse(str(tmp_path / "a.ipynb"), Kind.NOTEBOOK).text == "Ferry\n"
        subtitles = parser.parse(str(tmp_path / "a.srt"), Kind.SUBTITLES)
        assert "Schlüssel über Tür" in subtitles.text
        assert subtitles.warnings == ("read as windows-1252 (guessed)",)
        with pytest.raises(IngestError, match="not a mailbox"):
            parser.parse(str(tmp_path / "a.srt"), Kind.MBOX)
