"""HTML becomes readable text that keeps its block structure."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.ingest.parsers.html_text import html_to_text

PAGE = """<!doctype html><html><head><title>On &amp; on</title><style>p {color: red}</style></head>
<body><nav><a href="/">Home</a></nav><script>alert("x")</script>
<p>Hello <b>bold</b>, <i>it</i>alic &eacute;&nbsp;&#8212; x<br>next line</p>
<ul><li>one</li><li><p>two</p><ul><li>nested</li></ul></li><li></li></ul>
<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>
<pre>
def f():
    return 1
</pre><div>first<div>second</div>third</div><!-- a comment --><h2>Head</h2>tail
<span hidden>click</span><noscript>no</noscript><template>no</template></body></html>"""


def test_blocks_lists_tables_and_code_keep_their_shape() -> None:
    assert html_to_text(PAGE.encode()) == (
        "# On & on\n\nHello bold, italic é — x\nnext line\n\n- one\n- two\n  - nested\n\na | b\n1 | 2\n\n"
        "def f():\n    return 1\n\nfirst\nsecond\nthird\n\n## Head\n\ntail click\n"
    )


def test_a_title_is_not_repeated_where_there_is_a_heading() -> None:
    assert html_to_text(b"<title>A</title><h1>B</h1>") == "# B\n"


@pytest.mark.parametrize(
    "data",
    [
        "<p>déjà</p>".encode(),
        b"\xef\xbb\xbf" + "<p>déjà</p>".encode(),
        '<meta charset="iso-8859-1"><p>déjà</p>'.encode("latin-1"),
        "<p>déjà</p>".encode("utf-16"),
        b'<?xml version="1.0" encoding="iso-8859-1"?><p>' + "déjà</p>".encode("latin-1"),
    ],
)
def test_declared_encodings_are_followed(data: bytes) -> None:
    assert html_to_text(data) == "déjà\n"


def test_words_are_not_joined_and_spaces_not_doubled() -> None:
    assert html_to_text(b"<p>a <b> b</b> c<i>d</i>\n e</p>") == "a b cd e\n"
    assert html_to_text(b"<td>a</td><td>b</td>") == "a | b\n"


@pytest.mark.timeout(60)
def test_deep_nesting_and_unclosed_tags_need_no_stack_and_no_quadratic_time() -> None:
    assert html_to_text(b"<div>" * 30_000 + b"x") == "x\n"
    text = html_to_text(b"<p>paragraph" * 10_000)
    assert text == "\n\n".join(["paragraph"] * 10_000) + "\n"


MARKUP = [
    "<p>", "</p>", "<ul>", "</ul>", "<li>", "</li>", "<pre>", "<td>", "<h1>", "<br>", "<!--", "]]>",
    "&lt;", "&#0;", "&#13;", "word", " ", "\n", "\r",
]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(MARKUP), max_size=20))
def test_any_markup_gives_clean_text(parts: list[str]) -> None:
    text = html_to_text("".join(parts).encode())
    assert "\r" not in text
    assert "\0" not in text
    assert text == "" or (text.endswith("\n") and not text.startswith("\n"))
