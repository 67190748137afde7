"""E-mail to text: single messages, mailboxes (mbox), and web pages saved as MHTML."""

import re
from collections.abc import Iterator
from email.message import Message

from ..html_text import html_to_text
from ..result import Parsed, ParseError, ParseLimits, normalize_text
from .mail_parts import (
    children_of,
    decoded_header,
    header_of,
    html_markup,
    html_part_text,
    parsed_message,
    payload_of,
    plain_text,
)

_HEADERS = ("From", "To", "Cc", "Bcc", "Reply-To", "Date", "Subject")
_MBOX_START = re.compile(rb"^From [^\n]*\n(?=[A-Za-z][A-Za-z0-9-]*:[ \t\r\n]|>From )", re.MULTILINE)
_TIME = re.compile(rb"\d\d:\d\d")
_QUOTED_FROM = re.compile(r"^>(>*From )", re.MULTILINE)
_APPLE_MAIL = re.compile(rb"\s*(\d{1,10})\s*\n(?=[A-Za-z][A-Za-z0-9-]*:)")
_READ_ATTACHMENTS = ("text/plain", "text/markdown", "text/csv", "text/html", "text/x-log")
_NOT_TEXT = ("text/rtf", "text/richtext-rtf", "text/css", "text/x-vcard", "text/javascript")
_PAGES = ("text/html", "application/xhtml+xml")
_MAX_DEPTH = 20


def parse_mail(path: str, limits: ParseLimits) -> Parsed:
    """Return headers and text of one message; attachments are named. Raises ParseError if it is too large or empty."""
    notes: list[str] = []
    data = _read(path, limits)
    if match := _APPLE_MAIL.match(data):  # .emlx: the length stands before the message, a property list behind it
        data = data[match.end() : match.end() + int(match[1])]
    text = _one_message(parsed_message(data), notes, 0)
    if not text.strip():
        raise ParseError("a message without any text")
    return Parsed(text=normalize_text(text), warnings=_merged(notes))


def parse_mbox(path: str, limits: ParseLimits) -> Parsed:
    """Return all messages of a mailbox in its order, divided by lines. Raises ParseError as `parse_mail` does."""
    data = _read(path, limits)
    starts = [match for match in _MBOX_START.finditer(data) if _begins_message(data, match)]
    if not starts:
        raise ParseError("not a mailbox: no message begins in it")
    ends = [match.start() for match in starts[1:]] + [len(data)]
    notes: list[str] = []
    texts = []
    for match, end in zip(starts, ends, strict=True):
        message = parsed_message(data[match.end() : end])
        texts.append(_QUOTED_FROM.sub(r"\1", _one_message(message, notes, 0)))
    return Parsed(text=normalize_text("\n---\n\n".join(texts)), warnings=_merged(notes))


def parse_mhtml(path: str, limits: ParseLimits) -> Parsed:
    """Return the readable text of a saved web page and of the frames in it. Its pictures are left out.

    Raises ParseError if the file is too large or has no page in it.
    """
    message = parsed_message(_read(path, limits))
    notes: list[str] = []
    parts = list(_leaves(message))
    pages = [part for part in parts if part.get_content_type() in _PAGES]
    sheets = tuple(plain_text(part, notes) for part in parts if part.get_content_type() == "text/css")
    start = str(message.get_param("start") or "").strip("<> ")
    page = next((part for part in pages if start and _id(part) == start), pages[0] if pages else None)
    if page is not None:
        frames = {name: html_markup(part, notes) for part in pages if part is not page for name in _names(part)}
        text = html_to_text(html_markup(page, notes), sheets=sheets, frames=frames)
    else:
        text = next((plain_text(part, notes) for part in parts if part.get_content_type() == "text/plain"), "")
    if not text.strip():
        raise ParseError("a saved web page without readable text")
    num_left_out = len(parts) - max(len(pages), 1)
    if num_left_out > 0:
        notes.append(f"{num_left_out:,} embedded file{'s' if num_left_out > 1 else ''} (pictures, styles) left out")
    return Parsed(text=normalize_text(text), warnings=_merged(notes))


def _id(part: Message) -> str:
    return str(part.get("Content-ID", "")).strip().strip("<>")


def _names(part: Message) -> list[str]:
    """How a frame can be referred to."""
    return [name for name in (f"cid:{_id(part)}", str(part.get("Content-Location", "")).strip()) if len(name) > 4]


def _read(path: str, limits: ParseLimits) -> bytes:
    with open(path, "rb") as file:
        data = file.read(limits.max_text_bytes + 1)
    if len(data) > limits.max_text_bytes:
        raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of mail")
    data = data.removeprefix(b"\xef\xbb\xbf")
    return data if b"\n" in data else data.replace(b"\r", b"\n")


def _begins_message(data: bytes, match: re.Match[bytes]) -> bool:
    """Whether a `From ` line with a header behind it stands at the start, after an empty line, or names a time."""
    start = match.start()
    if start == 0 or data[max(0, start - 3) : start].endswith((b"\n\n", b"\n\r\n")):
        return True
    return _TIME.search(match[0]) is not None


def _one_message(message: Message, notes: list[str], depth: int) -> str:
    """Headers, text, names of the attachments, and the messages that are attached."""
    lines = [f"{name}: {value}" for name in _HEADERS if (value := header_of(message, name))]
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
    children = children_of(part)
    if depth > _MAX_DEPTH:
        notes.append("parts nested too deeply left out")
    elif kind == "message/rfc822" and children:
        for child in children:
            bodies.append("Attached message:\n\n" + _one_message(child, notes, depth + 1))
    elif kind == "message/delivery-status" and children:
        bodies += ["\n".join(f"{key}: {decoded_header(str(value))}" for key, value in c.raw_items()) for c in children]
    elif kind == "multipart/alternative" and children:
        _collect_best(children, bodies, attachments, notes, depth)
    elif children:
        if kind == "multipart/encrypted":
            notes.append("an encrypted message: its text cannot be read")
        for child in children:
            _collect(child, bodies, attachments, notes, depth + 1)
    else:
        _collect_leaf(part, bodies, attachments, notes)


def _collect_leaf(part: Message, bodies: list[str], attachments: list[str], notes: list[str]) -> None:
    """A part that is no container: read if it is text, otherwise named."""
    kind = part.get_content_type()
    if kind.startswith("multipart/"):  # divided by a boundary that it does not have
        bodies.append(plain_text(part, notes))
        return
    is_attached = part.get_content_disposition() == "attachment"
    if "pkcs7-mime" in kind and "signed" not in str(part.get_param("smime-type") or ""):
        notes.append("an encrypted message: its text cannot be read")
    if kind in _NOT_TEXT or not kind.startswith("text/") or (is_attached and kind not in _READ_ATTACHMENTS):
        attachments.append(_attachment(part))
        return
    text = html_part_text(part, notes, drop_navigation=False) if kind == "text/html" else plain_text(part, notes)
    name = decoded_header(part.get_filename() or "")
    bodies.append(f"Attachment {name}:\n\n{text}" if is_attached and name and text.strip() else text)


def _collect_best(
    children: list[Message], bodies: list[str], attachments: list[str], notes: list[str], depth: int
) -> None:
    """Of the forms of one text the plain one, unless it lacks most words of the longest; then that."""
    forms = []
    for child in children:
        form: tuple[list[str], list[str], list[str]] = ([], [], [])
        _collect(child, *form, depth + 1)
        forms.append(("\n".join(form[0]).split(), child.get_content_type() == "text/plain", form))
    words, _, best = max(forms, key=lambda form: len(form[0]))
    for plain_words, is_plain, form in forms:
        if is_plain and plain_words:
            known = set(plain_words)
            if sum(word not in known for word in words) * 2 <= len(words):
                best = form
    bodies += best[0]
    attachments += best[1]
    notes += best[2]


def _leaves(message: Message) -> Iterator[Message]:
    return (part for part in message.walk() if not part.is_multipart())


def _attachment(part: Message) -> str:
    name = decoded_header(part.get_filename() or "") or "unnamed"
    return f"{name} ({part.get_content_type()}, {len(payload_of(part)):,} bytes)"


def _merged(notes: list[str]) -> tuple[str, ...]:
    """Each note once, with the number of messages that it holds for."""
    counts = {note: notes.count(note) for note in dict.fromkeys(notes)}
    return tuple(note if count == 1 else f"{note} (in {count:,} parts)" for note, count in counts.items())
