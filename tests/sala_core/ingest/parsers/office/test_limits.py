"""Office files that are damaged, encrypted, old or hostile: refused with the reason, or read as far as they go."""

# ruff: noqa: E501 (XML and RTF in strings)

from collections.abc import Callable
from pathlib import Path

import pytest

from sala_core.errors import IngestError
from sala_core.ingest import Limits, prepare
from sala_core.ingest.document import SkippedFile
from sala_core.ingest.parsers.result import Parsed, ParseError
from sala_core.ingest.sniff import Kind, identify

from .conftest import NAMESPACES, ODF, packed, relations, sheet, word

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
) + ']>'  # fmt: skip


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.docx", b"PK\x03\x04", Kind.DOCX), ("a.DOCM", b"PK\x03\x04", Kind.DOCX), ("a.pptx", b"PK\x03\x04", Kind.PPTX),
        ("a.xlsm", b"PK\x03\x04", Kind.XLSX), ("a.rtf", b"{\\rtf1", Kind.RTF), ("a.doc", b"{\\rtf1", Kind.RTF),
        ("a.doc", b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml...word/document.xml", Kind.DOCX),
        ("a.xls", b"<html><body><table>", Kind.HTML), ("a.xls", b"name\tvalue\n", Kind.TEXT),
        ("a", b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", Kind.ODS),
        ("a.docx", OLE, Kind.DOCX), ("notes.txt", b"{\\rtf1\\ansi}", Kind.RTF), ("rtf.md", b"{\\rtf1 is a mark", Kind.MARKDOWN),
    ],
)  # fmt: skip
def test_formats_are_told_by_content_and_name(name: str, head: bytes, kind: Kind) -> None:
    assert identify(name, head) is kind


@pytest.mark.parametrize(
    ("name", "head", "reason"),
    [
        ("a.doc", OLE, "save it as .docx"), ("a.xls", OLE, "save it as .xlsx"), ("a.ppt", OLE, "save it as .pptx"),
        ("a.xlsb", b"PK\x03\x04", "save it as .xlsx"), ("a.docx", b"plain words", "not an office document"),
        ("a.rtf", b"plain words", "not an office document"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named_with_advice(name: str, head: bytes, reason: str) -> None:
    with pytest.raises(IngestError, match=reason):
        identify(name, head)


@pytest.mark.parametrize("suffix", [".docx", ".pptx", ".xlsx", ".odt"])
def test_damaged_and_empty_files_are_refused(suffix: str, parse: Callable[..., Parsed]) -> None:
    with pytest.raises(ParseError, match="encrypted document"):
        parse(OLE + "EncryptedPackage".encode("utf-16-le") + bytes(100), suffix)
    with pytest.raises(ParseError, match="damaged"):
        parse(b"PK\x03\x04 nothing follows", suffix)
    with pytest.raises(ParseError, match="damaged"):
        parse(packed({"other.txt": "x"}), suffix)


def test_an_old_document_with_a_new_name_is_named(parse: Callable[..., Parsed]) -> None:
    with pytest.raises(ParseError, match=r"old Word document .*save it as .docx"):
        parse(OLE + "WordDocument\0".encode("utf-16-le"), ".docx")


def test_a_document_without_words_is_refused(parse: Callable[..., Parsed]) -> None:
    with pytest.raises(ParseError, match="without any text"):
        parse(word("<w:p/>"), ".docx")
    with pytest.raises(ParseError, match="without any text"):
        parse(sheet(""), ".xlsx")


def test_too_much_text_and_too_many_unpacked_bytes_are_refused(parse: Callable[..., Parsed]) -> None:
    data = word(paragraph("x" * 5000))
    with pytest.raises(ParseError, match="MiB of text"):
        parse(data, ".docx", max_text=4000)
    with pytest.raises(ParseError, match="unpacks to more than"):
        parse(data, ".docx", max_unpacked=4000)
    rows = "".join(f'<row r="{i}"><c r="A{i}" t="str"><v>{"x" * 100}</v></c></row>' for i in range(1, 101))
    with pytest.raises(ParseError, match="MiB of text"):
        parse(sheet(rows), ".xlsx", max_text=4000)


def test_declared_entities_are_never_expanded(parse: Callable[..., Parsed]) -> None:
    files = {
        "_rels/.rels": relations({"d": ("officeDocument", "word/document.xml")}),
        "word/document.xml": f"{BOMB}<w:document {NAMESPACES}><w:body>{paragraph('before')}{paragraph('&i; &ext;')}</w:body></w:document>",
    }
    assert parse(packed(files), ".docx").text == "before\n\n&i; &ext;\n"
    rows = '<row r="1"><c r="A1" t="str"><v>&i;</v></c></row>'
    assert "&i;" in parse(_with_bomb(sheet(rows)), ".xlsx").text


def _with_bomb(data: bytes) -> bytes:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    files["xl/worksheets/sheet1.xml"] = BOMB.encode() + bytes(files["xl/worksheets/sheet1.xml"])  # type: ignore[arg-type]
    return packed(files)


def test_deeply_nested_elements_keep_their_words(parse: Callable[..., Parsed]) -> None:
    assert (
        parse(
            word("<w:p>" + "<w:ins>" * 3000 + "<w:r><w:t>deep</w:t></w:r>" + "</w:ins>" * 3000 + "</w:p>"), ".docx"
        ).text
        == "deep\n"
    )
    table = "<w:tbl><w:tr><w:tc>" * 300 + paragraph("inner") + "</w:tc></w:tr></w:tbl>" * 300
    assert "inner" in parse(word(table), ".docx").text
    span = "<text:p>" + "<text:span>" * 3000 + "deep" + "</text:span>" * 3000 + "</text:p>"
    data = packed(
        {
            "content.xml": f"<office:document-content {ODF}><office:body><office:text>{span}</office:text></office:body></office:document-content>"
        }
    )
    assert parse(data, ".odt").text == "deep\n"


def test_macros_are_left_out_and_noted(parse: Callable[..., Parsed]) -> None:
    files = {
        "_rels/.rels": relations({"d": ("officeDocument", "word/document.xml")}),
        "word/document.xml": f"<w:document {NAMESPACES}><w:body>{paragraph('text')}</w:body></w:document>",
        "word/vbaProject.bin": b"Sub AutoOpen()",
    }
    parsed = parse(packed(files), ".docx")
    assert parsed.text == "text\n"
    assert parsed.warnings == ("macros, which are programs and not text, are left out",)


def test_a_document_whose_references_are_damaged_is_found_by_its_place(parse: Callable[..., Parsed]) -> None:
    main = f"<w:document {NAMESPACES}><w:body>{paragraph('text')}</w:body></w:document>"
    wrong = relations({"d": ("officeDocument", "word/dokument.xml")})
    assert parse(packed({"_rels/.rels": wrong, "word/document.xml": main}), ".docx").text == "text\n"
    assert parse(packed({"x/document.xml": main}), ".docx").text == "text\n"


def test_a_missing_part_is_named_and_the_rest_is_read(parse: Callable[..., Parsed]) -> None:
    parsed = parse(word(paragraph("text"), {}, {"x": ("footnotes", "gone.xml")}), ".docx")
    assert parsed.text == "text\n"
    assert parsed.warnings == ("word/gone.xml is missing from the file",)


def test_a_cut_archive_is_read_as_far_as_it_goes(parse: Callable[..., Parsed]) -> None:
    data = word("".join(paragraph(f"number {i} {'abc' * i}") for i in range(400)))
    parsed = parse(data[: data.index(b"word/_rels") - 200], ".docx")
    assert parsed.text.startswith("number 0")
    assert any("damaged" in warning for warning in parsed.warnings)


class Tokenizer:
    """One token a character."""

    def encode_content(self, text: str) -> list[int]:
        return [1] * len(text)


def test_dropped_documents_are_read_in_the_parser_process(tmp_path: Path, tokenizer: object) -> None:
    (tmp_path / "letter.docx").write_bytes(word(paragraph("10⁶ litres")))
    (tmp_path / "table.xlsx").write_bytes(sheet('<row r="1"><c r="A1"><v>5</v></c></row>'))
    (tmp_path / "note.rtf").write_bytes(b"{\\rtf1 words}")
    (tmp_path / "old.doc").write_bytes(OLE)
    found = {
        item.name if isinstance(item, SkippedFile) else item.document.name: item
        for item in prepare([tmp_path], tokenizer, Limits())
    }  # type: ignore[arg-type]
    texts = {
        name.rpartition("/")[2]: item.document.text for name, item in found.items() if not isinstance(item, SkippedFile)
    }
    assert texts["letter.docx"] == "10⁶ litres\n"
    assert texts["table.xlsx"] == "## Sheet: Data\n\n5\n\n"
    assert texts["note.rtf"] == "words\n"
    skipped = [item.reason for item in found.values() if isinstance(item, SkippedFile)]
    assert any("save it as .docx" in reason for reason in skipped)
