"""Detect the format of a file from its first bytes and its name."""

import os
import re
from enum import Enum

from sala_core.errors import IngestError
from sala_core.ingest.parsers.charset import find_utf16, is_mostly_utf8, num_controls

HEAD_BYTES = 8192


class Kind(Enum):
    """A format that can be read. The value is its media type."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    CSV = "text/csv"
    HTML = "text/html"
    PDF = "application/pdf"
    EPUB = "application/epub+zip"
    FB2 = "application/x-fictionbook+xml"
    NOTEBOOK = "application/x-ipynb+json"
    MAIL = "message/rfc822"
    MBOX = "application/mbox"
    MHTML = "multipart/related"
    SUBTITLES = "text/vtt"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    ODT = "application/vnd.oasis.opendocument.text"
    ODS = "application/vnd.oasis.opendocument.spreadsheet"
    ODP = "application/vnd.oasis.opendocument.presentation"
    RTF = "application/rtf"
    PICTURE = "image/*"

    @property
    def is_container(self) -> bool:
        """Whether most bytes of such a file are not text."""
        return self in (Kind.PDF, Kind.EPUB, Kind.FB2, Kind.PICTURE) or self in OFFICE_KINDS

    @property
    def is_parsed(self) -> bool:
        """Whether a parser reads it; other files are only decoded."""
        return self not in (Kind.TEXT, Kind.MARKDOWN, Kind.CSV)


OFFICE_KINDS = (Kind.DOCX, Kind.PPTX, Kind.XLSX, Kind.ODT, Kind.ODS, Kind.ODP, Kind.RTF)
_OFFICE_SUFFIXES = {
    **dict.fromkeys((".docx", ".docm", ".dotx", ".dotm"), Kind.DOCX),
    **dict.fromkeys((".pptx", ".pptm", ".ppsx", ".ppsm", ".potx", ".potm"), Kind.PPTX),
    **dict.fromkeys((".xlsx", ".xlsm", ".xltx", ".xltm"), Kind.XLSX),
    **dict.fromkeys((".odt", ".ott", ".fodt", ".odm"), Kind.ODT),
    **dict.fromkeys((".ods", ".ots", ".fods"), Kind.ODS),
    **dict.fromkeys((".odp", ".otp", ".fodp", ".odg"), Kind.ODP),
    ".rtf": Kind.RTF,
}
_OLD_OFFICE = {
    **dict.fromkeys((".doc", ".dot"), ("an old Word document", ".docx")),
    **dict.fromkeys((".xls", ".xlt", ".xlsb"), ("an old Excel workbook", ".xlsx")),
    **dict.fromkeys((".ppt", ".pps", ".pot"), ("an old PowerPoint presentation", ".pptx")),
}
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OFFICE_PARTS = ((b"word/", Kind.DOCX), (b"ppt/", Kind.PPTX), (b"xl/", Kind.XLSX))
_SUFFIXES = {
    ".pdf": Kind.PDF,
    ".epub": Kind.EPUB,
    ".fb2": Kind.FB2,
    ".fbz": Kind.FB2,
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".xht": Kind.HTML,
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".csv": Kind.CSV,
    ".tsv": Kind.CSV,
    ".ipynb": Kind.NOTEBOOK,
    ".eml": Kind.MAIL,
    ".emlx": Kind.MAIL,
    ".mbox": Kind.MBOX,
    ".mht": Kind.MHTML,
    ".mhtml": Kind.MHTML,
    ".srt": Kind.SUBTITLES,
    ".vtt": Kind.SUBTITLES,
    **_OFFICE_SUFFIXES,
}
_MAGIC = {
    "a picture": (
        b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"\x00\x00\x01\x00", b"8BPS",
        b"II*\x00", b"MM\x00*",
    ),
    "an archive": (
        b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd",
        b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07",
        b"!<arch>\n",
    ),
    "a program": (b"\x7fELF", b"MZ\x90\x00", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"\x00asm"),
    "a database": (b"SQLite format 3\x00",),
    "sound or video": (b"ID3", b"OggS", b"fLaC", b"RIFF"),
    "a font": (b"wOFF", b"wOF2", b"\x00\x01\x00\x00\x00", b"OTTO\x00"),
    "numeric data": (b"\x93NUMPY",),
}  # fmt: skip
_LFS_POINTER = re.compile(
    rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v\d\r?\n"
    rb"(?:ext-[^\n]*\n)*oid [^\n]*\n(?:size (\d{1,18}))?"
)
_ANNEX_POINTER = re.compile(rb"/annex/objects/[A-Z0-9_]+-[^\s]{1,300}\s*$")
_PDF_LINE = re.compile(rb"%PDF-\d\.\d\s*(?:[\r\n]|$)")
_MAILBOX = re.compile(rb"From [^\n]{0,200}\d{4}[^\n]*\n[A-Za-z-]+: ")
_BEYOND_ASCII = bytes(range(128, 256))
_LOG_SUFFIXES = ("", ".log", ".txt", ".csv", ".out", ".err")
_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
# possessive: with backtracking, many comments at the start of a text take exponential time
_HTML_START = re.compile(
    rb"\s*+(?:<\?xml[^>]*>\s*+)?+(?:<!--.*?-->\s*+)*+(?:<!doctype\s+html[^>]*>|<html\b[^>]*>)\s*+(?:<[!?a-z]|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_BOOK_FILE = re.compile(
    r"^(mimetype|iTunesMetadata.*|\.DS_Store)$|\.(opf|ncx|xhtml|html?|css|jpe?g|png|gif|svg|plist)$", re.IGNORECASE
)
_FB2_START = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<\?[^>]*>\s*+|<!--.*?-->\s*+)*+<(?:\w+:)?FictionBook\b", re.IGNORECASE | re.DOTALL
)


def identify(name: str, head: bytes) -> Kind:
    """Return the format of a file from its name and its first `HEAD_BYTES` bytes.

    Raises IngestError for a binary file. The message is the reason.
    """
    suffix = "." + name.lower().rpartition(".")[2] if "." in name else ""
    by_name = _SUFFIXES.get(suffix)
    if reason := _pointer_reason(head):
        raise IngestError(reason)
    if _is_pdf(by_name, head):
        return Kind.PDF
    if head.startswith(b"PK\x03\x04") and (by_name is Kind.EPUB or b"mimetypeapplication/epub+zip" in head[:128]):
        return Kind.EPUB
    if by_name is Kind.EPUB and b"PK\x03\x04" in head:  # with other bytes before the archive
        return Kind.EPUB
    if _is_fb2(by_name, suffix, head):
        return Kind.FB2
    if office := _office_kind(by_name, suffix, head):
        return office
    if by_name in (Kind.PDF, Kind.EPUB):
        raise IngestError(f"not {'a PDF' if by_name is Kind.PDF else 'an EPUB'}, although its name says so")
    if reason := _binary_reason(head, suffix):
        raise IngestError(reason)
    if by_name is None and suffix == "" and _MAILBOX.match(head):
        return Kind.MBOX
    if by_name is None and suffix in ("", ".txt", *_OLD_OFFICE) and _HTML_START.match(head):
        return Kind.HTML
    return by_name or Kind.TEXT


def is_picture(name: str, head: bytes) -> bool:
    """Return whether a file is a picture whose text can be recognized, by its name and its first bytes."""
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"BM", b"RIFF")
    return name.lower().endswith(_PICTURE_SUFFIXES) and head.startswith(starts)


def is_book_folder(path: str, name: str) -> bool:
    """Return whether a folder is an unpacked EPUB: its name says so, or it holds the files of an EPUB and no others.

    path: its place; name: as shown. A folder with more in it, as the sources of a book, is read file by file.
    """
    if not os.path.isfile(os.path.join(path, "META-INF", "container.xml")):
        is_named = name.lower().endswith(".epub") and os.path.isfile(os.path.join(path, "mimetype"))
        return is_named or (name.lower().endswith(".epub") and any(f.endswith(".opf") for f in os.listdir(path)))
    if name.lower().endswith(".epub"):
        return True
    files = [entry for entry in os.scandir(path) if not entry.is_dir()]
    return any(file.name == "mimetype" for file in files) and all(_BOOK_FILE.search(file.name) for file in files)


def _is_fb2(by_name: Kind | None, suffix: str, head: bytes) -> bool:
    """Whether a file is a FictionBook, plain or in a zip archive."""
    if head.startswith(b"PK\x03\x04"):
        first_member = head[30 : 30 + int.from_bytes(head[26:28], "little")].lower()
        return by_name is Kind.FB2 or (suffix in ("", ".zip") and first_member.endswith(b".fb2"))
    if by_name is Kind.FB2:
        return _binary_reason(head) is None
    return suffix in ("", ".txt", ".xml") and _FB2_START.match(head) is not None


def _office_kind(by_name: Kind | None, suffix: str, head: bytes) -> Kind | None:
    """The format of an office document, by its content before its name: a `.doc` may hold any of them.

    Raises IngestError for one of the old binary formats.
    """
    if head.startswith(_OLE):
        if by_name in OFFICE_KINDS:  # an encrypted one has this container
            return by_name
        if old := _OLD_OFFICE.get(suffix):
            raise IngestError(f"{old[0]} ({suffix}), which is not read: save it as {old[1]} and add it again")
        return None
    if head.startswith(b"PK\x03\x04"):
        if suffix == ".xlsb":
            raise IngestError("a binary Excel workbook (.xlsb), which is not read: save it as .xlsx and add it again")
        if b"mimetypeapplication/vnd.oasis.opendocument." in head[:128]:
            kind = head.split(b"opendocument.", 1)[1][:14]
            found = {b"text": Kind.ODT, b"spre": Kind.ODS, b"pres": Kind.ODP, b"grap": Kind.ODP}.get(kind[:4])
            return found or (by_name if by_name in OFFICE_KINDS else None)
        if by_name in OFFICE_KINDS and by_name is not Kind.RTF:
            return by_name
        if suffix in ("", *_OLD_OFFICE) and b"[Content_Types].xml" in head:
            return next((kind for part, kind in _OFFICE_PARTS if part in head), None)
        return None
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{\\rt") and suffix in ("", ".rtf", ".txt", *_OLD_OFFICE):
        return Kind.RTF
    if by_name not in OFFICE_KINDS:
        return None
    if suffix in (".fodt", ".fods", ".fodp") and b"<" in head:
        return by_name
    if b"PK\x03\x04" in head:  # with other bytes before the archive
        return by_name
    raise IngestError(f"not an office document, although its name ends in {suffix}")


def _binary_reason(head: bytes, suffix: str = "") -> str | None:
    """Why a file that begins with these bytes is binary, or None for text."""
    for what, marks in _MAGIC.items():
        # some signatures are plain letters, and a text can begin with them
        if head.startswith(marks) and num_controls(head[:512]):
            return f"binary: {what}"
    if head[:3] == b"\0\0\0" and head[4:8] == b"ftyp":
        return "binary: sound, video or a picture"
    if head[60:68] in (b"BOOKMOBI", b"TEXtREAd"):
        return "binary: a Kindle book (.mobi, .azw); convert it to EPUB"
    if head[257:262] == b"ustar":
        return "binary: an archive"
    if suffix == ".br" and not head.isascii():  # Brotli has no signature
        return "binary: an archive"
    if is_utf16(head):
        return None
    if b"\0" in head:
        return None if _is_text_with_nuls(head, suffix) else "binary, not text"
    # bytes that are no UTF-8 either are in an older encoding, or no text
    share = 0.05 if head.isascii() or is_mostly_utf8(head) else 0.01
    if num_controls(head) > max(1, len(head) * share):
        return "binary, not text"
    return None


def _is_text_with_nuls(head: bytes, suffix: str) -> bool:
    """Whether a file that begins with these bytes, NUL bytes among them, may be a text."""
    if not head.strip(b"\0"):
        return suffix in _LOG_SUFFIXES  # a rotated log can begin with more NUL bytes than `head` has
    # a number in front of other data, as many formats begin
    if b"\0" in head[:16] and head[:1] != b"\0":
        first = head.index(b"\0")
        if len(head) > 64 and head[first : first + 4].count(b"\0") > 1 and b"\n" not in head[:first]:
            return False
    return has_text_between_nuls(head)


def is_utf16(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is text in UTF-16 or UTF-32."""
    return head.startswith(_BOMS) or find_utf16(head) is not None


def has_text_between_nuls(data: bytes) -> bool:
    """Return whether `data` without its NUL bytes is text, as a power cut or a rotation leaves it in a log."""
    rest = data.translate(None, b"\0")
    if num_controls(rest) > len(rest) // 2000:
        return False
    num_beyond_ascii = len(rest) - len(rest.translate(None, _BEYOND_ASCII))
    return num_beyond_ascii * 10 <= len(rest) or is_mostly_utf8(rest)


def _pointer_reason(head: bytes) -> str | None:
    """Why a file is only a pointer to content that is stored elsewhere (Git LFS, git-annex), or None."""
    if match := _LFS_POINTER.match(head):
        size = f" ({int(match[1]):,} bytes)" if match[1] else ""
        return f"a Git LFS pointer: the content{size} is not in this folder; get it with `git lfs pull`"
    if _ANNEX_POINTER.match(head):
        return "a git-annex pointer: the content is not in this folder; get it with `git annex get`"
    return None


def _is_pdf(by_name: Kind | None, head: bytes) -> bool:
    """Whether a file is a PDF. A text about PDF can begin with the same characters."""
    if by_name is Kind.PDF:
        return b"%PDF-" in head[:1024]
    start = head.lstrip()
    if not start.startswith(b"%PDF-"):
        return False
    return b" obj" in start or _PDF_LINE.match(start) is not None
