"""Rich Text: code pages, Unicode, tables, notes; no bytes of pictures and no instructions."""

# ruff: noqa: E501 (XML and RTF in strings)

from collections.abc import Callable

import pytest

from sala_core.ingest.parsers.result import Parsed, ParseError

HEAD = rb"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss\fcharset0 Arial;}{\f1\froman\fcharset204{\*\falt X} Times CYR;}"
HEAD += rb"{\f2\fnil\fcharset128 MS Mincho;}{\f3\ftech\fcharset2 Symbol;}{\f4\fcharset134 SimSun;}{\f5\fcharset238 Arial CE;}}"
HEAD += rb"{\colortbl;\red0\green0\blue0;}{\stylesheet{\ql Normal;}{\s1\sbasedon0\f5 heading 1;}{\*\cs2 \f1 Strong;}}"
HEAD += rb"{\info{\author Nobody}}{\*\generator Unseen 1.0;}\pard\plain\f0 "

CASES = {
    "bytes of the code page": (rb"caf\'e9 \'80\~5", "café € 5"),
    "other fonts' code pages": (rb"{\f1 \'cf\'e0\'f0\'ee\'ec} {\f5 \'e8}", "Паром č"),
    "double bytes": (rb"{\f2 \'93\'fa\'96{\f0 }\f2 \'7b\'8e\'8e} {\f2 \'83A}", None),
    "double bytes with plain second bytes": (rb"{\f2 \'93\'fa\'96{} \'83A\'83\'5c}", None),
    "double bytes with letters for second bytes": (rb"{\f2 \'83A\'83\\}x", None),
    "Unicode with replacements": (rb"\uc1 \u1055?\u1072\'e0 \uc2 \u26085??\uc0 \u-257 ", "Па 日"),
    "Unicode beyond the first plane": (rb"\u-10179?\u-8704?", "😀"),
    "symbols": (rb"{\f3 a} \u61623? {\f3 \u-3913?}", "α \uf0b7 •"),
    "superscripts": (rb"10{\super 6} H{\sub 2}O x\up6 2\up0  y", "10⁶ H₂O x² y"),
    "struck, deleted and hidden words": (rb"{\strike no} {\deleted gone} {\v psst} \strike0 yes", "~~no~~ ~~gone~~ [hidden: psst] yes"),
    "marks": (rb"\ldblquote a\rdblquote\emdash b\endash c\lquote d\rquote\bullet co\_op\-erate", "“a”—b–c‘d’•co-operate"),
    "escaped braces": (rb"\{a\}\\ b", "{a}\\ b"),
    "lines and tabs": (rb"a\tab b\line c", "a\tb\nc"),
    "results of fields, not their instructions": (
        rb'{\field{\*\fldinst{HYPERLINK "http://x.y"}}{\fldrslt{the link}}} {\field{\*\fldinst DATE}{\fldrslt 3 May}}', "the link 3 May",
    ),
    "check boxes": (rb"{\field{\*\fldinst FORMCHECKBOX {\*\formfield{\fftype1\ffres1{\*\ffname C}}}}{\fldrslt}} yes", "[x] yes"),
    "Unicode versions": (rb"{\upr{a?}{\*\ud{a\u8364 ?}}}", "a€"),
    "binary data skipped": (b"a{\\pict\\wmetafile8\\bin8 }{}}\\par}c{\\*\\unknown secret}d", "acd"),
    "bookmarks and index entries": (rb"a{\*\bkmkstart mark}b{\*\bkmkend mark}{\xe entry}{\tc toc}c", "abc"),
    "text boxes": (rb"a{\shp{\*\shpinst\shpleft0{\sp{\sn shapeType}{\sv 202}}{\shptxt box\par}}{\shprslt{\*\do dup}}}b", "ab\n\nbox"),
    "pictures' alternative texts": (rb"{\*\shppict{\pict{\*\picprop{\sp{\sn wzDescription}{\sv A map}}}\pngblip 8950}}{\nonshppict{\pict 89}}", "A map"),
    "embedded objects": (rb"{\object{\*\objclass Excel}{\*\objdata 0105}{\result shown}}", "shown"),
    "headings": (rb"\pard\s1 Top\par\pard\outlinelevel2 Deep\par\pard x", "# Top\n\n### Deep\n\nx"),
    "lists": (rb"\pard{\listtext\pard\plain iv)\tab}\ls1 one\par{\pntext\f3\'b7\tab}two\par\pard x", "iv) one\n- two\n\nx"),
    "inner lists": (rb"\pard{\listtext 1.\tab}\ilvl0 a\par{\listtext a)\tab}\ilvl1 b\par\pard x", "1. a\n  a) b\n\nx"),
    "old numbers": (rb"{\*\pn\pnlvlbody{\pntxtb x}}{\pntext 3.\tab}three", "3. three"),
}  # fmt: skip
CASES["double bytes"] = (rb"{\f2 \'93\'fa\'96\'7b\'8e\'8e}", "日本試")
CASES["double bytes with plain second bytes"] = (rb"{\f2 \'83A\'83\'5c}", "アソ")
CASES["double bytes with letters for second bytes"] = (rb"{\f4 \'c4\'e3\'ba\'c3 ok}", "你好 ok")


@pytest.mark.parametrize("case", CASES)
def test_a_paragraph_keeps(case: str, parse: Callable[..., Parsed]) -> None:
    content, expected = CASES[case]
    assert parse(HEAD + content + b"}", ".rtf").text == f"{expected}\n"


def test_tables_keep_their_cells(parse: Callable[..., Parsed]) -> None:
    table = (
        rb"\trowd\clmgf\cellx100\clmrg\cellx200\clvmgf\cellx300\pard\intbl head\cell\cell c\cell\row"
        rb"\trowd\cellx100\cellx200\clvmrg\cellx300\pard\intbl 1\par more\cell 2\cell\cell\row\pard after"
    )
    assert parse(HEAD + table + b"}", ".rtf").text == "head |  | c\n1 more | 2 | c\n\nafter\n"


def test_a_wide_cell_spans_the_columns_of_other_rows(parse: Callable[..., Parsed]) -> None:
    table = (
        rb"\trowd\cellx100\cellx205\cellx300\pard\intbl a\cell b\cell c\cell\row"
        rb"\trowd\cellx200\cellx300\pard\intbl wide\cell 3\cell\row\pard x"
    )
    assert parse(HEAD + table + b"}", ".rtf").text == "a | b | c\nwide |  | 3\n\nx\n"


def test_nested_tables_are_read_once(parse: Callable[..., Parsed]) -> None:
    table = (
        rb"\trowd\cellx100\cellx200\pard\intbl\itap2 1\nestcell{\nonesttables\par dup}2\nestcell{\*\nesttableprops\trowd\cellx50\cellx99\nestrow}"
        rb"\pard\intbl\itap1\cell out\cell\row\pard x"
    )
    assert parse(HEAD + table + b"}", ".rtf").text == "1, 2 | out\n\nx\n"


def test_notes_comments_and_margins(parse: Callable[..., Parsed]) -> None:
    text = parse(
        HEAD
        + rb"{\header Secret\par}In 1987{\super\chftn{\footnote\pard\plain{\super\chftn} See 9.}} it{\*\atnid A}{\*\atnauthor Ann}\chatn"
        rb"{\*\annotation\pard Why?} rained{\super\chftn{\footnote\ftnalt\chftn End.}}.\par Next{\footer Page \chpgn}}",
        ".rtf",
    ).text
    assert text == (
        "In 1987[1] it rained[1].\n\n[Footnote 1: See 9.]\n\n[Comment by Ann: Why?]\n\n[Endnote 1: End.]\n\nNext\n\n[Header: Secret]\n\n[Footer: Page]\n"
    )


def test_notes_are_numbered_as_the_document_says(parse: Callable[..., Parsed]) -> None:
    notes = rb"\aftnnrlc a{\super\chftn{\footnote\chftn One.}} b{\super\chftn{\footnote\ftnalt\chftn End.}} \sectd\sftnnalc c{\super\chftn{\footnote\chftn Two.}}\par"
    assert parse(HEAD + notes + b"}", ".rtf").text == (
        "a[1] b[i] c[b]\n\n[Footnote 1: One.]\n\n[Endnote i: End.]\n\n[Footnote b: Two.]\n"
    )


def test_a_cut_file_is_read_to_its_end(parse: Callable[..., Parsed]) -> None:
    parsed = parse(HEAD + rb"\b words {\i and more", ".rtf")
    assert parsed.text == "words and more\n"
    assert parsed.warnings == ("the file ends before the document does: it is cut off",)


def test_deep_groups_and_other_files(parse: Callable[..., Parsed]) -> None:
    assert parse(HEAD + b"{" * 100_000 + b"deep" + b"}" * 100_001, ".rtf").text == "deep\n"
    with pytest.raises(ParseError, match="not a Rich Text document"):
        parse(b"plain words", ".rtf")
    with pytest.raises(ParseError, match="without any text"):
        parse(HEAD + b"}", ".rtf")
