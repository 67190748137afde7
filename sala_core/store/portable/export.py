"""A session of a library as one file."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sala_core.disk.files import checksum, open_regular, publish, stage_file
from sala_core.errors import ArchiveError, CorruptStateError, StateError
from sala_core.store.checkpoints import SEGMENT_SUFFIX, SNAPSHOT_SUFFIX, chain_of
from sala_core.store.library import Library
from sala_core.store.portable.container import SESSION, TOKENS, Member, Pieces, archive_pieces, is_archive_start
from sala_core.store.portable.records import Checkpoint, PortableSession
from sala_core.store.rows import CheckpointRow

_PIECE_BYTES = 8 << 20
_STRAY = re.compile(r"\.[0-9a-f]{32}\.tmp")
_STRAY_AGE_S = 3600.0

Source = tuple[Member, Callable[[], Pieces]]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written. state_tokens: how many tokens the state covers. note: why there is none; "" for no reason."""

    num_bytes: int
    num_documents: int
    num_messages: int
    num_tokens: int
    state_tokens: int
    note: str


def export_session(
    library: Library,
    name: str,
    target: Path,
    *,
    with_state: bool = True,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write a session to a new file, whole or not at all. The library is only read, and may be read-only.

    The paths of the files that were read stay behind: they are private, and mean nothing elsewhere.

    Args:
        library: holds the session.
        name: name or id of the session.
        target: the new file.
        with_state: write the model's state too, which lets another machine with the same model go on at once.
        report: called with (bytes so far, bytes in all).

    Raises SessionNotFoundError; ArchiveError if the target exists, or something in the library is damaged;
    DiskFullError, LibraryError.
    """
    if target.exists() or target.is_symlink():
        raise ArchiveError(f"{target} exists already; choose another name, or delete it first")
    if not target.parent.is_dir():
        raise ArchiveError(f"there is no folder {target.parent}; make it, or choose another")
    _remove_strays(target.parent)
    if not library.database.read_only:
        library.messages(name)  # mends damaged rows, which a read transaction cannot
    with library.database.read():  # everything is of one moment
        session, chain, note = _record(library, name, with_state=with_state)
        tokens = library.token_ids(name, 0, session.num_tokens).tobytes()
        members = [*_documents(library, session), *_states(library, chain)]
    text = json.dumps(session.to_json(), ensure_ascii=False).encode()
    members = [_of_bytes(SESSION, text), _of_bytes(TOKENS, tokens), *members]
    about = {"session": session.name, "model": session.model, "tokens": session.num_tokens}
    with stage_file(target, archive_pieces(about, members, report)) as staged:
        publish([staged])
    return Exported(
        num_bytes=staged.num_bytes,
        num_documents=len(session.documents),
        num_messages=len(session.messages),
        num_tokens=session.num_tokens,
        state_tokens=chain[-1].end if chain else 0,
        note=note,
    )


def _record(library: Library, name: str, *, with_state: bool) -> tuple[PortableSession, list[CheckpointRow], str]:
    """The session, the checkpoints of its state, and why there are none."""
    row = library.session(name)
    if row.num_tokens == 0:
        raise ArchiveError(f"session {row.name!r} is empty; read something into it first")
    chain, note = _chain(library, row.head) if with_state else ([], "")
    with library.database.read() as conn:
        former = conn.execute("SELECT document_id FROM former_documents WHERE session_id = ?", [row.id]).fetchall()
        ids = {part.document_id for part in library.parts(row.id)} | {each["document_id"] for each in former}
        documents = sorted((name, library.document(name).tokenizer_fingerprint) for name in ids if name is not None)
    session = PortableSession(
        name=row.name,
        model=row.model,
        fingerprint=row.fingerprint,
        documents=tuple(documents),
        parts=tuple(library.parts(row.id)),
        messages=tuple(library.messages(row.id)),
        hidden=tuple(library.hidden_turns(row.id)),
        system_prompt=row.system_prompt,
        checkpoints=tuple(
            Checkpoint(name=each.name, start=each.start, end=each.end, keep=each.keep, has_snapshot=each.has_snapshot)
            for each in chain
        ),
    )
    return session, chain, note


def _chain(library: Library, head: str | None) -> tuple[list[CheckpointRow], str]:
    if head is None:
        return [], "nothing of it is saved; the session is read again where it is imported"
    try:
        with library.database.read() as conn:
            return chain_of(conn, head), ""
    except (StateError, CorruptStateError) as error:
        return [], f"the state is left out: {error}"


def _documents(library: Library, session: PortableSession) -> Iterator[Source]:
    for name, _ in session.documents:
        size = library.document(name).file_bytes
        path = library.documents_folder / f"{name}.safetensors"
        yield Member(name=f"documents/{path.name}", num_bytes=size, checksum=name), partial(_read, path)


def _states(library: Library, chain: list[CheckpointRow]) -> Iterator[Source]:
    for row in chain:
        files = [(SEGMENT_SUFFIX, row.segment_bytes, row.segment_checksum)]
        if row.snapshot_checksum is not None:
            files.append((SNAPSHOT_SUFFIX, row.snapshot_bytes, row.snapshot_checksum))
        for suffix, size, digest in files:
            path = library.states_folder / (row.name + suffix)
            yield Member(name=f"states/{path.name}", num_bytes=size, checksum=digest), partial(_read, path)


def _of_bytes(name: str, data: bytes) -> Source:
    return Member(name=name, num_bytes=len(data), checksum=checksum(data)), lambda: [data]


def _read(path: Path) -> Iterator[memoryview]:
    """The bytes of a file of the library. Raises ArchiveError."""
    buffer = memoryview(bytearray(_PIECE_BYTES))
    try:
        with os.fdopen(open_regular(path), "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                yield buffer[:count]
    except OSError as error:
        raise ArchiveError(
            f"{path.name} in the library cannot be read ({error.strerror or error}); run `verify`, or leave the state "
            "out: --without-state"
        ) from error


def _remove_strays(folder: Path) -> None:
    """Delete what exports that were killed have left in the folder."""
    for path in folder.iterdir():
        with suppress(OSError):
            if _STRAY.fullmatch(path.name) and path.lstat().st_mtime < time.time() - _STRAY_AGE_S:
                with os.fdopen(open_regular(path), "rb") as file:
                    is_ours = is_archive_start(file.read(512))
                if is_ours:
                    path.unlink()
