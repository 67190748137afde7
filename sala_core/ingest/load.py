"""Read one file that `walk` has found into a document."""

import os
import stat
from collections.abc import Callable

from sala_core.errors import IngestError, PasswordError
from sala_core.ingest.document import Document, Limits
from sala_core.ingest.folders.found import FoundFile, too_large
from sala_core.ingest.folders.generated import generated_by_content, generated_by_name
from sala_core.ingest.folders.regular import describe_os_error, read_regular
from sala_core.ingest.folders.safety import secret_in
from sala_core.ingest.parser_process import ParserProcess
from sala_core.ingest.parsers.charset import decode_plain
from sala_core.ingest.parsers.result import Parsed
from sala_core.ingest.parsers.structured.data_uris import without_data_uris
from sala_core.ingest.sniff import HEAD_BYTES, Kind, has_text_between_nuls, identify, is_picture, is_utf16

PasswordOf = Callable[[str], str | None]
"""Name of an encrypted file -> its password; None if the user gives none."""


def no_password(name: str) -> None:
    """The `PasswordOf` of a caller that knows no passwords."""


def load_document(
    file: FoundFile, parser: ParserProcess, limits: Limits, password_of: PasswordOf = no_password
) -> Document:
    """Read, then decode or parse one file.

    Args:
        file: what to read.
        parser: parses it, if its format has a parser.
        limits: bounds on the file.
        password_of: called for an encrypted file.

    Raises IngestError with the reason why the file is not read, PasswordError for an encrypted one, and
    ReadingStoppedError from the parser.
    """
    try:
        kind, parsed = _read(file, parser, limits, password_of)
    except OSError as error:
        raise IngestError(describe_os_error(error)) from error
    if not parsed.page_starts:
        text, notes = without_data_uris(parsed.text)
        parsed = Parsed(text=text, warnings=parsed.warnings + notes) if notes else parsed
    if not parsed.text.strip():
        raise IngestError("empty (nothing but white space)")
    if not kind.is_container and (secret := secret_in(parsed.text)):
        raise IngestError(f"holds {secret}")
    if kind is Kind.TEXT and not file.is_wanted and (reason := generated_by_content(file.name, parsed.text)):
        raise IngestError(reason)
    return Document(
        name=file.name,
        media_type=kind.value,
        num_bytes=file.num_bytes,
        text=parsed.text,
        page_starts=parsed.page_starts,
        warnings=parsed.warnings,
        content_hash=Document.hash_of(file.name, parsed.text),
        path=file.known_path,
    )


def _read(file: FoundFile, parser: ParserProcess, limits: Limits, password_of: PasswordOf) -> tuple[Kind, Parsed]:
    """The format of a file and its text. Raises IngestError, ReadingStoppedError, OSError."""
    if not file.is_wanted and (reason := generated_by_name(file.name)):
        raise IngestError(reason)
    is_folder = stat.S_ISDIR(os.lstat(file.path).st_mode)  # an unpacked EPUB
    head = b"" if is_folder else read_regular(file.path, HEAD_BYTES)
    if "/" not in file.name and is_picture(file.name, head):  # added alone; a folder's pictures are not meant as texts
        kind = Kind.PICTURE
    else:
        kind = Kind.EPUB if is_folder else identify(file.name, head)
    if kind is Kind.HTML and file.is_source:
        kind = Kind.TEXT
    limit = limits.max_container_bytes if kind.is_container else limits.max_file_bytes
    if file.num_bytes > limit:
        raise IngestError(too_large(file.num_bytes, limit))
    if kind.is_parsed:
        return kind, _parse(file, kind, parser, password_of)
    data = read_regular(file.path, limit + 1)
    if len(data) > limit:
        raise IngestError(f"grew while it was read, over the limit of {limit / 2**20:,.1f} MiB")
    if b"\0" in data and not is_utf16(data) and not has_text_between_nuls(data):
        raise IngestError("binary, not text")
    text, warnings = decode_plain(data)
    return kind, Parsed(text=text, warnings=warnings)


def _parse(file: FoundFile, kind: Kind, parser: ParserProcess, password_of: PasswordOf) -> Parsed:
    try:
        return parser.parse(file.path, kind)
    except PasswordError:
        password = password_of(file.name)
        if password is None:
            raise
        return parser.parse(file.path, kind, password)
