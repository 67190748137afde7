"""HTML keeps what a reader of the page sees: one small page per kind of content."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.ingest.parsers.html.tree import MAX_DEPTH
from sala_core.ingest.parsers.html_text import html_to_text

KATEX = """<span class="katex"><span class="katex-mathml"><math><semantics><mrow><mi>F</mi><mo>=</mo><mn>6</mn></mrow>
<annotation encoding="application/x-tex">F = 6x</annotation></semantics></math></span>
<span class="katex-html" aria-hidden="true"><span>F</span><span>=</span><span>6x</span></span></span>"""
MATHJAX_2 = """<span class="MathJax_Preview">E=mc2</span><span class="MathJax"><nobr>E=mc2</nobr></span>
<script type="math/tex">E = mc^2</script>"""
MATHJAX_3 = """<mjx-container><mjx-math aria-hidden="true"><mjx-mi></mjx-mi></mjx-math><mjx-assistive-mml><math>
<mi>E</mi><mo>=</mo><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup></math></mjx-assistive-mml></mjx-container>"""
WIKIPEDIA = """<span class="mwe-math-element"><span style="display: none"><math><semantics><mi>E</mi><annotation
encoding="application/x-tex">{\\displaystyle E=mc^{2}}</annotation></semantics></math></span>
<img alt="E=mc^{2}"></span>"""


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("10<sup>6</sup> litres of H<sub>2</sub>O", "10⁶ litres of H₂O"),
        ("10<sup>-3</sup>, x<sup>n+1</sup>, e<sup>2<sup>n</sup></sup>", "10⁻³, xⁿ⁺¹, e^(2ⁿ)"),
        ("x<sup>Q</sup>, x<sub>Q, 2</sub>", "x^(Q), x_(Q, 2)"),
        ("10<span style='vertical-align: super'>3</span> m", "10³ m"),
        ("the 4<sup>th</sup> of word<sup>[12]</sup> and Acme<sup>™</sup>", "the 4th of word[12] and Acme™"),
        ("at nine.<a epub:type='noteref' href='#n'>1</a> At ten.<sup><a href='#m'>2</a></sup>", "at nine.¹ At ten.²"),
        ("<q>He says <q>no</q>.</q> <q lang='de'>Ja</q>", "“He says ‘no’.” „Ja“"),
        ("It costs <del>four</del> <ins>five</ins> <s>crowns</s>.", "It costs ~~four~~ five ~~crowns~~."),
        ("<input type=checkbox checked> lamp<br><input type=checkbox>bell", "[x] lamp\n[ ] bell"),
        ("<input value='at nine'><input type=hidden value=no><input placeholder=Name>", "at nine Name"),
        ("<textarea>a <b>\n c</textarea>", "a <b>\n c"),
        ("<select><option>north<option selected>south</select>", "north / (x) south"),
        ("<select><optgroup label=Piers><option>one</select>", "Piers / one"),
        ("<button>One</button><button>Two</button>", "One Two"),
        ("<span role=tab>One</span><span role=tab>Two</span>", "One Two"),
        ("a<br></br>b</br>c", "a\nb\nc"),
        ("<details><summary>When?</summary>At nine.</details>", "When?\nAt nine."),
        ("<div role=tabpanel hidden>Second tab</div><p aria-hidden=true>Seen", "Second tab\n\nSeen"),
        ("その<ruby>渡船<rt>とせん</rt></ruby>は<ruby>九<rp>(<rt>く<rp>)</ruby>時", "その渡船(とせん)は九(く)時"),
        ("<img alt=T>he f<img alt=ü>r <img alt='Map of the port' src=m.png>end", "The für Map of the port end"),
        ("<img alt=Map><img alt=Pier>", "Map Pier"),
        ("tran&shy;sition foo&#8203;bar<wbr>baz a&nbsp;b", "transition foobarbaz a b"),
        ("R&amp;D &lt;b&gt; caf&eacute; &#151; &unknown; AT&T", "R&D <b> café — &unknown; AT&T"),
        ("a &lt; b <3 5<6 and x<![CDATA[ <y> & z ]]>", "a < b <3 5<6 and x <y> & z"),
        ("old <![ x ]> code <![foo[ b ]]> c <!x> <?php echo '>' ?>d", "old code c d"),
        ("a <!-- open <b>words</b> after", "a words after"),
        ("<svg><title>Icon</title><text>Pier</text><text>four</text></svg>", "Pier four"),
        ("<svg><title>A ship</title><path d=x /></svg>", "A ship"),
        ("<iframe srcdoc='<p>framed &amp;amp; seen'></iframe><object>instead</object>", "framed & seen\n\ninstead"),
        ("<script>var s = '</p><script>';</script>a<style>b{}</style><noscript>c</noscript>", "a"),
        ("<script><!-- <script> x </script> y --></script>z", "z"),
        ("<template>mould</template><p><template shadowrootmode=open>In the shadow</template></p>", "In the shadow"),
        ("<x-a><template shadowrootmode=open><b><slot name=t></slot></b>: <slot>empty</slot></template>"
         "<i slot=t>Title</i>body</x-a>", "Title: body"),
        ("<dl><dt>lamp<dd>a light<dt>bell<dd>a sound</dl>", "lamp\na light\nbell\na sound"),
    ],
)  # fmt: skip
def test_what_is_seen_is_kept_and_told_apart(markup: str, text: str) -> None:
    assert html_to_text(markup) == text + "\n"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<math><mi>k</mi><mo>=</mo><mo>−</mo><mn>6</mn><mi>x</mi></math>", "k = −6x"),
        ("<math><mfrac><mrow><mi>a</mi><mo>+</mo><mn>1</mn></mrow><mn>7</mn></mfrac></math>", "(a + 1)/7"),
        ("2<math><mn>3</mn><mfrac><mn>1</mn><mn>2</mn></mfrac></math>4", "2 3 1/2 4"),
        ("<math><msup><mn>10</mn><mn>6</mn></msup><msub><mi>a</mi><mi>i</mi></msub></math>", "10⁶aᵢ"),
        ("<math><msqrt><mi>x</mi></msqrt><mi>sin</mi><mi>x</mi></math>", "√x sin x"),
        ("<math><mroot><mi>x</mi><mn>3</mn></mroot><mphantom><mi>no</mi></mphantom></math>", "³√x"),
        ("<math><munderover><mo>∑</mo><mn>1</mn><mi>n</mi></munderover><mi>i</mi></math>", "∑₁ⁿ i"),
        ("<math><mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr><mtr><mtd><mn>3</mn></mtd></mtr></mtable>"
         "</math>", "[1, 2; 3]"),
        ("<math><mmultiscripts><mi>C</mi><mprescripts/><mn>6</mn><mn>14</mn></mmultiscripts></math>", "₆¹⁴C"),
        ("<math alttext='E = mc^2'></math>", "E = mc^2"),
        ("<m:math><m:mi>k</m:mi><m:mo>=</m:mo><m:mn>6</m:mn></m:math>", "k = 6"),
        ("<math><mi>x</mi><p>open", "x\n\nopen"),
        (f"The force is {KATEX} here", "The force is F = 6x here"),
        (MATHJAX_2, "E = mc^2"),
        ("<epub:switch><epub:case><math><mi>k</mi></math></epub:case><epub:default><img alt=k></epub:default>"
         "</epub:switch>", "k"),
        (MATHJAX_3, "E = mc²"),
        (WIKIPEDIA, "E=mc^{2}"),
    ],
)  # fmt: skip
def test_a_formula_is_written_once_on_a_line(markup: str, text: str) -> None:
    assert html_to_text(markup) == text + "\n"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<ol start=3><li>a<ol type=a><li>b<li>c</ol><li>d<li value=9>e</ol>", "3. a\n  a. b\n  b. c\n4. d\n9. e"),
        ("<ol reversed><li>a<li>b</ol>", "2. a\n1. b"),
        ("<ol type=I start=4><li>a<li type=i>b</ol>", "IV. a\nv. b"),
        ("<ol style='list-style-type: upper-alpha' start=26><li>a<li>b</ol>", "Z. a\nAA. b"),
        ("<ol start=-1><li>a<li>b<li>c</ol>", "-1. a\n0. b\n1. c"),
        ("<ul><li>a<ul><li>b</ul></ul>", "- a\n  - b"),
        ("<ol><li><ol><li></ol>a</ol>", "1. a"),
        ("<ol><li><h3>Head</h3><p>one<p>two</ol>", "1. ### Head\n\none\ntwo"),
    ],
)
def test_list_items_keep_their_numbers(markup: str, text: str) -> None:
    assert html_to_text(markup) == text + "\n"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("<tr><th>a<th>b<th>c<tr><td><td>4<td>7<tr><td>s<td><td>8<tr><td>e<td>6<td>",
         "a | b | c\n | 4 | 7\ns |  | 8\ne | 6 |"),
        ("<tr><th rowspan=2>pier<th colspan=2>price<tr><th>day<th>night<tr><td rowspan=2>north<td>4<td>7<tr><td>5<td>8",
         "pier | price | price\npier | day | night\nnorth | 4 | 7\nnorth | 5 | 8"),
        ("<tr><td colspan=2>sum<td>9<tr><td>a<td>b<td>c", "sum |  | 9\na | b | c"),
        ("<tr><th colspan=2>Fares<tr><th rowspan=2>pier<th>day<tr><th>night", "Fares |\npier | day\npier | night"),
        ("<tr><td rowspan=0>r<td>1<tr><td>2<tr><td>3", "r | 1\nr | 2\nr | 3"),
        ("<tr><td>a<br>b<td><p>c<p>d<tr><td><ul><li>e<li>f</ul><td>g", "a b | c d\n- e - f | g"),
        ("<tr><td>a<td><table><tr><td>1<td>2<tr><td>3<td>4</table><td>b", "a | 1, 2; 3, 4 | b"),
        ("<caption>Fares</caption><tfoot><tr><td>sum<td>9<tbody><tr><td>a<td>9", "Fares\na | 9\nsum | 9"),
        ("<tr><td><pre>1\n2</pre><td><pre>  p\n  q</pre>", "1\n2\n\n  p\n  q"),
        ("lost<tr><td>a<td>b<form><tr><td>c<td>d</form>", "lost\na | b\nc | d"),
    ],
)  # fmt: skip
def test_cells_stay_under_their_headings(rows: str, text: str) -> None:
    assert html_to_text(f"<table>{rows}</table>") == text + "\n"


def test_one_cell_of_several_lines_does_not_cost_the_other_rows_their_columns() -> None:
    rows = [f"<tr><td>{number}<td>{number * number}" for number in range(1, 10)]
    block = "<tr><td>code<td><pre>one\n  two</pre>"
    expected = "".join(f"{number} | {number * number}\n" for number in range(1, 10)) + "code\n\none\n  two\n"
    assert html_to_text(f"<table>{''.join(rows)}{block}</table>") == expected
    assert html_to_text(f"<table>{rows[0]}{block}</table>") == "1\n1\ncode\n\none\n  two\n"


def test_preformatted_text_is_exact() -> None:
    page = (
        "<pre>\n\n<span>def</span> f():\n\treturn 1\n\n</pre><pre><div>a</div><div>  b</div></pre>"
        "<p style='white-space: pre-wrap'>c\n  d</p><xmp>e <i></xmp>"
    )
    assert html_to_text(page) == "def f():\n\treturn 1\n\na\n  b\n\nc\n  d\n\ne <i>\n"


def test_a_page_without_body_keeps_its_words_and_one_of_navigation_alone_too() -> None:
    assert html_to_text("<head><title>T</title><p>words<div>more</div>") == "# T\n\nwords\n\nmore\n"
    assert html_to_text("<nav><p>only this</nav>") == "only this\n"
    assert html_to_text("<title>never closed<p>words") == "never closed\n\nwords\n"


WORD = st.integers(0, 10**6).map(lambda number: f"§{number}§")
TAGS = (
    "p div span b i a li ul ol table tr td th tbody caption h1 pre q s del sup sub ruby rt button label details "
    "summary dl dt dd select option blockquote section form math mi mrow msup mfrac mtable mtr mtd"
)
NAMES = st.sampled_from(TAGS.split(" "))
PIECES = st.one_of(
    WORD,
    NAMES.map(lambda name: f"<{name}>"),
    NAMES.map(lambda name: f"</{name}>"),
    st.sampled_from([" ", "\n", "<br>", "<hr>", "<td colspan=3 rowspan=2>", "<template shadowrootmode=open>"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=30))
def test_no_word_is_lost_in_any_nesting(pieces: list[str]) -> None:
    text = html_to_text("".join(pieces))
    assert [piece for piece in pieces if piece.startswith("§") and piece not in text] == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part",
    ["<!--", "<![CDATA[", "<a b='", '<a =">"', "<?", "</", "<title>", "<script", "<textarea>", "<s>", "<q>\n",
     "<table><tr><td>", "<math><mrow>", "<li>", "<p><table>", "&amp", "<sup>", "<ol>", "<font>", "<svg><g>"],
)  # fmt: skip
def test_repeated_and_unclosed_markup_takes_linear_time(part: str) -> None:
    text = html_to_text("first " + part * (120_000 // len(part)) + " > last")
    assert text.startswith("first")


def test_cells_that_span_everything_do_not_fill_the_memory() -> None:
    row = "<tr>" + "<td rowspan=60000 colspan=900>x" * 50
    assert len(html_to_text(f"<table>{row * 50}</table>")) < 10_000_000


def test_what_is_deeper_than_the_limit_keeps_its_meaning() -> None:
    page = "<div>" * 1000 + "10<sup>6</sup><script>no</script><template>no</template> <table><tr><td>a<td><td>b</table>"
    assert html_to_text(page) == "10⁶\n\na |  | b\n"


def test_slots_and_frames_inside_each_other_need_no_more_stack() -> None:
    host = "<x-a><template shadowrootmode=open>" + "<q>" * 60 + "<slot></slot>" + "</q>" * 60 + "</template>word "
    assert "last" in html_to_text(host * 40 + "last")
    frame = "<q>" * MAX_DEPTH + "<iframe srcdoc='" + "<q>" * MAX_DEPTH + "last'></iframe>"
    assert "last" in html_to_text(frame)


def test_elements_deeper_than_the_limit_keep_their_order() -> None:
    num = MAX_DEPTH * 3
    words = [f"w{i}" for i in range(num)]
    text = html_to_text("".join(f"<div>{word} " for word in words) + "</div>" * num + "end")
    assert text.split() == [*words, "end"]
