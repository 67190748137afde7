"""Files and folders to documents with token ids and the place of every token in the text."""

from sala_core.ingest.document import Document, EncodedDocument, Limits, SkippedFile
from sala_core.ingest.encode import ContentEncoder, encode_document
from sala_core.ingest.prepare import prepare
from sala_core.ingest.source_map import Place, SourceMap
from sala_core.ingest.walk import FoundFile, walk

__all__ = [
    "ContentEncoder",
    "Document",
    "EncodedDocument",
    "FoundFile",
    "Limits",
    "Place",
    "SkippedFile",
    "SourceMap",
    "encode_document",
    "prepare",
    "walk",
]
