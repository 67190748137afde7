"""E-mail as it is in real mailboxes: no line of a message is lost, whatever wrote it."""

import base64
from pathlib import Path
from typing import Any

import pytest

from sala_core.ingest.parsers.result import Parsed, ParseLimits
from sala_core.ingest.parsers.structured.mail import parse_mail, parse_mbox, parse_mhtml

HEAD = "From: a@b\nMIME-Version: 1.0\n"
MIXED = HEAD + 'Content-Type: multipart/mixed; boundary="A"\n\n--A\n\nFirst.\n--A\n'
ALTERNATIVE = HEAD + 'Content-Type: multipart/alternative; boundary="A"\n\n--A\n'
SAVED = 'From: <Saved by Blink>\nMIME-Version: 1.0\nContent-Type: multipart/related; {}boundary="B"\n\n--B\n'
FROM = "From a@b Mon Jan  6 09:00:00 2025\n"


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.fixture
def parse(tmp_path: Path) -> Any:
    def parse_bytes(parser: Any, data: bytes | str) -> Parsed:
        path = tmp_path / "file"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return parser(str(path), ParseLimits(max_text_bytes=1 << 20, max_unpacked_bytes=1 << 20))

    return parse_bytes


@pytest.mark.parametrize(
    ("headers", "body", "text"),
    [
        ("Content-Transfer-Encoding:  Quoted-Printable ", "caf=C3=A9 1 =3D 2 of the fer=\nry",
         "café 1 = 2 of the ferry"),
        ("Content-Transfer-Encoding: 8bits", "café", "café"),
        ("Content-Transfer-Encoding: base64", encoded("At nine.") + "\n-- \nfooter of a list",
         "At nine.\n-- \nfooter of a list"),
        ("Content-Transfer-Encoding: base64", "VGhlIGZl!!cnJ5IGxlYXZlcw", "The ferry leaves"),
        ("Content-Transfer-Encoding: x-uuencode", "begin 644 a.txt\n#0V%T\n`\nend", "Cat"),
        ("Content-Type: text/plain; charset=utf-7", "caf+AOk-", "café"),
        ("Content-Type: text/plain; format=flowed", "The ferry leaves \nat nine.\n> a \n> b\n-- \nsig",
         "The ferry leaves at nine.\n> a b\n-- \nsig"),
        ("Content-Type: text/plain; format=flowed; delsp=yes", "The fer \nry", "The ferry"),
        ("Content-Type: text/enriched", "<bold>Now</bold> <<3 <italic>times</italic>", "Now <3 times"),
        ("Content-Type: text/plain", "<html><body><p>At <b>nine</b>.</body></html>", "At nine."),
        ("Content-Type: text/plain\nContent-Disposition: attachment", "The only body.", "The only body."),
        ('Content-Type: multipart/mixed; boundary="Z"',
         "--A\nContent-Type: text/plain\n\nFirst.\n--A\n\nSecond.\n--A--", "First.\n\nSecond."),
        ("Content-Type: multipart/mixed", "no part in it", "no part in it"),
        ("Content-Type: multipart/mixed; charset=utf-8", "--A\nContent-Type: text/plain\n\ncafé\n--A--", "café"),
        ("Content-Type: text/plain; charset=us-ascii\nContent-Transfer-Encoding: quoted-printable", "é =3D", "é ="),
    ],
)  # fmt: skip
def test_a_body_is_decoded_as_it_was_meant(headers: str, body: str, text: str, parse: Any) -> None:
    assert parse(parse_mail, f"From: a@b\n{headers}\n\n{body}\n").text == f"From: a@b\n\n{text}\n"


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ('Content-Disposition: attachment; filename="n.txt"\n\nLamp 4711.', "Attachment n.txt:\n\nLamp 4711."),
        ('Content-Type: text/plain; name="n.txt"\nContent-Disposition: inline\n\nLamp 4711.', "Lamp 4711."),
        ("Content-Type: text/calendar\n\nSUMMARY:Meet", "SUMMARY:Meet"),
        ("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + encoded("From: c@d\n\nInner."),
         "Attached message:\n\nFrom: c@d\n\nInner."),
        ("Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\nStatus: 5.1.1",
         "Reporting-MTA: dns; x\n\nStatus: 5.1.1"),
        ("Content-Type: text/rtf\n\n{\\rtf1 x}", "Attachments (not read): unnamed (text/rtf, 9 bytes)"),
    ],
)  # fmt: skip
def test_a_part_is_read_or_named(part: str, text: str, parse: Any) -> None:
    assert parse(parse_mail, f"{MIXED}{part}\n--A--\n").text == f"From: a@b\n\nFirst.\n\n{text}\n"


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        ("The ferry leaves at nine, always.", "The ferry leaves at nine, always."),
        ("Please view in HTML.", "The ferry leaves at nine."),
        ("", "The ferry leaves at nine."),
    ],
)
def test_of_two_forms_the_one_that_says_it_all_is_read(plain: str, text: str, parse: Any) -> None:
    forms = f"\n{plain}\n--A\nContent-Type: text/html\n\n<p>The ferry <b>leaves</b> at nine.</p>\n--A--\n"
    assert parse(parse_mail, ALTERNATIVE + forms).text == f"From: a@b\n\n{text}\n"


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("Subject: Schlüssel über Tür".encode(), "Subject: Schlüssel über Tür"),
        ("Subject: Schlüssel über Tür".encode("latin-1"), "Subject: Schlüssel über Tür"),
        (b"Subject: =?utf-8?Q?Schl=C3?= =?utf-8?Q?=BCssel?=", "Subject: Schlüssel"),
        (b"Subject : x", "Subject: x"),
        (b"Subject: a\n very\n\tlong one", "Subject: a very long one"),
        (b"Bcc: h@x\nReply-To: r@x", "Bcc: h@x\nReply-To: r@x"),
    ],
)
def test_a_header_reads_as_it_was_written(header: bytes, shown: str, parse: Any) -> None:
    assert parse(parse_mail, header + b"\n\nx\n").text == f"{shown}\n\nx\n"


def test_a_message_that_is_encrypted_says_so(parse: Any) -> None:
    head = "From: a@b\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\n\nMIIB\n"
    assert "an encrypted message: its text cannot be read" in parse(parse_mail, head).warnings


def test_a_message_of_apple_mail_ends_where_its_length_says(parse: Any) -> None:
    message = "From: a@b\n\nAt nine.\n"
    assert parse(parse_mail, f"{len(message)}\n{message}<?xml version='1.0'?><plist/>\n").text == message


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (FROM + "From: a@b\n\nOne.\n" + FROM + "From: c@d\n\nTwo.\n", ["From: a@b\n\nOne.\n", "From: c@d\n\nTwo.\n"]),
        ("\ufeff" + FROM + "From: a@b\n\nOne.\n", ["From: a@b\n\nOne.\n"]),
        ("From a@b\nFrom: a@b\n\nOne.\n\nFrom c\nTo: d\n\nTwo.\n", ["From: a@b\n\nOne.\n", "To: d\n\nTwo.\n"]),
        (FROM + "To: x\n\nFrom 2019 to 2024 it rained.\n\nFrom May 2020 on.\n",
         ["To: x\n\nFrom 2019 to 2024 it rained.\n\nFrom May 2020 on.\n"]),
        ((FROM + "To: x\n\nOne.\n").replace("\n", "\r"), ["To: x\n\nOne.\n"]),
    ],
)  # fmt: skip
def test_a_mailbox_is_divided_at_its_messages(data: str, texts: list[str], parse: Any) -> None:
    assert parse(parse_mbox, data).text == "\n---\n\n".join(texts)


@pytest.mark.parametrize(
    ("start", "parts", "text"),
    [
        ('start="<main>"; ', "Content-ID: <ad>\n\n<p>ad\n--B\nContent-Type: text/html\nContent-ID: <main>\n\n"
         "<h1>Main</h1><iframe src='cid:ad'></iframe>", "# Main\n\nad"),
        ("", "\n<frameset><frame src='http://x/f'></frameset>\n--B\nContent-Type: text/html\n"
         "Content-Location: http://x/f\n\n<p>framed", "framed"),
        ("", "\n<p>10<span class=u>6</span>\n--B\nContent-Type: text/css\n\n.u{vertical-align:super}", "10⁶"),
        ("", "\n<x-a><template shadowmode=open><p>shadow</template></x-a>", "shadow"),
    ],
)  # fmt: skip
def test_a_saved_page_is_read_with_its_frames_and_styles(start: str, parts: str, text: str, parse: Any) -> None:
    data = SAVED.format(start) + f"Content-Type: text/html\n{parts}\n--B--\n"
    assert parse(parse_mhtml, data).text == f"{text}\n"
