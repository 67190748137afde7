"""Word documents keep every word that a reader sees, and change no number."""

# ruff: noqa: E501 (XML and RTF in strings)

from collections.abc import Callable

import pytest

from sala_core.ingest.parsers.result import Parsed

from .conftest import NAMESPACES, packed, relations, word


def p(content: str, properties: str = "") -> str:
    return f"<w:p>{f'<w:pPr>{properties}</w:pPr>' if properties else ''}{content}</w:p>"


def r(text: str, properties: str = "") -> str:
    return f'<w:r>{f"<w:rPr>{properties}</w:rPr>" if properties else ""}<w:t xml:space="preserve">{text}</w:t></w:r>'


SUP, SUB = '<w:vertAlign w:val="superscript"/>', '<w:vertAlign w:val="subscript"/>'


@pytest.fixture
def text(parse: Callable[..., Parsed]) -> Callable[..., str]:
    return lambda body, parts=None, extra=None: parse(word(body, parts, extra), ".docx").text


CASES = {
    # what programs that read Word documents were reported to lose or change
    "words in smart tags": ("<w:smartTag>" + r("Europe") + "</w:smartTag>", "Europe\n"),
    "words in links": ('<w:hyperlink r:id="x">' + r("the site") + "</w:hyperlink>", "the site\n"),
    "inserted and deleted words": (
        r("a ") + "<w:ins>" + r("new ") + "</w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del>", "a new ~~old~~\n",
    ),
    "moved words": ("<w:moveFrom>" + r("here") + "</w:moveFrom> <w:moveTo>" + r("there") + "</w:moveTo>", "~~here~~there\n"),
    "superscripts": (r("10") + r("6", SUP) + r(" litres"), "10⁶ litres\n"),
    "superscripts in several runs": (r("10") + r("1", SUP) + r("2", SUP), "10¹²\n"),
    "subscripts": (r("H") + r("2", SUB) + r("O"), "H₂O\n"),
    "struck words": (r("no", "<w:strike/>") + r(" yes", '<w:strike w:val="0"/>'), "~~no~~ yes\n"),
    "hidden words": (r("seen ") + r("unseen", "<w:vanish/>"), "seen [hidden: unseen]\n"),
    "symbols": ('<w:r><w:sym w:font="Symbol" w:char="F061"/></w:r>' + r(" \uf0b3 2", '<w:rFonts w:ascii="Symbol"/>'), "α ≥ 2\n"),
    "check marks of Wingdings": ('<w:r><w:sym w:font="Wingdings" w:char="F0FC"/></w:r>' + r(" done"), "✓ done\n"),
    "hyphens": ("<w:r><w:t>co</w:t><w:noBreakHyphen/><w:t>op</w:t><w:softHyphen/><w:t>erate</w:t></w:r>", "co-operate\n"),
    "tabs": ("<w:r><w:t>Name</w:t><w:tab/><w:t>Total</w:t></w:r>", "Name\tTotal\n"),
    "line breaks": ("<w:r><w:t>one</w:t><w:br/><w:t>two</w:t></w:r>", "one\ntwo\n"),
    "ruby": ("<w:r><w:ruby><w:rt>" + r("かん") + "</w:rt><w:rubyBase>" + r("漢") + "</w:rubyBase></w:ruby></w:r>", "漢(かん)\n"),
    "a checked box": (
        "<w:sdt><w:sdtPr><w14:checkbox><w14:checked w14:val='1'/></w14:checkbox></w:sdtPr><w:sdtContent>"
        + r("☒") + "</w:sdtContent></w:sdt>" + r(" agreed"), "[x] agreed\n",
    ),
    "content controls": ("<w:sdt><w:sdtContent>" + r("chosen") + "</w:sdtContent></w:sdt>", "chosen\n"),
    "fields": (
        '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>DATE \\@ "d"</w:instrText></w:r>'
        '<w:r><w:fldChar w:fldCharType="separate"/></w:r>' + r("3 May") + '<w:r><w:fldChar w:fldCharType="end"/></w:r>',
        "3 May\n",
    ),
    "symbols in fields": (
        '<w:r><w:fldChar w:fldCharType="begin"/><w:instrText>SYMBOL 183 \\f Symbol</w:instrText>'
        '<w:fldChar w:fldCharType="end"/></w:r>' + r(" item"), "• item\n",
    ),
    "check boxes of old forms": (
        '<w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:checkBox><w:default w:val="1"/></w:checkBox></w:ffData>'
        '</w:fldChar><w:instrText>FORMCHECKBOX</w:instrText><w:fldChar w:fldCharType="end"/></w:r>' + r(" yes"), "[x] yes\n",
    ),
    "simple fields": ("<w:fldSimple w:instr='PAGE'>" + r("7") + "</w:fldSimple>", "7\n"),
    "formulas": (
        "<m:oMath><m:r><m:t>E=m</m:t></m:r><m:sSup><m:e><m:r><m:t>c</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r>"
        "</m:sup></m:sSup></m:oMath>", "E = mc²\n",
    ),
    "fractions, roots and signs": (
        "<m:oMath><m:r><m:t>−</m:t></m:r><m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f>"
        "<m:rad><m:radPr><m:degHide/></m:radPr><m:deg/><m:e><m:r><m:t>x</m:t></m:r></m:e></m:rad></m:oMath>", "−(a + b)/2√x\n",
    ),
    "a line break in a formula": ("<m:oMath><m:r><w:br/><m:t>x</m:t></m:r></m:oMath>" + r(" rest"), "x rest\n"),
    "pictures' alternative texts": (
        '<w:r><w:drawing><wp:inline><wp:docPr descr="A map of the harbour"/></wp:inline></w:drawing></w:r>',
        "A map of the harbour\n",
    ),
    "watermarks": ('<w:r><w:pict><v:shape><v:textpath string="DRAFT 3"/></v:shape></w:pict></w:r>', "DRAFT 3\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_paragraph_keeps(case: str, text: Callable[..., str]) -> None:
    content, expected = CASES[case]
    assert text(p(content)) == expected


def test_text_boxes_are_read_once_after_their_paragraph(text: Callable[..., str]) -> None:
    box = f"<w:txbxContent>{p(r('in the box'))}</w:txbxContent>"
    both = (
        f"<mc:AlternateContent><mc:Choice><w:drawing><wps:wsp><wps:txbx>{box}</wps:txbx></wps:wsp></w:drawing></mc:Choice>"
        f"<mc:Fallback><w:pict><v:shape><v:textbox>{box}</v:textbox></v:shape></w:pict></mc:Fallback></mc:AlternateContent>"
    )
    assert text(p(r("before ") + f"<w:r>{both}</w:r>" + r("after"))) == "before after\n\nin the box\n"
    old = f"<w:r><w:pict><v:shape><v:textbox>{box}</v:textbox></v:shape></w:pict></w:r>"
    assert text(p(old)) == "in the box\n"


NUMBERING = """
<w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0"><w:start w:val="3"/><w:numFmt w:val="upperRoman"/><w:lvlText w:val="%1."/></w:lvl>
<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="%1.%2)"/></w:lvl>
<w:lvl w:ilvl="2"><w:numFmt w:val="decimal"/><w:isLgl/><w:lvlText w:val="%1.%2.%3"/></w:lvl></w:abstractNum>
<w:abstractNum w:abstractNumId="2"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/><w:lvlText w:val="&#xF0B7;"/></w:lvl></w:abstractNum>
<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>
<w:num w:numId="2"><w:abstractNumId w:val="1"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="9"/></w:lvlOverride></w:num>
<w:num w:numId="3"><w:abstractNumId w:val="2"/></w:num>"""


def number(identifier: int, level: int) -> str:
    return f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{identifier}"/></w:numPr>'


def test_lists_have_the_numbers_that_word_shows(text: Callable[..., str]) -> None:
    levels = [(1, 0), (1, 1), (1, 1), (1, 2), (1, 0), (1, 1), (2, 0), (3, 0), (1, 0), (0, 0)]
    body = "".join(p(r("x"), number(*level)) for level in levels)
    assert text(body, {"numbering": NUMBERING}) == (
        "III. x\n  III.a) x\n  III.b) x\n    3.2.1 x\nIV. x\n  IV.a) x\nIX. x\n- x\nX. x\n\nx\n"
    )


def test_a_number_without_a_level_or_with_an_unknown_id_loses_no_words(text: Callable[..., str]) -> None:
    body = (
        p(r("one"), '<w:numPr><w:numId w:val="1"/></w:numPr>')
        + p(r("two"), "<w:numPr/>")
        + p(r("three"), number(77, 0))
    )
    assert text(body, {"numbering": NUMBERING}) == "III. one\n\ntwo\n\nthree\n"


STYLES = """
<w:style w:type="paragraph" w:default="1" w:styleId="N"><w:name w:val="Normal"/></w:style>
<w:style w:type="paragraph" w:styleId="b1"><w:name w:val="heading 1"/><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="mine"><w:basedOn w:val="b1"/><w:name w:val="Kapitel"/></w:style>
<w:style w:type="character" w:styleId="up"><w:rPr><w:vertAlign w:val="superscript"/></w:rPr></w:style>"""


def test_headings_and_formats_are_inherited_from_styles(text: Callable[..., str]) -> None:
    body = p(r("Top"), '<w:pStyle w:val="mine"/>') + p(r("Deep"), '<w:outlineLvl w:val="2"/>')
    body += p(r("m") + r("2", '<w:rStyle w:val="up"/>'))
    assert text(body, {"styles": STYLES, "numbering": NUMBERING}) == "# III. Top\n\n### Deep\n\nm²\n"


def test_headings_are_found_without_styles(text: Callable[..., str]) -> None:
    assert text(p(r("Top"), '<w:pStyle w:val="Heading2"/>')) == "## Top\n"


def cell(content: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{p(r(content)) if not content.startswith('<') else content}</w:tc>"


def test_tables_keep_their_columns(text: Callable[..., str]) -> None:
    rows = [
        cell("Head", '<w:gridSpan w:val="2"/>') + cell("c", '<w:vMerge w:val="restart"/>'),
        cell("1") + cell("2") + cell("<w:p/>", "<w:vMerge/>"),
        f"<w:sdt><w:sdtContent>{cell('3')}</w:sdtContent></w:sdt>" + cell("<w:p/>") + cell("6"),
    ]
    table = f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"
    before = "<w:tr><w:trPr><w:gridBefore w:val='1'/></w:trPr>" + cell("x") + "</w:tr>"
    assert text(table) == "Head |  | c\n1 | 2 | c\n3 |  | 6\n"
    assert text(f"<w:tbl><w:tr>{cell('a')}{cell('b')}</w:tr>{before}</w:tbl>") == "a | b\n | x\n"


def test_nested_tables_and_deleted_rows(text: Callable[..., str]) -> None:
    inner = f"<w:tbl><w:tr>{cell('1')}{cell('2')}</w:tr><w:tr>{cell('3')}{cell('4')}</w:tr></w:tbl><w:p/>"
    deleted = "<w:tr><w:trPr><w:del/></w:trPr>" + cell("gone") + cell("too") + "</w:tr>"
    found = text(f"<w:tbl><w:tr>{cell(inner)}{cell('out')}</w:tr>{deleted}</w:tbl>")
    assert found == "1, 2; 3, 4 | out\n~~gone~~ | ~~too~~\n"


def test_notes_and_comments_stand_after_their_paragraph(text: Callable[..., str]) -> None:
    parts = {
        "footnotes": '<w:footnote w:type="separator" w:id="-1"/><w:footnote w:id="4">'
        + p("<w:r><w:footnoteRef/></w:r>" + r(" See p. 9."))
        + "</w:footnote>",
        "endnotes": f'<w:endnote w:id="1">{p(r("At the end."))}</w:endnote>',
        "comments": f'<w:comment w:id="0" w:author="Ann Lee">{p(r("Really?"))}</w:comment>',
    }
    body = p(
        r("In 1987")
        + "<w:r><w:rPr>"
        + SUP
        + '</w:rPr><w:footnoteReference w:id="4"/></w:r>'
        + '<w:commentRangeStart w:id="0"/>'
        + r(" it rained")
        + '<w:commentRangeEnd w:id="0"/><w:r><w:commentReference w:id="0"/></w:r>'
        + '<w:r><w:endnoteReference w:id="1"/></w:r>'
    ) + p(r("Next."))
    assert text(body, parts) == (
        "In 1987[1] it rained[i]\n\n[Footnote 1: See p. 9.]\n\n[Comment by Ann Lee on “it rained”: Really?]\n\nNext.\n\n"
        "[Endnote i: At the end.]\n"
    )


def test_headers_and_footers_are_given_once(parse: Callable[..., Parsed]) -> None:
    section = '<w:sectPr><w:headerReference r:id="h"/><w:footerReference r:id="f"/></w:sectPr>'
    files = {
        "_rels/.rels": relations({"d": ("officeDocument", "word/document.xml")}),
        "word/document.xml": f"<w:document {NAMESPACES}><w:body>{p(r('Text'), section)}{p(r('More'))}{section}</w:body></w:document>",
        "word/_rels/document.xml.rels": relations({"h": ("header", "h.xml"), "f": ("footer", "f.xml")}),
        "word/h.xml": f"<w:hdr {NAMESPACES}>{p(r('Confidential'))}</w:hdr>",
        "word/f.xml": f"<w:ftr {NAMESPACES}>{p(r('Page 1 of 12'))}</w:ftr>",
    }
    assert parse(packed(files), ".docx").text == "Text\n\nMore\n\n[Header: Confidential]\n\n[Footer: Page 1 of 12]\n"


def test_charts_and_diagrams_are_read(parse: Callable[..., Parsed]) -> None:
    def values(tag: str, *points: str) -> str:
        return f"<c:{tag}><c:numRef><c:numCache>{''.join(f'<c:pt idx=%s><c:v>{v}</c:v></c:pt>' % repr(str(i)) for i, v in enumerate(points))}</c:numCache></c:numRef></c:{tag}>"

    chart = f"<c:chartSpace {NAMESPACES}><c:chart><c:title><c:tx><c:rich><a:p><a:r><a:t>Sales</a:t></a:r></a:p></c:rich></c:tx></c:title><c:plotArea><c:barChart><c:ser><c:tx><c:v>North</c:v></c:tx>{values('cat', 'Q1', 'Q2')}{values('val', '1.5', '2')}</c:ser></c:barChart></c:plotArea></c:chart></c:chartSpace>"
    points = "".join(
        f'<dgm:pt modelId="{k}"><dgm:t><a:p><a:r><a:t>{t}</a:t></a:r></a:p></dgm:t></dgm:pt>'
        for k, t in (("2", "Plan"), ("3", "Build"))
    )
    links = '<dgm:cxn srcId="1" destId="3" srcOrd="1"/><dgm:cxn srcId="1" destId="2" srcOrd="0"/>'
    diagram = f'<dgm:dataModel {NAMESPACES}><dgm:ptLst><dgm:pt modelId="1" type="doc"/>{points}</dgm:ptLst><dgm:cxnLst>{links}</dgm:cxnLst></dgm:dataModel>'
    body = p('<w:r><w:drawing><c:chart r:id="c"/></w:drawing></w:r>') + p(
        '<w:r><w:drawing><dgm:relIds r:dm="d"/></w:drawing></w:r>'
    )
    files = {
        "_rels/.rels": relations({"d": ("officeDocument", "word/document.xml")}),
        "word/document.xml": f"<w:document {NAMESPACES}><w:body>{body}</w:body></w:document>",
        "word/_rels/document.xml.rels": relations(
            {"c": ("chart", "charts/c.xml"), "d": ("diagramData", "diagrams/d.xml")}
        ),
        "word/charts/c.xml": chart,
        "word/diagrams/d.xml": diagram,
    }
    assert parse(packed(files), ".docx").text == "Chart: Sales\n\n | North\nQ1 | 1.5\nQ2 | 2\n\n- Plan\n- Build\n"


def test_charts_show_dates_as_dates_and_keep_names_that_look_like_numbers(parse: Callable[..., Parsed]) -> None:
    def cache(tag: str, kind: str, code: str, *points: str) -> str:
        shown = "".join(f'<c:pt idx="{i}"><c:v>{v}</c:v></c:pt>' for i, v in enumerate(points))
        return f"<c:{tag}><c:{kind}Ref><c:{kind}Cache><c:formatCode>{code}</c:formatCode>{shown}</c:{kind}Cache></c:{kind}Ref></c:{tag}>"

    def text(keys: str, values: str, head: str = "") -> str:
        chart = f"<c:chartSpace {NAMESPACES}>{head}<c:chart><c:ser><c:tx><c:v>N</c:v></c:tx>{keys}{values}</c:ser></c:chart></c:chartSpace>"
        data = word(p('<w:r><w:drawing><c:chart r:id="c"/></w:drawing></w:r>'), {}, {"c": ("chart", "c.xml")})
        return str(parse(packed({**_unpacked(data), "word/c.xml": chart}), ".docx").text)

    values = cache("val", "num", "0%", "32.0", "0.30000000000000004")
    assert text(cache("cat", "num", "m/d/yy", "37261.0", "37262"), values) == " | N\n1/5/02 | 32\n1/6/02 | 0.3\n"
    names = cache("cat", "str", "", "2.0", "12345678901234567890")
    assert text(names, values) == " | N\n2.0 | 32\n12345678901234567890 | 0.3\n"
    dates = cache("cat", "num", "yyyy", "0", "366")
    assert text(dates, values, '<c:date1904 val="1"/>') == " | N\n1904 | 32\n1905 | 0.3\n"


def test_pages_are_those_that_word_laid_out(parse: Callable[..., Parsed]) -> None:
    broken = "<w:r><w:lastRenderedPageBreak/></w:r>"
    body = p(r("One.")) + p(broken + r("Two, ") + broken + r("three.")) + p(broken) + p(r("Four."))
    parsed = parse(word(body), ".docx")
    assert parsed.text == "One.\n\nTwo, three.\n\nFour.\n"
    assert [parsed.text[start:].split("\n")[0] for start in parsed.page_starts] == [
        "One.",
        "Two, three.",
        "three.",
        "Four.",
    ]
    assert parse(word(p(r("One."))), ".docx").page_starts == ()


def test_embedded_web_pages_are_read(parse: Callable[..., Parsed]) -> None:
    data = word('<w:altChunk r:id="h"/>', {}, {"h": ("aFChunk", "page.html")})
    files = {**_unpacked(data), "word/page.html": b"<p>10<sup>6</sup> &eacute;</p>"}
    assert parse(packed(files), ".docx").text == "10⁶ é\n"


def _unpacked(data: bytes) -> dict[str, str | bytes]:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
