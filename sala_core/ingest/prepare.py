"""From paths to encoded documents, one file at a time."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sala_core.errors import IngestError
from sala_core.ingest.document import EncodedDocument, Limits, SkippedFile
from sala_core.ingest.encode import ContentEncoder, encode_document
from sala_core.ingest.load import load_document
from sala_core.ingest.parser_process import ParserProcess, ReadingStoppedError
from sala_core.ingest.walk import FoundFile, walk
from sala_core.stopping import never


def prepare(
    paths: Sequence[Path],
    tokenizer: ContentEncoder,
    limits: Limits | None = None,
    should_stop: Callable[[], bool] = never,
) -> Iterator[EncodedDocument | SkippedFile]:
    """Yield every file below `paths`, encoded, or the reason why it is skipped. The order is that of `walk`.

    Only one file is in memory at a time. Closing the iterator ends the parser process. Raises IngestError at once,
    before the first file, if a path does not exist.

    Args:
        paths: files and folders.
        tokenizer: encodes the texts.
        limits: bounds on files and parsing; None for the defaults.
        should_stop: called between files and while a file is parsed or encoded. If it returns True, the iterator ends.
    """
    limits = limits or Limits()
    return _prepare(walk(paths, limits), tokenizer, limits, should_stop)


def _prepare(
    files: Iterator[FoundFile | SkippedFile],
    tokenizer: ContentEncoder,
    limits: Limits,
    should_stop: Callable[[], bool],
) -> Iterator[EncodedDocument | SkippedFile]:
    with ParserProcess(limits, should_stop) as parser:
        for file in files:
            if should_stop():
                return
            if isinstance(file, SkippedFile):
                yield file
                continue
            try:
                yield encode_document(load_document(file, parser, limits), tokenizer, should_stop)
            except IngestError as error:
                yield SkippedFile(name=file.name, path=file.path, reason=str(error))
            except ReadingStoppedError:
                return
