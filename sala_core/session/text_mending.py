"""A stored text that is damaged, made anew from its tokens."""

from dataclasses import replace

from sala_core.errors import CorruptStateError
from sala_core.ingest import Document, EncodedDocument, encode_document
from sala_core.session.context import SessionContext


def load_text(context: SessionContext, document_id: str) -> EncodedDocument:
    """Load a document of the session; one that is missing or damaged is first made anew from its tokens.

    The tokens are in the database with a hash of their own. What is made of them is stored only if it is, to the byte,
    what was stored before. The context's warnings then say so. Raises CorruptStateError if it cannot be made anew.
    """
    try:
        return context.library.load_document(document_id)
    except CorruptStateError:
        if not _make_anew(context, document_id):
            raise
        encoded = context.library.load_document(document_id)
    context.state.warnings.append(
        f"{encoded.document.name}: its stored text was missing or damaged, and was made anew from its tokens"
    )
    return encoded


def _make_anew(context: SessionContext, document_id: str) -> bool:
    """Write the document's file again; return whether it is what it was."""
    library, tokenizer = context.library, context.engine.tokenizer
    row = library.document(document_id)
    part = next((part for part in library.parts(context.session_id) if part.document_id == document_id), None)
    if part is None or row.tokenizer_fingerprint != tokenizer.fingerprint:
        return False
    start = part.start + part.body_start
    text = tokenizer.decode(library.token_ids(context.session_id, start, start + row.num_tokens))
    document = Document(
        name=row.name,
        media_type=row.media_type,
        num_bytes=row.num_bytes,
        text=text,
        page_starts=library.page_starts(document_id),
        warnings=row.warnings,
        content_hash=row.content_hash,
    )
    if Document.hash_of(row.name, text) != row.content_hash:
        return False
    encoded = replace(encode_document(document, tokenizer), document=document)
    return library.put_document(encoded, tokenizer.fingerprint) == document_id
