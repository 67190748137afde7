"""Jupyter notebooks as their cells: Markdown, code, and the outputs that are text."""

import json
import re
from collections.abc import Iterator
from typing import Any

from ..charset import decode_plain
from ..html_text import html_to_text
from ..result import Parsed, ParseError, ParseLimits, normalize_text

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()*+][A-Za-z0-9]|[=>78])")
_TEXT_TYPES = ("text/markdown", "text/plain", "text/latex", "text/html", "application/json")
_OLD_TYPES = ("text", "latex", "html")  # nbformat 3
# the name of an object, which says nothing: `<Figure size 640x480 with 1 Axes>`, `<IPython.core.display.HTML object>`
_OBJECT_NAME = re.compile(r"\s*<[^<>]*>\s*")
_TRAILING_COMMA = re.compile(r",(\s*[\]}])")
_CELLS_START = re.compile(r'"cells"\s*:\s*\[\s*')
_MAX_DAMAGED = 100
_CELL_START = re.compile(r'\{\s*"(?:attachments|cell_type|execution_count|id)"\s*:')
_LONG_BASE64 = re.compile(r"(?<![A-Za-z0-9+/])(?:[A-Za-z0-9+/]|\\/|\\n){200,}={0,2}")


def parse_notebook(path: str, limits: ParseLimits) -> Parsed:
    """Return the cells of a notebook (nbformat 3 and 4) in order. Pictures and other binary outputs are left out.

    A file that is no notebook, or no JSON, is returned as it stands, with a note. Raises ParseError if it is too large.
    """
    with open(path, "rb") as file:
        data = file.read(limits.max_text_bytes + 1)
    if len(data) > limits.max_text_bytes:
        raise ParseError(f"a notebook of more than {limits.max_text_bytes / 2**20:,.1f} MiB")
    text, notes = decode_plain(data)
    try:
        notebook = json.loads(text)
        cells = _cells(notebook)
    except (ValueError, RecursionError):
        notebook, cells = _salvaged(text)
        if not cells:
            warnings = (*notes, "not a valid notebook (damaged JSON); read as plain text")
            return Parsed(text=_LONG_BASE64.sub("[data left out]", text), warnings=warnings)
        notes = (*notes, f"damaged JSON: only the {len(cells):,} cells that are left whole are read")
    if cells is None:
        return Parsed(text=text, warnings=(*notes, "not a notebook (no cells in it); read as plain text"))
    language = _language(notebook)
    num_left_out = 0
    parts = []
    for cell in cells:
        part, num_binary = _cell_text(cell, language)
        num_left_out += num_binary
        parts += [part] if part else []
    if num_left_out:
        what = "output that is" if num_left_out == 1 else "outputs that are"
        notes = (*notes, f"{num_left_out:,} {what} not text (pictures, widgets) left out")
    return Parsed(text=normalize_text("\n\n".join(parts) + "\n" if parts else ""), warnings=notes)


def _cells(notebook: Any) -> list[dict[str, Any]] | None:
    """The cells, or None if this JSON is no notebook. nbformat 3 keeps them in worksheets."""
    if not isinstance(notebook, dict):
        return None
    cells = notebook.get("cells")
    if cells is None and isinstance(notebook.get("worksheets"), list):
        sheets = [sheet for sheet in notebook["worksheets"] if isinstance(sheet, dict)]
        cells = [cell for sheet in sheets for cell in sheet.get("cells") or []]
    return [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else None


def _salvaged(text: str) -> tuple[Any, list[dict[str, Any]]]:
    """(notebook, cells) of damaged JSON: without commas too many, or the cells one by one up to the damage."""
    try:
        notebook = json.loads(_TRAILING_COMMA.sub(r"\1", text))
        return notebook, _cells(notebook) or []
    except (ValueError, RecursionError):
        pass
    cells: list[dict[str, Any]] = []
    start = _CELLS_START.search(text)
    position = start.end() if start else len(text)
    decoder = json.JSONDecoder()
    num_left = _MAX_DAMAGED  # each can reach to the end of the file
    while position < len(text) and num_left:
        try:
            cell, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
            num_left -= 1
        else:
            cells += [cell] if isinstance(cell, dict) and "cell_type" in cell else []
        following = _CELL_START.search(text, end)
        position = following.start() if following else len(text)
    return {}, cells


def _language(notebook: dict[str, Any]) -> str:
    """Name of the programming language, for the fences around code."""
    metadata = notebook.get("metadata")
    for key in ("language_info", "kernelspec"):
        info = metadata.get(key) if isinstance(metadata, dict) else None
        name = (info.get("name") if key == "language_info" else info.get("language")) if isinstance(info, dict) else ""
        if isinstance(name, str) and name:
            return name
    return "python"


def _cell_text(cell: dict[str, Any], language: str) -> tuple[str, int]:
    """(text of a cell, number of outputs left out)."""
    source = _joined(cell.get("source", cell.get("input"))).strip("\n")
    kind = cell.get("cell_type")
    if kind == "heading":
        level = cell.get("level")
        return "#" * (level if isinstance(level, int) and 0 < level < 7 else 1) + " " + source, 0
    if kind != "code":
        return source, 0
    parts = [_fenced(source, language)] if source.strip() else []
    num_left_out = 0
    outputs = cell.get("outputs")
    for output in _joined_streams(outputs if isinstance(outputs, list) else []):
        text = _output_text(output)
        if text is None:
            num_left_out += 1
        elif text.strip():
            parts.append("Output:\n" + _fenced(text.strip("\n"), ""))
    return "\n\n".join(parts), num_left_out


def _joined_streams(outputs: list[Any]) -> list[dict[str, Any]]:
    """The outputs; what was written to one stream piece by piece is one of them."""
    joined: list[dict[str, Any]] = []
    for output in (output for output in outputs if isinstance(output, dict)):
        last = joined[-1] if joined else {}
        is_stream = output.get("output_type") == last.get("output_type") == "stream"
        if is_stream and output.get("name", output.get("stream")) == last.get("name", last.get("stream")):
            joined[-1] = {**last, "text": _joined(last.get("text")) + _joined(output.get("text"))}
        else:
            joined.append(output)
    return joined


def _output_text(output: dict[str, Any]) -> str | None:
    """The text of an output, or None if it has none."""
    kind = output.get("output_type")
    if kind == "stream":
        return _plain(output.get("text"))
    if kind in ("error", "pyerr"):
        traceback = output.get("traceback")
        lines = "\n".join(str(line) for line in traceback) if isinstance(traceback, list) else ""
        return _plain(lines or f"{output.get('ename', '')}: {output.get('evalue', '')}")
    data = output.get("data", output)
    texts = list(_representations(data)) if isinstance(data, dict) else []
    named = [text for text in texts if not _OBJECT_NAME.fullmatch(text)]
    if named:
        return named[0]
    is_picture = isinstance(data, dict) and any(str(key).startswith("image/") or key in ("png", "jpeg") for key in data)
    return None if is_picture or not texts else texts[0]


def _representations(data: dict[str, Any]) -> Iterator[str]:
    """The forms of one output that are text, the most readable first."""
    for media_type in (*_TEXT_TYPES, *_OLD_TYPES):
        value = data.get(media_type)
        if value is None:
            continue
        if media_type == "application/json":
            yield json.dumps(value, ensure_ascii=False)
        elif media_type in ("text/html", "html"):
            if text := html_to_text(_joined(value), drop_navigation=False):
                yield text
        else:
            yield _plain(value)


def _plain(value: Any) -> str:
    """The text without terminal colors, and of an overwritten line (a progress bar) only its last state."""
    text = _ANSI.sub("", _joined(value)).replace("\r\n", "\n")
    if "\b" in text:
        text = "\n".join(map(_without_erased, text.split("\n")))
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def _without_erased(line: str) -> str:
    """The line without backspaces and what they erase."""
    left: list[str] = []
    for char in line:
        if char != "\b":
            left.append(char)
        elif left:
            left.pop()
    return "".join(left)


def _joined(value: Any) -> str:
    """A multi-line string, which may be a list of lines."""
    if isinstance(value, list):
        return "".join(str(line) for line in value)
    return value if isinstance(value, str) else ""


def _fenced(text: str, language: str) -> str:
    """A code block of Markdown. The fence is longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`{3,}", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
