"""Files and folders to documents with token ids and the place of every token in the text."""

from sala_core.ingest.document import TREE_MEDIA_TYPE, Document, EncodedDocument, Limits, SkippedFile
from sala_core.ingest.encode import ContentEncoder, encode_document
from sala_core.ingest.folders.choice import FileChoice
from sala_core.ingest.folders.found import FoundFile
from sala_core.ingest.folders.walk import walk
from sala_core.ingest.prepare import prepare
from sala_core.ingest.source_map import Place, SourceMap

__all__ = [
    "TREE_MEDIA_TYPE",
    "ContentEncoder",
    "Document",
    "EncodedDocument",
    "FileChoice",
    "FoundFile",
    "Limits",
    "Place",
    "SkippedFile",
    "SourceMap",
    "encode_document",
    "prepare",
    "walk",
]
