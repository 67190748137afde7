"""The parser process. For each file it reads one JSON line, and writes one JSON line followed by the text.

It runs without the rest of the program (see `parser_process.py`) and ends when its input ends. It limits its own
memory and processor time if the operating system can.
"""

import json
import os
import signal
import sys
from typing import BinaryIO

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
        header, text = _answer(request)
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


def _answer(request: dict[str, str | int]) -> tuple[dict[str, object], bytes]:
    """(header, text as UTF-8) of the reply. `is_final`: the process cannot continue."""
    try:
        parsed = _parse(request)
        text = parsed.text.encode()
    except ParseError as error:
        return {"error": str(error)}, b""
    except MemoryError:
        return {"memory": True, "is_final": True}, b""
    except (OSError, RecursionError) as error:
        return {"error": f"cannot be read: {error}"}, b""
    return {"page_starts": parsed.page_starts, "warnings": parsed.warnings}, text


def _parse(request: dict[str, str | int]) -> Parsed:
    """Parse one file. A parser is imported with the first file of its format, because each import takes time."""
    path = str(request["path"])
    limits = ParseLimits(
        max_text_bytes=int(request["max_text_bytes"]), max_unpacked_bytes=int(request["max_unpacked_bytes"])
    )
    match request["kind"]:
        case "application/pdf":
            from .pdf import parse_pdf

            return parse_pdf(path, limits)
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
        case kind:
            raise ParseError(f"no parser for {kind}")
