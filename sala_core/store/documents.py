"""Documents: one content-addressed file with text, source map and token ids, and one row with the rest."""

import json
import sqlite3
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import xxhash

from sala_core.disk.files import checksum, displace_folder, publish, read_whole, stage_file, storage_error
from sala_core.disk.layout import decode_arrays, encode_arrays
from sala_core.errors import CorruptStateError, LibraryError
from sala_core.ingest.document import Document, EncodedDocument
from sala_core.store.database import insert_row
from sala_core.store.integrity.soundness import Soundness
from sala_core.store.rows import DocumentRow
from sala_core.store.streams import as_token_ids

_FORMAT = "1"


class Documents(Soundness):
    """The part of the library that stores documents."""

    def put_document(self, encoded: EncodedDocument, tokenizer_fingerprint: str) -> str:
        """Store a document with its tokens; return its id, which is the checksum of its file.

        Equal documents are stored once; if the file is damaged, it is written again. Garbage collection keeps the
        document for an hour; by then it must be part of a session. Raises DiskFullError; LibraryError for token ids
        that are not int32 [T].
        """
        pieces = list(encode_arrays(_arrays(encoded), _metadata(encoded.document, tokenizer_fingerprint)))
        digest = xxhash.xxh3_128()
        for piece in pieces:
            digest.update(piece)
        document_id = digest.hexdigest()
        with self.database.write() as conn:
            known = self._mark_used(conn, document_id)
        if known and self.is_whole_document(document_id):
            return document_id
        with ExitStack() as stack:
            target = self.documents_folder / f"{document_id}.safetensors"
            staged = stack.enter_context(stage_file(target, pieces))
            with self.database.write() as conn:
                registered = self._mark_used(conn, document_id)
                if known or not registered:
                    _displace(target)
                    publish([staged])
                if not registered:
                    _insert(conn, document_id, encoded, tokenizer_fingerprint, staged.num_bytes)
        return document_id

    def document(self, document_id: str) -> DocumentRow:
        """Return the row of a document. Raises LibraryError if it is not stored."""
        with self.database.read() as conn:
            return _find(conn, document_id)

    def documents(self, session_id: str) -> list[DocumentRow]:
        """Return the documents of the session with this id, each once, in reading order."""
        with self.database.read() as conn:
            rows = conn.execute(
                "SELECT d.*, min(p.ordinal) AS first FROM parts p JOIN documents d ON d.id = p.document_id"
                " WHERE p.session_id = ? GROUP BY d.id ORDER BY first",
                [session_id],
            )
            return [_row(row) for row in rows]

    def page_starts(self, document_id: str) -> tuple[int, ...]:
        """Return the pages' character offsets as a document's row has them; () where an early version stored it."""
        with self.database.read() as conn:
            row = conn.execute("SELECT page_starts FROM documents WHERE id = ?", [document_id]).fetchone()
        return tuple(json.loads(row["page_starts"])) if row and row["page_starts"] else ()

    def load_document(self, document_id: str) -> EncodedDocument:
        """Load a document and verify its checksum.

        Raises LibraryError if it is not stored, CorruptStateError if its file is missing or damaged.
        """
        row = self.document(document_id)
        path = self.documents_folder / f"{document_id}.safetensors"
        try:
            data = read_whole(path, row.file_bytes)
            if checksum(data) != document_id:
                raise ValueError("its checksum does not match")
            arrays, metadata = decode_arrays(data)
            if metadata["format"] != _FORMAT:
                raise ValueError(f"its format is {metadata['format']}")
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise CorruptStateError(
                f"the stored text of {row.name} cannot be used ({error}); read the file again"
            ) from error
        document = Document(
            name=row.name,
            media_type=row.media_type,
            num_bytes=row.num_bytes,
            text=arrays["text"].tobytes().decode(),
            page_starts=tuple(arrays["page_starts"].tolist()),
            warnings=row.warnings,
            content_hash=row.content_hash,
        )
        return EncodedDocument(
            document=document,
            token_ids=arrays["token_ids"],
            token_starts=arrays["token_starts"],
        )

    def document_tokens(self, document_id: str) -> np.ndarray:
        """Return the token ids in a document's file, int32 [T], after its checksum is verified.

        Needs no row. Raises CorruptStateError if the file is missing or damaged.
        """
        path = self.documents_folder / f"{document_id}.safetensors"
        try:
            data = read_whole(path, path.lstat().st_size)
            if checksum(data) != document_id:
                raise ValueError("its checksum does not match")
            return np.asarray(decode_arrays(data)[0]["token_ids"])
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise CorruptStateError(f"its stored text cannot be used ({error}); read the file again") from error

    def _fill_in(self, session_id: str) -> None:
        """Complete the rows of documents that an earlier version stored. One with a damaged file stays as it is."""
        with self.database.read() as conn:
            rows = conn.execute(
                "SELECT DISTINCT d.id FROM documents d JOIN parts p ON p.document_id = d.id"
                " WHERE p.session_id = ? AND d.tokens_hash = ''",
                [session_id],
            ).fetchall()
        for row in rows:
            with suppress(CorruptStateError):
                encoded = self.load_document(row["id"])
                ids, pages = as_token_ids(encoded.token_ids), json.dumps(encoded.document.page_starts)
                with self.database.write() as conn:
                    conn.execute(
                        "UPDATE documents SET page_starts = ?, tokens_hash = ? WHERE id = ?",
                        [pages, checksum(ids.tobytes()), row["id"]],
                    )

    def is_whole_document(self, document_id: str) -> bool:
        """Whether the document's file exists and its checksum is the document's id."""
        path = self.documents_folder / f"{document_id}.safetensors"
        try:
            return checksum(read_whole(path, path.stat().st_size)) == document_id
        except (OSError, EOFError):
            return False

    @staticmethod
    def _mark_used(conn: sqlite3.Connection, document_id: str) -> bool:
        query = "UPDATE documents SET used_at = ? WHERE id = ?"
        return conn.execute(query, [time.time(), document_id]).rowcount > 0


def decode_document(data: memoryview) -> tuple[EncodedDocument, str]:
    """Return the document in a library's file, checked, and the fingerprint of the tokenizer that made its tokens.

    Raises ValueError, KeyError, TypeError, AttributeError or RecursionError if it is none.
    """
    arrays, metadata = decode_arrays(data)
    about = json.loads(metadata["document"])
    text = arrays["text"].tobytes().decode()
    starts, pages, ids = arrays["token_starts"], arrays["page_starts"], arrays["token_ids"]
    for offsets in (starts, pages):
        if offsets.ndim != 1 or offsets.dtype != np.int64 or (np.diff(offsets) < 0).any():
            raise ValueError("its offsets are not in order")
        if offsets.size and not 0 <= offsets[0] <= offsets[-1] <= len(text):
            raise ValueError("its offsets are outside its text")
    if ids.dtype != np.int32 or ids.shape != starts.shape:
        raise ValueError("its tokens have no places")
    name, num_bytes, warnings = about["name"], about["num_bytes"], about["warnings"]
    if not isinstance(name, str) or not isinstance(num_bytes, int) or not 0 <= num_bytes < 1 << 62:
        raise ValueError("its name or size cannot be")
    if about["content_hash"] != Document.hash_of(name, text):
        raise ValueError("its text is not the one that was read")
    document = Document(
        name=name,
        media_type=str(about["media_type"]),
        num_bytes=num_bytes,
        text=text,
        page_starts=tuple(pages.tolist()),
        warnings=tuple(map(str, warnings)),
        content_hash=about["content_hash"],
    )
    return EncodedDocument(document=document, token_ids=ids, token_starts=starts), metadata["tokenizer_fingerprint"]


def _displace(target: Path) -> None:
    try:
        displace_folder(target)
    except OSError as error:
        raise storage_error(error, target) from error


def _arrays(encoded: EncodedDocument) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {
        "text": np.frombuffer(encoded.document.text.encode(), dtype=np.uint8),
        "page_starts": np.array(encoded.document.page_starts, dtype=np.int64),
        "token_ids": as_token_ids(encoded.token_ids),
        "token_starts": np.asarray(encoded.token_starts, dtype=np.int64),
    }
    if arrays["token_ids"].shape != arrays["token_starts"].shape:
        raise LibraryError(f"{encoded.document.name} has different numbers of tokens and token starts")
    return arrays


def _metadata(document: Document, tokenizer_fingerprint: str) -> dict[str, str]:
    about = {
        "name": document.name,
        "media_type": document.media_type,
        "num_bytes": document.num_bytes,
        "warnings": document.warnings,
        "content_hash": document.content_hash,
    }
    return {"format": _FORMAT, "document": json.dumps(about), "tokenizer_fingerprint": tokenizer_fingerprint}


def _insert(
    conn: sqlite3.Connection,
    document_id: str,
    encoded: EncodedDocument,
    tokenizer_fingerprint: str,
    num_bytes: int,
) -> None:
    document, now = encoded.document, time.time()
    values: dict[str, object] = {
        "id": document_id,
        "name": document.name,
        "media_type": document.media_type,
        "num_bytes": document.num_bytes,
        "num_chars": len(document.text),
        "num_tokens": len(encoded.token_ids),
        "num_pages": len(document.page_starts),
        "warnings": json.dumps(document.warnings),
        "content_hash": document.content_hash,
        "tokenizer_fingerprint": tokenizer_fingerprint,
        "file_bytes": num_bytes,
        "page_starts": json.dumps(document.page_starts),
        "tokens_hash": checksum(as_token_ids(encoded.token_ids).tobytes()),
        "created_at": now,
        "used_at": now,
    }
    insert_row(conn, "documents", values)


def _find(conn: sqlite3.Connection, document_id: str) -> DocumentRow:
    row = conn.execute("SELECT * FROM documents WHERE id = ?", [document_id]).fetchone()
    if row is None:
        raise LibraryError(f"document {document_id} is not in the library; read its file again")
    return _row(row)


def _row(row: sqlite3.Row) -> DocumentRow:
    return DocumentRow(
        id=row["id"],
        name=row["name"],
        media_type=row["media_type"],
        num_bytes=row["num_bytes"],
        num_chars=row["num_chars"],
        num_tokens=row["num_tokens"],
        num_pages=row["num_pages"],
        warnings=tuple(json.loads(row["warnings"])),
        content_hash=row["content_hash"],
        tokenizer_fingerprint=row["tokenizer_fingerprint"],
        file_bytes=row["file_bytes"],
        created_at=row["created_at"],
    )
