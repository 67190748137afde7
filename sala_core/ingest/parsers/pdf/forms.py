"""What a PDF says beside its pages: form fields, comments, attached files, XFA forms."""

import re
from collections.abc import Iterable
from xml.etree import ElementTree

import pymupdf
from pymupdf import mupdf

from .lines import Line

NO_COMMENT = {mupdf.PDF_ANNOT_LINK, mupdf.PDF_ANNOT_POPUP, mupdf.PDF_ANNOT_WIDGET}
_BUTTONS = {mupdf.PDF_WIDGET_TYPE_CHECKBOX, mupdf.PDF_WIDGET_TYPE_RADIOBUTTON}
_NO_VALUE = {mupdf.PDF_WIDGET_TYPE_BUTTON, mupdf.PDF_WIDGET_TYPE_SIGNATURE, mupdf.PDF_WIDGET_TYPE_UNKNOWN}
_IS_HIDDEN = mupdf.PDF_ANNOT_IS_HIDDEN | mupdf.PDF_ANNOT_IS_NO_VIEW
_IS_PASSWORD = 1 << 13  # field flag (ISO 32000-1, table 228)
_REFERENCE = re.compile(r"(\d+)\s+\d+\s+R\b")
_MAX_XFA_BYTES = 32 << 20


def read_fields(page: pymupdf.Page, lines: list[Line], matrix: pymupdf.Matrix) -> tuple[list[Line], list[str]]:
    """Return (the lines of the page without those that show a field's value, `label: value` of every field).

    matrix: from the page without its own rotation to the coordinates of the lines.
    """
    fields: list[str] = []
    kept = lines
    for widget in page.widgets():
        rect = widget.rect * matrix
        kind, value = widget.field_type, widget.field_value
        if (
            kind in _NO_VALUE
            or _is_hidden(page, widget)
            or (widget.field_flags & _IS_PASSWORD and kind == mupdf.PDF_WIDGET_TYPE_TEXT)
        ):
            continue
        label = _label(widget)
        if kind in _BUTTONS:
            is_on = value not in (None, False, "", "Off") and (
                value is True or value == widget.on_state() or _appearance(page, widget) == value
            )
            if kind == mupdf.PDF_WIDGET_TYPE_RADIOBUTTON:
                label += _choice(widget, label)
            fields.append(f"[{'x' if is_on else ' '}] {label}")
            kept = [line for line in kept if not (_is_in(line, rect) and len(line.text) == 1)]
            continue
        names = {choice[0]: choice[1] for choice in widget.choice_values or () if not isinstance(choice, str)}
        values = value if isinstance(value, list | tuple) else [value or ""]
        shown = ", ".join(str(names.get(item, item)) for item in values)
        if not shown.strip():
            continue
        fields.append(f"{label}: {shown}")
        words = set(shown.split())
        kept = [line for line in kept if not (_is_in(line, rect) and set(line.text.split()) <= words)]
    return kept, fields


def _label(widget: pymupdf.Widget) -> str:
    """The text that a viewer shows for a field, or the last part of its name."""
    name = str(widget.field_label or "").strip() or str(widget.field_name or "").rsplit(".", 1)[-1].split("[")[0]
    return " ".join(name.split()) or "field"


def _is_hidden(page: pymupdf.Page, widget: pymupdf.Widget) -> bool:
    kind, flags = page.parent.xref_get_key(widget.xref, "F")
    return kind == "int" and bool(int(flags) & _IS_HIDDEN)


def _appearance(page: pymupdf.Page, widget: pymupdf.Widget) -> str:
    """The state that a button is drawn in: some files give it a name that differs from those of its drawings."""
    return str(page.parent.xref_get_key(widget.xref, "AS")[1]).removeprefix("/")


def _choice(widget: pymupdf.Widget, label: str) -> str:
    """What a radio button stands for, after the label of its group; nothing if that is only a number."""
    state = widget.on_state()
    name = "" if state is True else str(state or "").strip()
    return f": {name}" if name and not name.isdecimal() and name not in ("Off", "Yes", "On", label) else ""


def _is_in(line: Line, rect: pymupdf.Rect) -> bool:
    x, y = (line.x0 + line.x1) / 2, (line.y0 + line.y1) / 2
    return rect.x0 - 1 <= x <= rect.x1 + 1 and rect.y0 - line.size <= y <= rect.y1 + line.size


def read_comments(page: pymupdf.Page, page_text: str) -> tuple[list[str], list[str]]:
    """Return (comments that the page's text does not show, names of files attached to the page)."""
    comments: list[str] = []
    files: list[str] = []
    shown = "".join(page_text.split())
    for annotation in page.annots():
        kind, info = annotation.type[0], annotation.info
        if kind in NO_COMMENT or annotation.flags & _IS_HIDDEN:
            continue
        content = str(info.get("content") or "").replace("\r", "\n").strip()
        if kind == mupdf.PDF_ANNOT_FILE_ATTACHMENT:
            files.append(str(annotation.file_info.get("filename") or "without a name"))
        if content and content not in files and "".join(content.split()) not in shown:
            author = " ".join(str(info.get("title") or "").split())
            comments.append(f"[Comment{f' by {author}' if author else ''}: {content}]")
    return comments, files


def attached_files(document: pymupdf.Document) -> list[str]:
    """Return the names of the files embedded in a document."""
    return [str(document.embfile_info(name).get("filename") or name) for name in document.embfile_names()]


def read_xfa(document: pymupdf.Document) -> list[str] | None:
    """Return the texts and values of an XFA form in the order of the file, None if the document has none."""
    packets = _xfa_packets(document)
    if packets is None:
        return None
    lines: list[str] = []
    try:
        lines += _xfa_lines(ElementTree.fromstring(packets))
    except (ElementTree.ParseError, LookupError, ValueError):
        return []
    return lines


def _xfa_packets(document: pymupdf.Document) -> bytes | None:
    """The XML of the form: one stream, or the streams of an array of names and streams, joined."""
    root = document.pdf_catalog()
    kind, value = document.xref_get_key(root, "AcroForm/XFA")
    if kind == "xref":
        xref = int(value.split()[0])
        if document.xref_is_stream(xref):
            return _stream(document, xref)
        value = document.xref_object(xref, compressed=True)
    elif kind != "array":
        return None
    numbers = [int(number) for number in _REFERENCE.findall(value)]
    return b"".join(_stream(document, number) for number in numbers if document.xref_is_stream(number))


def _stream(document: pymupdf.Document, xref: int) -> bytes:
    return (document.xref_stream(xref) or b"")[:_MAX_XFA_BYTES]


def _xfa_lines(root: ElementTree.Element) -> Iterable[str]:
    """Texts of the template, then the values of the data as `name: value`. Each line once if it repeats directly."""
    last = ""
    for element in root.iter():
        space, _, name = element.tag.rpartition("}")
        line = ""
        if "xfa-template" in space and name in ("text", "exData"):
            line = " ".join("".join(element.itertext()).split())
        elif not len(element) and "xfa" not in space and "xhtml" not in space and element.text:
            line = f"{name}: {' '.join(element.text.split())}" if element.text.strip() else ""
        if line and line != last:
            yield line
            last = line
