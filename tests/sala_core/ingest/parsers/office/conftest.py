"""Small office documents, made of their XML."""

# ruff: noqa: E501 (XML and RTF in strings)

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sala_core.ingest.parsers.office.opendocument.odf import parse_odf
from sala_core.ingest.parsers.office.richtext.rtf import parse_rtf
from sala_core.ingest.parsers.office.sheets.xlsx import parse_xlsx
from sala_core.ingest.parsers.office.slides.pptx import parse_pptx
from sala_core.ingest.parsers.office.word.docx import parse_docx
from sala_core.ingest.parsers.result import Parsed, ParseLimits

MIB = 1 << 20
PARSERS = {".docx": parse_docx, ".pptx": parse_pptx, ".xlsx": parse_xlsx, ".rtf": parse_rtf}
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
NAMESPACES = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "r": f"{OFFICE}/relationships",
        "m": f"{OFFICE}/math",
        "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
        "pic": "http://schemas.openxmlformats.org/drawingml/2006/picture",
        "c": "http://schemas.openxmlformats.org/drawingml/2006/chart",
        "dgm": "http://schemas.openxmlformats.org/drawingml/2006/diagram",
        "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
        "w14": "http://schemas.microsoft.com/office/word/2010/wordml",
        "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
        "v": "urn:schemas-microsoft-com:vml",
        "o": "urn:schemas-microsoft-com:office:office",
        "p": "http://schemas.openxmlformats.org/presentationml/2006/main",
        "xdr": "http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing",
    }.items()
)
ODF = " ".join(
    f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for prefix, name in {
        "office": "office", "text": "text", "table": "table", "draw": "drawing", "style": "style",
        "presentation": "presentation", "svg": "svg-compatible", "manifest": "manifest",
    }.items()
) + (
    ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' xmlns:math="http://www.w3.org/1998/Math/MathML"'
)  # fmt: skip


def packed(parts: dict[str, str | bytes]) -> bytes:
    """A zip archive of these parts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def relations(targets: dict[str, tuple[str, str]]) -> str:
    """A part of relations: id -> (kind, target)."""
    nodes = "".join(
        f'<Relationship Id="{key}" Type="{OFFICE}/relationships/{kind}" Target="{target}"/>'
        for key, (kind, target) in targets.items()
    )
    return (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{nodes}</Relationships>'
    )


def word(body: str, parts: dict[str, str] | None = None, extra: dict[str, tuple[str, str]] | None = None) -> bytes:
    """A Word document. parts: `footnotes` -> content of its root; extra: further relations of the main part."""
    found = parts or {}
    targets = {f"p{index}": (kind, f"{kind}.xml") for index, kind in enumerate(found)}
    files: dict[str, str | bytes] = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": relations({"d": ("officeDocument", "word/document.xml")}),
        "word/document.xml": f"<w:document {NAMESPACES}><w:body>{body}</w:body></w:document>",
        "word/_rels/document.xml.rels": relations(targets | (extra or {})),
    }
    for kind, content in found.items():
        files[f"word/{kind}.xml"] = f"<w:{kind} {NAMESPACES}>{content}</w:{kind}>"
    return packed(files)


def sheet(rows: str, *, strings: str = "", styles: str = "", after: str = "", name: str = "Data") -> bytes:
    """An Excel workbook of one sheet."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    targets = {
        "s": ("worksheet", "worksheets/sheet1.xml"),
        "t": ("sharedStrings", "strings.xml"),
        "y": ("styles", "styles.xml"),
    }
    return packed(
        {
            "_rels/.rels": relations({"d": ("officeDocument", "xl/workbook.xml")}),
            "xl/workbook.xml": f'<workbook xmlns="{main}" {NAMESPACES}><sheets><sheet name="{name}" r:id="s"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": relations(targets),
            "xl/strings.xml": f'<sst xmlns="{main}">{strings}</sst>',
            "xl/styles.xml": f'<styleSheet xmlns="{main}">{styles}</styleSheet>',
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData>{after}</worksheet>',
        }
    )


@pytest.fixture
def parse(tmp_path: Path) -> Callable[..., Parsed]:
    """Parse the bytes of a document by its suffix."""

    def parse_document(data: bytes, suffix: str, *, max_text: int = MIB, max_unpacked: int = 4 * MIB) -> Parsed:
        path = tmp_path / f"document{suffix}"
        path.write_bytes(data)
        parser = PARSERS.get(suffix, parse_odf)
        return parser(str(path), ParseLimits(max_text_bytes=max_text, max_unpacked_bytes=max_unpacked))

    return parse_document
