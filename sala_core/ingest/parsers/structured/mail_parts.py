"""Single parts of a message: headers, transfer encodings, character sets, as they are in real mail."""

import binascii
import email
import email.header
import email.policy
import re
from email.errors import HeaderParseError
from email.message import Message
from html import unescape

from ..charset import decode_declared, decode_html, decode_plain
from ..html_text import html_to_text

_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
_LOOSE_HEADER = re.compile(rb"^([A-Za-z][A-Za-z0-9-]*)[ \t]+:", re.MULTILINE)
_BOUNDARY = re.compile(rb"^--([^\s-][^\r\n]{0,69}?)[ \t]*\r?\n(?=[A-Za-z-]+:|\r?\n)", re.MULTILINE)
_HTML = re.compile(rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_QUOTE_DEPTH = re.compile(r">*")
_ENRICHED = re.compile(r"<param>.{0,1000}?</param>|</?[a-z][\w-]{0,40}>", re.IGNORECASE | re.DOTALL)


def parsed_message(data: bytes) -> Message:
    """Return the tree of a message. One whose boundary is not declared is divided at the lines that look like it."""
    data = data.lstrip(b"\r\n")
    head, empty, body = data.partition(b"\n\n") if b"\n\n" in data[:65_536] else data.partition(b"\n\r\n")
    # compat32 keeps malformed headers as they are; policy.default raises for some of them
    message = email.message_from_bytes(_LOOSE_HEADER.sub(rb"\1:", head) + empty + body, policy=email.policy.compat32)
    payload = message.get_payload()
    if message.get_content_maintype() != "multipart" or not isinstance(payload, str):
        return message
    raw = _raw_payload(message)
    if boundary := _BOUNDARY.search(raw):
        head = f"MIME-Version: 1.0\nContent-Type: {message.get_content_type()}".encode("ascii", "replace")
        again = email.message_from_bytes(
            head + b'; boundary="' + boundary[1] + b'"\n\n' + raw, policy=email.policy.compat32
        )
        message.set_payload(again.get_payload())
    else:
        message.set_type("text/plain")
    return message


def children_of(part: Message) -> list[Message]:
    """Return the parts of a multipart message or of an attached one, [] for another."""
    payload = part.get_payload()
    children = [child for child in payload if isinstance(child, Message)] if isinstance(payload, list) else []
    if part.get_content_type() == "message/rfc822" and _encoding(part) in ("base64", "quoted-printable") and children:
        inner = children[0].as_bytes()
        if data := _decoded_body(inner, _encoding(part)):  # such a message may not be encoded, and some are
            return [parsed_message(data)]
    return children


def payload_of(part: Message) -> bytes:
    """Return the bytes of a part, its transfer encoding undone."""
    encoding = _encoding(part)
    if encoding in ("base64", "quoted-printable"):
        return _decoded_body(_raw_payload(part), encoding)
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _raw_payload(part: Message) -> bytes:
    """The bytes of a part as they are in the file. Without an encoding, `get_payload` returns them unchanged."""
    names = part.get_all("Content-Transfer-Encoding") or []
    del part["Content-Transfer-Encoding"]
    payload = part.get_payload(decode=True)
    for name in names:
        part["Content-Transfer-Encoding"] = str(name)
    return payload if isinstance(payload, bytes) else b""


def _encoding(part: Message) -> str:
    return str(part.get("Content-Transfer-Encoding", "")).partition(";")[0].strip("\"' \t").lower()


def _decoded_body(data: bytes, encoding: str) -> bytes:
    """Undo a transfer encoding. What a mailing list has added behind base64 stays as it is."""
    if encoding == "quoted-printable":
        return binascii.a2b_qp(data)
    lines = data.split(b"\n")
    end = 0
    while end < len(lines) and _is_base64(lines[end].strip()):
        end += 1
    head, rest = b"".join(lines[:end]), b"\n".join(lines[end:])
    return _base64(_NO_BASE64.sub(b"", head)) + (b"\n" + rest if rest.strip() else b"")


def _is_base64(line: bytes) -> bool:
    """Whether a line is base64, perhaps with damage: one word, of which nearly all is of its alphabet."""
    return b" " not in line and len(_NO_BASE64.sub(b"", line)) * 5 >= len(line) * 4


def _base64(data: bytes) -> bytes:
    data = data[: len(data) - (len(data) % 4 == 1)]
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


def charset_of(part: Message) -> str | None:
    """Return the label of the character set, None if the part does not say."""
    value = part.get_param("charset")
    return value[2] if isinstance(value, tuple) else value


def plain_text(part: Message, notes: list[str]) -> str:
    """Return a part of text as it reads: paragraphs of `format=flowed` joined, and HTML without a label recognized."""
    data = payload_of(part)
    if _HTML.match(data):
        return html_part_text(part, notes, drop_navigation=False)
    label = charset_of(part)
    if label and label.lower().strip("\"'") in ("utf-7", "unicode-1-1-utf-7"):
        text = data.decode("utf-7", "replace")
    else:
        text, found = decode_declared(data, label)
        notes += found
    if part.get_content_type() in ("text/enriched", "text/richtext"):
        return unescape(_ENRICHED.sub("", text.replace("<<", "&lt;")))
    if str(part.get_param("format") or "").lower() == "flowed":
        return _unflowed(text, is_space_deleted=str(part.get_param("delsp") or "").lower() == "yes")
    return text


def _unflowed(text: str, *, is_space_deleted: bool) -> str:
    """Join the lines of a paragraph (RFC 3676): those that end with a space, and have the same depth of quotation."""
    lines: list[str] = []
    is_open, depth = False, -1
    for line in text.split("\n"):
        match = _QUOTE_DEPTH.match(line)
        assert match
        marks, rest = match[0], line[match.end() :].removeprefix(" ")
        is_signature = rest == "-- "
        if is_open and len(marks) == depth and not is_signature:
            lines[-1] += rest
        else:
            lines.append(f"{marks} {rest}" if marks else rest)
        is_open, depth = rest.endswith(" ") and not is_signature, len(marks)
        if is_open and is_space_deleted:
            lines[-1] = lines[-1][:-1]
    return "\n".join(line.rstrip() if line != "-- " else line for line in lines)


def html_part_text(part: Message, notes: list[str], *, drop_navigation: bool, sheets: tuple[str, ...] = ()) -> str:
    """Return the readable text of a part in HTML.

    Args:
        part: the part. The encoding of its header outweighs the one in the markup.
        notes: receives what had to be guessed.
        drop_navigation: as in `html_to_text`.
        sheets: style sheets that stand in other parts.
    """
    return html_to_text(html_markup(part, notes), drop_navigation=drop_navigation, sheets=sheets)


def html_markup(part: Message, notes: list[str]) -> str:
    """Return the markup of a part in HTML."""
    data = payload_of(part)
    label = charset_of(part)
    markup, found = decode_declared(data, label) if label else decode_html(data)
    notes += found
    return markup


def header_of(message: Message, name: str) -> str:
    """Return a header as it reads, "" if it is absent. Bytes that no header may hold are decoded as text."""
    for key, value in message.raw_items():
        if key.lower().strip() == name.lower():
            return decoded_header(str(value))
    return ""


def decoded_header(value: str) -> str:
    """Return a header without line folding and with its encoded words (RFC 2047) decoded."""
    value = re.sub(r"\r?\n[ \t]*", " ", value)
    if not value.isascii():
        value = decode_plain(value.encode("utf-8", "surrogateescape"))[0]
        return value.strip() if "=?" not in value else _encoded_words(value)
    return _encoded_words(value)


def _encoded_words(value: str) -> str:
    try:
        words = email.header.decode_header(value)
    except HeaderParseError:  # damaged base64: the header stays as it stands
        return value.strip()
    pieces = []
    for piece, charset in words:
        if isinstance(piece, str):
            pieces.append(piece)
        elif charset is None and not piece.isascii():
            pieces.append(piece.decode("raw-unicode-escape"))
        else:
            pieces.append(decode_declared(piece, charset if charset != "unknown-8bit" else None)[0])
    return "".join(pieces).strip()
