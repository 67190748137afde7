"""HTML as it is on the web and in books: each kind of content that readers have been reported to lose or to change."""

from pathlib import Path

import pytest

from sala_core.ingest.parsers.html_text import html_to_text, parse_html
from sala_core.ingest.parsers.result import ParseError, ParseLimits


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        # superscripts, fractions and struck text by style
        ("10<span style='position:relative;top:-6pt;font-size:8pt'>6</span> l", "10⁶ l"),
        ("10<span style='vertical-align:0.4em;font-size:70%'>6</span> l", "10⁶ l"),
        ("H<span style='vertical-align:-25%;font-size:smaller'>2</span>O", "H₂O"),
        ("<span style='vertical-align:-0.4em;font-size:3em'>O</span>nce", "Once"),
        ("10<span class=superscript>6</span> H<span class=subscript>2</span>O", "10⁶ H₂O"),
        ("<style>.u{vertical-align:super}</style>10<span class='x u'>6</span>", "10⁶"),
        ("<style>/* .u{} */ span.u , p.z {Vertical-Align : Super}</style>10<span class=u>6</span>", "10⁶"),
        ("<style>@media print{.u{vertical-align:super}}</style>1<span class=u>6</span>", "16"),
        ("2<span class=frac><span class=num>3</span><span class=den>4</span></span> cups", "2 3/4 cups"),
        ("5<sup>1</sup>&frasl;<sub>2</sub> cups", "5¹⁄₂ cups"),
        ("<span style='text-decoration: line-through'>5</span> 6", "~~5~~ 6"),
        ("<span role=deletion>5</span> 6", "~~5~~ 6"),
        ("was <del>10</del><ins>12</ins>", "was ~~10~~12"),
        ("<img style='vertical-align: sub' alt='x^2'> is", "x^2 is"),
        # notes
        ("in 2019<a href='#fn12'>12</a> it", "in 2019¹² it"),
        ("in 2019<a class=footnote-ref href='n.html#a'>12</a> it", "in 2019¹² it"),
        ("at nine.<a href='notes.xhtml#note3' id=ref3>3</a>", "at nine.³"),
        ("in 2019<a href='#fn1'><sup>12</sup></a> it", "in 2019¹² it"),
        ("see <a href='#c1'>1</a>, (<a href='#e2'>2</a>), Fig.&nbsp;<a href='#f3'>3</a>", "see 1, (2), Fig. 3"),
        ("word<label class='margin-toggle'></label><input type=checkbox class=margin-toggle>"
         "<span class=sidenote>Note.</span> next", "word Note. next"),
        ("<dl class='footnote brackets'><dt class=label><span>1</span><span>(<a href='#a'>1</a>,<a href='#b'>2</a>)"
         "</span></dt><dd><p>One.</p></dd><dt><a href='#c'>2</a></dt><dd><p>Two.</p></dd></dl>",
         "[1] One.\n[2] Two."),
        ("<aside class=footnote><span class=label>[<a href='#a'>1</a>]</span><p>One.</p></aside>"
         "<aside class=footnote><p>a</p><p>b</p></aside>", "[1] One.\n\na\n\nb"),
        ("<aside class=footnote><span class=label>[1]</span> Loose <b>words</b>.</aside>"
         "<dl class=footnote><dt>(a)</dt><dt>2</dt><dd>Two<ul><li>x</ul></dd><dt>3</dt></dl>",
         "[1] Loose words.\n\n[(a)]\n[2] Two\n\n- x\n\n[3]"),
        # what stands in the text only for the screen or the printed book
        ("some<span class=pagenum>[Pg 12]</span>thing", "something"),
        ("har<span epub:type=pagebreak>12</span>bour<span role=doc-pagebreak>xiv</span>", "harbour"),
        ("<h2>Title<a class=headerlink href='#t'>¶</a></h2>", "## Title"),
        ("History<span class=mw-editsection>[<a>edit</a>]</span>", "History"),
        ("<table><tr><td><span class=sortkey style='display:none'>7003</span>1,000<td>x</table>", "1,000 | x"),
        ("a<span style='display:none'>hidden</span>b<span hidden>c</span>", "a hidden b c"),
        ("a\u2060b\u200ec\u00add", "abcd"),
        # lines, cells and boxes by style or role
        ("<span style='display:block'>nine,</span><span style='display:block'>never</span>", "nine,\nnever"),
        ("<style>.l{display:block}</style><p><span class=l>nine,</span><span class=l>never</span>", "nine,\nnever"),
        ("<div style='display:flex'><span>A</span><b>B</b></div>", "A B"),
        ("<div style='display:table'><div style='display:table-row'><div style='display:table-cell'>a</div>"
         "<div style='display:table-cell'>b</div></div></div>", "a | b"),
        ("<div role=table><div role=row><span role=columnheader>A</span><span role=columnheader>B</span></div>"
         "<div role=row><span role=cell>1</span><span role=cell>2</span></div></div>", "A | B\n1 | 2"),
        ("<div role=list><div role=listitem>a</div><div role=listitem>b</div></div>", "- a\n- b"),
        ("<span role=heading aria-level=3>Head</span>text", "### Head\n\ntext"),
        ("<p style='white-space:pre-line'>\n one\n  two</p>", "one\ntwo"),
        ("<p style='white-space-collapse: preserve'>a\n  b</p>", "a\n  b"),
        ("<style>.c{white-space:pre-wrap}</style><div class=c>a\n  b</div>", "a\n  b"),
        ("<pre><a href='#1' id=1 data-nosnippet>1</a>use std;\n<span class=lineno>2</span>x</pre>",
         "1 use std;\n2 x"),
        # marks and values
        ("<span role=checkbox aria-checked=true>Lamp</span> <span role=radio aria-checked=false>Bell</span>",
         "[x] Lamp ( ) Bell"),
        ("<meter value=6 max=10></meter> <progress value=70 max=100>70 %</progress>", "6 of 10 70 %"),
        ("a<input type=checkbox hidden>b", "ab"),
        # quotation marks by language
        ("<p lang=fr><q>oui <q>non</q></q>", "«oui ‹non›»"),
        ("<html lang=de-AT><p><q>Ja</q>", "„Ja“"),
        ("<div xml:lang=ja><q>渡船</q></div><q>x</q>", "「渡船」\n“x”"),
        # ruby
        ("<ruby>東<rt>とう</rt>京<rt>きょう</rt></ruby>へ", "東京(とうきょう)へ"),
        ("<ruby>北<rp>(<rt>běi<rp>)</rp>京<rp>(<rt>jīng<rp>)</ruby>", "北京(běi jīng)"),
        ("<ruby><rb>旧<rb>山<rt>jiù<rt>shān<rtc>San Francisco</rtc></ruby>", "旧山(jiù shān)(San Francisco)"),
        ("<ruby><rbc><rb>10</rb></rbc><rtc><rt>Month</rt></rtc></ruby>", "10(Month)"),
        ("<ruby>base<rt></rt></ruby>", "base"),
        # lists
        ("<ul style='list-style-type:decimal'><li>a<li>b</ul>", "1. a\n2. b"),
        ("<ol style='list-style:disc'><li>a</ol>", "- a"),
        ("<ol style='list-style-type:lower-greek' start=24><li>a<li>b</ol>", "ω. a\nαα. b"),
        ("<ol style='list-style-type:decimal-leading-zero' start=9><li>a<li>b</ol>", "09. a\n10. b"),
        ("<style>ol{list-style:none}.r{list-style-type:upper-roman}</style><ol><li>a</ol><ol class=r><li>b</ol>",
         "1. a\n\nI. b"),
        ("<ol reversed><div><li>a</div><li>b<ol><li>c</ol></ol>", "2. a\n1. b\n  1. c"),
        # pictures and drawings
        ("The number <img alt='x^2'>is <img alt=Pier>four, <img alt='“T'>he", "The number x^2 is Pier four, “The"),
        ("<img title='A map'> <img alt='' title=no>", "A map"),
        ("<figure><img alt='A map'><figcaption>A <b>map</b></figcaption></figure><img alt='A map'>", "A map\n\nA map"),
        # blocks of code beside each other, and the button that copies them
        ("<pre><code>import os;</code><code>require('os');</code><button>copy</button></pre>",
         "import os;\nrequire('os'); copy"),
        ("<pre><code>one\n</code><code>two</code> <button>copy</button></pre>", "one\ntwo copy"),
        ("<img alt=A class=lazy><noscript><img alt=A></noscript><noscript><p>no</p><img alt='A chart'></noscript>",
         "A A chart"),
        ("<svg><text><tspan x=0 dy=1em>line one</tspan><tspan x=0 dy=1em>two</tspan></text></svg>", "line one two"),
        ("<svg><text>Hel<tspan>lo</tspan></text><desc>Sales rose</desc></svg>", "Hello Sales rose"),
        ("<svg aria-label=Chart><desc>Sales rose to 5</desc></svg>", "Chart Sales rose to 5"),
        ("<svg><title>Chart</title><desc>Created with Sketch.</desc></svg>", "Chart"),
        # frames
        ("<iframe src='data:text/html,%3Cp%3EAt%20nine'></iframe>", "At nine"),
        ("<iframe src='data:text/html;charset=utf-8;base64,PHA+QXQgbmluZQ=='></iframe>", "At nine"),
        ("<x-a><template shadowmode=open><p>In the shadow</template></x-a>", "In the shadow"),
        # markup that is not well-formed
        ("<a href='x>broken</a> <p>text 'quote' and more", "broken\n\ntext 'quote' and more"),
        ('<a href="x>broken</a> <a href="y">whole</a> end', "broken whole end"),
        ("<img alt=a title=\"a > b\"class='c > d'id=e> <a title=\"it's > that\">k</a>", "a k"),
        ("<p>words<p class='x", "words"),
        ("<p>words</bod", "words"),
        ("<p>words <b bold", "words <b bold"),
        ("<?xml version='1.0'?><!DOCTYPE html [<!ENTITY w 'the &quot;keeper&quot;'><!ENTITY x '&w; &amp;'>]>"
         "<p>&x; caf&eacute;", 'the "keeper" & café'),
    ],
)  # fmt: skip
def test_each_kind_is_read_as_it_is_shown(markup: str, text: str) -> None:
    assert html_to_text(markup) == text + "\n"


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        ("<mfrac><mn>1</mn><mn>2</mn></mfrac><mi>x</mi>", "1/2 x"),
        ("<msqrt><mi>x</mi></msqrt><mi>y</mi>", "√x y"),
        ("<mo>(</mo><mfrac linethickness='0pt'><mi>n</mi><mi>k</mi></mfrac><mo>)</mo>", "(n choose k)"),
        ("<munder><mo>∑</mo><mfrac linethickness=0><mi>i</mi><mi>j</mi></mfrac></munder><mi>a</mi>", "∑_(i; j) a"),
        ("<mn>12</mn><mtext>if </mtext><mi>x</mi>", "12 if x"),
        ("<maction actiontype=toggle selection=2><mn>1</mn><mn>7</mn></maction>", "7"),
        ("<maction><mn>1</mn><mn>7</mn></maction>", "1"),
        ("<menclose notation=radical><mi>x</mi></menclose>", "√x"),
        ("<menclose notation=updiagonalstrike><mi>x</mi></menclose>", "~~x~~"),
        ("<menclose notation=box><mi>x</mi></menclose>", "x"),
        ("<semantics><apply><ci>x</ci></apply><annotation-xml encoding=MathML-Presentation><mi>y</mi></annotation-xml>"
         "</semantics>", "y"),
        ("<semantics><mi>x</mi><annotation-xml encoding=MathML-Content><ci>x</ci></annotation-xml></semantics>", "x"),
    ],
)  # fmt: skip
def test_a_formula_keeps_its_value(formula: str, text: str) -> None:
    assert html_to_text(f"<math>{formula}</math>") == text + "\n"


def _katex(*children: str) -> str:
    return f'<span class="katex"><span class="katex-html" aria-hidden="true">{"".join(children)}</span></span>'


def _box(text: str) -> str:
    return f'<span class="mord">{text}</span>'


def _stack(name: str, *rows: str, kind: str = "vlist-t") -> str:
    boxes = "".join(f'<span style="top:-3em"><span class="pstrut"></span>{row}</span>' for row in rows)
    return f'<span class="{name}"><span class="{kind}"><span class="vlist">{boxes}</span></span></span>'


_LINE = '<span class="frac-line"></span>'
_LOW = "vlist-t vlist-t2"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        (_katex(_box("10"), _stack("msupsub", _box("6"))), "10⁶"),
        (_katex(_box("H"), _stack("msupsub", _box("2"), kind=_LOW), _box("O")), "H₂O"),
        (_katex(_box("x"), _stack("msupsub", _box("1"), _box("2"), kind=_LOW)), "x₁²"),
        (_katex(_box("3"), _stack("mfrac", _box("2"), _LINE, _box("1"), kind=_LOW), _box("x")), "3 1/2 x"),
        (_katex("(", _stack("mfrac", _box("k"), _box("n"), kind=_LOW), ")"), "(n choose k)"),
        (_katex(_stack("sqrt", _box("x"), '<span class="hide-tail">v</span>'), _box("y")), "√x y"),
        (_katex(_stack("mop op-limits", _box("1"), _box("∑"), _box("n"), kind=_LOW), _box("i")), "∑₁ⁿ i"),
        (_katex(_box("F"), '<span class="mrel">=</span>', _box("6")), "F = 6"),
        ('<mjx-container class=MathJax><mjx-math><mjx-mn><mjx-c class="mjx-c31"></mjx-c>'
         '<mjx-c class="mjx-c30"></mjx-c></mjx-mn>'
         '<mjx-mo><mjx-c class="mjx-c3D"></mjx-c></mjx-mo><mjx-msup><mjx-mi><mjx-c class="mjx-c1D465 TEX-I"></mjx-c>'
         '</mjx-mi><mjx-script><mjx-mn><mjx-c class="mjx-c36"></mjx-c></mjx-mn></mjx-script>'
         "</mjx-msup></mjx-math></mjx-container>",
         "10 = x⁶"),
        ('<mjx-container class=MathJax><mjx-mfrac><mjx-num><mjx-c class="mjx-c31"></mjx-c></mjx-num>'
         '<mjx-den><mjx-c class="mjx-c32">'
         "</mjx-c></mjx-den></mjx-mfrac></mjx-container>", "1/2"),
    ],
)  # fmt: skip
def test_a_formula_of_boxes_alone_keeps_its_value(markup: str, text: str) -> None:
    assert html_to_text(f"<p>It is {markup} here") == f"It is {text} here\n"


def test_style_sheets_and_frames_that_stand_elsewhere_are_used() -> None:
    page = "10<span class=u>6</span><iframe src='cid:f'></iframe><iframe src='https://example.org/'></iframe>"
    assert html_to_text(page, sheets=(".u{vertical-align:super}",), frames={"cid:f": "<p>framed"}) == "10⁶\n\nframed\n"


def test_a_page_that_its_scripts_would_fill_says_so(tmp_path: Path) -> None:
    (tmp_path / "app.html").write_text("<body><div id=app></div><script>render()</script>")
    with pytest.raises(ParseError, match="its scripts would load it"):
        parse_html(str(tmp_path / "app.html"), ParseLimits(max_text_bytes=1000, max_unpacked_bytes=1000))
