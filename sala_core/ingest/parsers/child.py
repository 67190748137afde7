"""The parser process. For each file it reads one JSON line, and writes one JSON line followed by the text.

It runs without the rest of the program (see `parser_process.py`) and ends when its input ends. It limits its own
memory and processor time if the operating system can.
"""

import json
import os
import signal
import sys
from typing import BinaryIO

from .failures import PIECE_FAILURES, failure_reason
from .result import Parsed, ParseError, ParseLimits

try:
    import resource
except ImportError:  # Windows; the parent process watches memory and time in any case
    resource = None  # type: ignore[assignment]


def main(max_memory_bytes: int) -> None:
    """Answer requests (path, kind, max_text_bytes, max_unpacked_bytes, max_cpu_s) until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = _take_output()
    _limit_memory(max_memory_bytes)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit_processor(request["max_cpu_s"])
        header, text = _answer(request, replies)
        header["num_bytes"] = len(text)
        replies.write(json.dumps(header).encode() + b"\n" + text)
        replies.flush()
        if header.get("is_final"):
            return


def _take_output() -> BinaryIO:
    """Take standard output for replies and redirect the original: C libraries print to it."""
    replies = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    return replies


def _limit_memory(max_bytes: int) -> None:
    if resource is None:
        return
    # address space: includes what the interpreter and its libraries map before the first page
    _set_limit(resource.RLIMIT_AS, max_bytes)
    _set_limit(resource.RLIMIT_CORE, 0)


def _limit_processor(max_s: int) -> None:
    """Limit processor time: the process must also end if its parent was killed."""
    if resource is None:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _set_limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + max_s)


def _set_limit(kind: int, value: int) -> None:
    """Lower only the soft limit: the limit on processor time has to rise again for the next file."""
    _, hard = resource.getrlimit(kind)
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(kind, (soft, hard))
    except (OSError, ValueError):
        return


def _show_progress(replies: BinaryIO, max_cpu_s: int) -> None:
    """Tell the parent that a long file is still being read, and renew the limit on processor time."""
    replies.write(json.dumps({"is_progress": True, "num_bytes": 0}).encode() + b"\n")
    replies.flush()
    _limit_processor(max_cpu_s)


def _answer(request: dict[str, str | int | float], replies: BinaryIO) -> tuple[dict[str, object], bytes]:
    """(header, text as UTF-8) of the reply. `is_final`: the process cannot continue."""
    try:
        if request["kind"] == "application/x-pdf-page":
            from .pdf_pages.page import answer_page

            return answer_page(request)
        parsed = _parse(request, replies)
        text = parsed.text.encode()
    except ParseError as error:
        return {"error": str(error), "is_locked": error.is_locked}, b""
    except MemoryError:
        return {"memory": True, "is_final": True}, b""
    except PIECE_FAILURES as error:
        return {"error": f"cannot be read: {failure_reason(error)}"}, b""
    return {"page_starts": parsed.page_starts, "warnings": parsed.warnings}, text


def _parse(request: dict[str, str | int | float], replies: BinaryIO) -> Parsed:
    """Parse one file. A parser is imported with the first file of its format, because each import takes time."""
    path = str(request["path"])
    limits = ParseLimits(
        max_text_bytes=int(request["max_text_bytes"]),
        max_unpacked_bytes=int(request["max_unpacked_bytes"]),
        max_ocr_s=float(request["max_ocr_s"]),
        on_progress=lambda: _show_progress(replies, int(request["max_cpu_s"])),
    )
    match request["kind"]:
        case "application/pdf":
            from .pdf.reader import parse_pdf

            return parse_pdf(path, limits, str(request.get("password", "")))
        case "application/epub+zip":
            from .ebook.epub import parse_epub

            return parse_epub(path, limits)
        case "application/x-fictionbook+xml":
            from .ebook.fb2 import parse_fb2

            return parse_fb2(path, limits)
        case "text/html":
            from .html_text import parse_html

            return parse_html(path, limits)
        case "application/x-ipynb+json":
            from .structured.notebook import parse_notebook

            return parse_notebook(path, limits)
        case "message/rfc822":
            from .structured.mail import parse_mail

            return parse_mail(path, limits)
        case "application/mbox":
            from .structured.mail import parse_mbox

            return parse_mbox(path, limits)
        case "multipart/related":
            from .structured.mail import parse_mhtml

            return parse_mhtml(path, limits)
        case "text/vtt":
            from .structured.subtitles import parse_subtitles

            return parse_subtitles(path, limits)
        case "application/vnd.openxmlformats-officedocument.wordprocessingml.document":
            from .office.word.docx import parse_docx

            return parse_docx(path, limits)
        case "application/vnd.openxmlformats-officedocument.presentationml.presentation":
            from .office.slides.pptx import parse_pptx

            return parse_pptx(path, limits)
        case "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet":
            from .office.sheets.xlsx import parse_xlsx

            return parse_xlsx(path, limits)
        case str(kind) if kind.startswith("application/vnd.oasis.opendocument."):
            from .office.opendocument.odf import parse_odf

            return parse_odf(path, limits)
        case "image/*":
            from .ocr.picture import parse_picture

            return parse_picture(path, limits)
        case "application/rtf":
            from .office.richtext.rtf import parse_rtf

            return parse_rtf(path, limits)
        case "application/x-archive":
            from .archive import UnpackLimits, unpack_archive

            unpack_limits = UnpackLimits(
                max_bytes=int(request["max_archive_bytes"]),
                max_member_bytes=int(request["max_member_bytes"]),
                max_members=int(request["max_members"]),
                max_ratio=int(request["max_ratio"]),
            )
            return unpack_archive(path, str(request["target"]), unpack_limits)
        case kind:
            raise ParseError(f"no parser for {kind}")
