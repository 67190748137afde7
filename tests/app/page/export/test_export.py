"""A conversation in one file: with evidence and places, and with nothing that another program runs or fetches."""

import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from fake_workspace import FakeMessage

from app.page.export.gather import Conversation, disposition, write_export
from sala_core.events import AnswerStats, Evidence, Quotation
from sala_core.store.rows import DocumentRow, SessionRow

HOSTILE = "Yes <script>alert(1)</script> ![x](http://host.example/x.png) <img src=x>\n\n`<b>` stays\n\n```\n<i>\n```\n"


def row_of(**changes):
    values = {
        "id": "s", "name": "My <book>", "model": "m", "fingerprint": "f", "head": None, "position": 9, "num_tokens": 9,
        "num_documents": 1, "num_messages": 4, "created_at": 0.0, "updated_at": 60.0,
    }  # fmt: skip
    return SessionRow(**values | changes)


@pytest.fixture
def conversation():
    document = DocumentRow(
        id="d", name="a_*b*.pdf", media_type="application/pdf", num_bytes=1, num_chars=1, num_tokens=9, num_pages=2,
        warnings=(), content_hash="h", tokenizer_fingerprint="t", file_bytes=1, created_at=0.0,
    )  # fmt: skip
    passage = Evidence(
        document="a_*b*.pdf", document_id="d", page=2, line_start=3, line_end=4, text="the *river*\nwas <b>", score=1.0
    )
    quotation = Quotation(text="the river", document="a_*b*.pdf", document_id="d", page=2, line_start=3, line_end=3)
    talk = [
        FakeMessage(id="q", role="user", text="Where is <it>?\nTell me"),
        FakeMessage(
            id="a",
            role="assistant",
            text="It says “the river”, $x^2$.\n\n| a | b |\n| - | - |\n| 1 | 2 |",
            thinking="Hm <b>",
            evidence=(passage,),
            stats=AnswerStats(quotations=(quotation,), seconds_thinking=12.0),
        ),
        FakeMessage(id="r", role="user", text="And?"),
        FakeMessage(id="b", role="assistant", text=HOSTILE),
    ]
    return Conversation(
        row=row_of(), state_bytes=5, documents=[document], files={}, messages=talk, outdated={"b": ("an old <text>",)}
    )


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.attributes = set(), set()

    def handle_starttag(self, name, attributes):
        self.found.add(name)
        self.attributes |= {key for key, _ in attributes}


def test_html_is_one_file_without_scripts(conversation):
    text = write_export(conversation, "html")
    elements = Elements()
    elements.feed(text)
    assert not elements.found & {"script", "img", "iframe", "link", "button", "form", "input", "object", "b", "i"}
    assert not {name for name in elements.attributes if name.startswith("on")} | (elements.attributes & {"src"})
    assert "default-src 'none'" in text
    assert {"h1", "h2", "table", "details", "section"} <= elements.found
    assert '<math alttext="x^2"' in text
    assert "word for word, page 2" in text
    assert "a_*b*.pdf, page 2" in text
    assert "Thought for 12 s" in text
    assert "Answered from an old &lt;text&gt;" in text


def test_markdown_has_evidence_and_nothing_active(conversation):
    text = write_export(conversation, "md")
    assert "## 1. Where is \\<it\\>? Tell me" in text
    assert "- “the river” (a\\_\\*b\\*.pdf, page 2)" in text
    assert "1. a\\_\\*b\\*.pdf, page 2: the \\*river\\* was \\<b\\>" in text
    assert "> Thought for 12 s:" in text
    assert "| 1 | 2 |" in text
    assert "\\<script>" in text
    assert "\\![x](http://host.example/x.png)" in text
    assert "`<b>` stays" in text
    assert "```\n<i>\n```" in text
    assert not re.search(r"(?<!\\)<(?:script|img)", text)


def test_json_is_the_object_of_show(conversation):
    found = json.loads(write_export(conversation, "json"))
    assert found["name"] == "My <book>"
    assert found["messages"][1]["evidence"][0]["page"] == 2
    assert found["messages"][1]["quotations"][0]["text"] == "the river"
    assert found["messages"][3]["answered_from"] == ["an old <text>"]


@pytest.mark.parametrize(
    ("name", "plain"),
    [("Krieg & Frieden", "Krieg - Frieden"), ("../../etc/passwd", "etc-passwd"), ("書", "conversation")],
)
def test_a_download_has_a_safe_name(name, plain):
    header = disposition(name, "md")
    assert f'filename="{plain}.md"' in header
    assert "\n" not in header
    assert "/" not in header.partition("filename*")[0]


def test_an_empty_session_can_be_exported(conversation):
    empty = SimpleNamespace(row=row_of(), state_bytes=0, documents=[], files={}, messages=[], outdated={}, notes={})
    assert "Nothing was read." in write_export(empty, "md")
    assert "Nothing was read." in write_export(empty, "html")
    assert json.loads(write_export(empty, "json"))["messages"] == []
