"""E-mail to text: single messages, mailboxes (mbox), and web pages saved as MHTML."""

import email
import email.header
import email.policy
import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.message import Message

from ..charset import decode_declared, decode_html
from ..html_text import html_to_text
from ..result import Parsed, ParseError, ParseLimits, normalize_text

_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_MBOX_START = re.compile(rb"^From [^\n]*\d{4}[^\n]*\n", re.MULTILINE)
_QUOTED_FROM = re.compile(r"^>(>*From )", re.MULTILINE)
_MAX_DEPTH = 20


def parse_mail(path: str, limits: ParseLimits) -> Parsed:
    """Return headers and text of one message; attachments are named. Raises ParseError if it is too large or empty."""
    notes: list[str] = []
    text = _message_text(_read(path, limits), notes)
    if not text.strip():
        raise ParseError("a message without any text")
    return Parsed(text=normalize_text(text), warnings=_merged(notes))


def parse_mbox(path: str, limits: ParseLimits) -> Parsed:
    """Return all messages of a mailbox in its order, divided by lines. Raises ParseError as `parse_mail` does."""
    data = _read(path, limits)
    starts = [match for match in _MBOX_START.finditer(data) if _begins_message(data, match.start())]
    if not starts:
        raise ParseError("not a mailbox: no message begins in it")
    ends = [match.start() for match in starts[1:]] + [len(data)]
    notes: list[str] = []
    texts = []
    for match, end in zip(starts, ends, strict=True):
        texts.append(_QUOTED_FROM.sub(r"\1", _message_text(data[match.end() : end], notes)))
    return Parsed(text=normalize_text("\n---\n\n".join(texts)), warnings=_merged(notes))


def parse_mhtml(path: str, limits: ParseLimits) -> Parsed:
    """Return the readable text of a saved web page. Its pictures and styles are left out.

    Raises ParseError if the file is too large or has no page in it.
    """
    message = _parsed(_read(path, limits))
    notes: list[str] = []
    num_left_out = 0
    page = ""
    for part in _leaves(message):
        if part.get_content_type() in ("text/html", "application/xhtml+xml") and not page:
            page = _html_text(part, notes, drop_navigation=True)
        elif part.get_content_type() == "text/plain" and not page:
            page = _plain_text(part, notes)
        else:
            num_left_out += 1
    if not page.strip():
        raise ParseError("a saved web page without readable text")
    if num_left_out:
        notes.append(f"{num_left_out:,} embedded file{'s' if num_left_out > 1 else ''} (pictures, styles) left out")
    return Parsed(text=normalize_text(page), warnings=_merged(notes))


def _read(path: str, limits: ParseLimits) -> bytes:
    with open(path, "rb") as file:
        data = file.read(limits.max_text_bytes + 1)
    if len(data) > limits.max_text_bytes:
        raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of mail")
    return data


def _begins_message(data: bytes, start: int) -> bool:
    """Whether an empty line (or the start of the file) stands before a `From ` line."""
    return start == 0 or data[max(0, start - 3) : start].endswith((b"\n\n", b"\n\r\n"))


def _parsed(data: bytes) -> Message:
    # compat32 keeps malformed headers as they are; policy.default raises for some of them
    return email.message_from_bytes(data.lstrip(b"\r\n"), policy=email.policy.compat32)


def _message_text(data: bytes, notes: list[str]) -> str:
    return _one_message(_parsed(data), notes, 0)


def _one_message(message: Message, notes: list[str], depth: int) -> str:
    """Headers, text, names of the attachments, and the messages that are attached."""
    lines = [f"{name}: {value}" for name in _HEADERS if (value := _header(message, name))]
    bodies: list[str] = []
    attachments: list[str] = []
    _collect(message, bodies, attachments, notes, depth)
    parts = ["\n".join(lines), *bodies]
    if attachments:
        parts.append("Attachments (not read): " + "; ".join(attachments))
        notes.append(f"attachment not read: {len(attachments):,}")
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def _collect(part: Message, bodies: list[str], attachments: list[str], notes: list[str], depth: int) -> None:
    """Append the text of a part to `bodies`, or its name to `attachments`."""
    kind = part.get_content_type()
    children = _children(part)
    if depth > _MAX_DEPTH:
        notes.append("parts nested too deeply left out")
    elif kind == "message/rfc822" and children:
        for child in children:
            bodies.append("Attached message:\n\n" + _one_message(child, notes, depth + 1))
    elif kind == "multipart/alternative" and children:
        best = _best_alternative(children)
        if best is not None:
            _collect(best, bodies, attachments, notes, depth + 1)
    elif children:
        for child in children:
            _collect(child, bodies, attachments, notes, depth + 1)
    elif part.get_content_disposition() == "attachment" or not kind.startswith("text/"):
        attachments.append(_attachment(part))
    elif kind == "text/html":
        bodies.append(_html_text(part, notes, drop_navigation=False))
    elif kind == "text/plain" or not part.get_filename():
        bodies.append(_plain_text(part, notes))
    else:
        attachments.append(_attachment(part))


def _children(part: Message) -> list[Message]:
    """The parts of a multipart message, [] for another."""
    payload = part.get_payload()
    return [child for child in payload if isinstance(child, Message)] if isinstance(payload, list) else []


def _best_alternative(children: list[Message]) -> Message | None:
    """Of the forms of one text the plain one, unless it is empty; then the last, which is the richest."""
    for child in children:
        if child.get_content_type() == "text/plain" and _payload(child).strip():
            return child
    readable = [child for child in children if child.is_multipart() or child.get_content_maintype() == "text"]
    return readable[-1] if readable else None


def _leaves(message: Message) -> Iterator[Message]:
    return (part for part in message.walk() if not part.is_multipart())


def _payload(part: Message) -> bytes:
    """The bytes of a part, its transfer encoding undone."""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _charset(part: Message) -> str | None:
    value = part.get_param("charset")
    return value[2] if isinstance(value, tuple) else value


def _plain_text(part: Message, notes: list[str]) -> str:
    text, found = decode_declared(_payload(part), _charset(part))
    notes += found
    return text


def _html_text(part: Message, notes: list[str], *, drop_navigation: bool) -> str:
    """The readable text of an HTML part. The encoding of the part's header outweighs the one in the markup."""
    data = _payload(part)
    label = _charset(part)
    markup, found = decode_declared(data, label) if label else decode_html(data)
    notes += found
    return html_to_text(markup, drop_navigation=drop_navigation)


def _attachment(part: Message) -> str:
    name = _decoded(part.get_filename() or "") or "unnamed"
    return f"{name} ({part.get_content_type()}, {len(_payload(part)):,} bytes)"


def _header(message: Message, name: str) -> str:
    value = message.get(name)
    return "" if value is None else _decoded(str(value))


def _decoded(value: str) -> str:
    """A header without line folding and with its encoded words (RFC 2047) decoded."""
    value = re.sub(r"\r?\n[ \t]*", " ", value)
    try:
        words = email.header.decode_header(value)
    except HeaderParseError:  # damaged base64: the header stays as it stands
        return value.strip()
    pieces = []
    for piece, charset in words:
        if isinstance(piece, str):
            pieces.append(piece)
        else:
            pieces.append(decode_declared(piece, charset if charset != "unknown-8bit" else None)[0])
    return "".join(pieces).strip()


def _merged(notes: list[str]) -> tuple[str, ...]:
    """Each note once, with the number of messages that it holds for."""
    counts = {note: notes.count(note) for note in dict.fromkeys(notes)}
    return tuple(note if count == 1 else f"{note} (in {count:,} parts)" for note, count in counts.items())
