"""How much of what is to be read another session has read already, as the same tokens in the same order."""

from collections.abc import Sequence
from dataclasses import dataclass

from sala_core.store import Library, SessionRow


@dataclass(frozen=True, kw_only=True)
class FileKey:
    """What tells that a file makes the same tokens: its name in the session and its bytes.

    file_hash: xxh3-128 of the bytes, as `SourceRow.file_hash`; "" for a text that the program makes, such as a
    repository's tree, which is told by its length. num_tokens: in the stream, with the header that names it.
    """

    name: str
    file_hash: str
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class SharedStart:
    """The longest beginning that a session has read. num_tokens: 0 for none. session: its name."""

    num_tokens: int = 0
    session: str = ""


def shared_start(library: Library, fingerprint: str, system_prompt: str, files: Sequence[FileKey]) -> SharedStart:
    """How many tokens of a new session would be found read: up to the last kept state of a session that begins with
    the same files. The reading itself compares the tokens.

    Args:
        library: holds the other sessions.
        fingerprint: of the states that the new session will have.
        system_prompt: of the new session; "" for the program's.
        files: what it will read, in order.
    """
    found = SharedStart()
    for row in library.sessions():
        if row.fingerprint != fingerprint or row.system_prompt != system_prompt or row.head is None:
            continue
        start, end = _same_until(library, row, files)
        kept = library.last_kept_token(row.head, end) - start if end > start + found.num_tokens else 0
        if kept > found.num_tokens:
            found = SharedStart(num_tokens=kept, session=row.name)
    return found


def _same_until(library: Library, row: SessionRow, files: Sequence[FileKey]) -> tuple[int, int]:
    """Where the documents of a session begin, and where those of them end that are the first of these files."""
    documents = {document.id: document for document in library.documents(row.id)}
    hashes = {source.content_hash: source.file_hash for source in library.sources(row.id)}
    start, end, wanted = 0, 0, iter(files)
    for part in library.parts(row.id):
        if part.kind == "system":
            start = end = part.end
            continue
        document, file = documents.get(part.document_id or ""), next(wanted, None)
        if document is None or file is None or document.name != file.name:
            break
        if part.end - part.start != file.num_tokens or file.file_hash != (
            hashes.get(document.content_hash, "") if file.file_hash else ""
        ):
            break
        end = part.end
    return start, end
