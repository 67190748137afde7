"""From paths to encoded documents, one file at a time."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sala_core.errors import IngestError, PasswordError, UnreadableError
from sala_core.ingest.document import TREE_MEDIA_TYPE, Document, EncodedDocument, Limits, SkippedFile
from sala_core.ingest.encode import ContentEncoder, encode_document
from sala_core.ingest.folders.choice import FileChoice
from sala_core.ingest.folders.found import FoundFile, printable
from sala_core.ingest.folders.tree import FileTree
from sala_core.ingest.folders.walk import DEFAULT_CHOICE, Entry, find
from sala_core.ingest.load import PasswordOf, load_document, no_password
from sala_core.ingest.parser_process import ParserProcess, ReadingStoppedError
from sala_core.stopping import never


def prepare(
    paths: Sequence[Path],
    tokenizer: ContentEncoder,
    limits: Limits | None = None,
    should_stop: Callable[[], bool] = never,
    choice: FileChoice = DEFAULT_CHOICE,
    choose: Callable[[FoundFile], FoundFile | None] | None = None,
    password_of: PasswordOf = no_password,
    is_sole_file_skipped: bool = False,
) -> Iterator[EncodedDocument | SkippedFile]:
    """Yield every file below `paths`, encoded, or the reason why it is skipped. The order is that of `walk`.

    Before the files of a repository comes its tree, a document of its own (`TREE_MEDIA_TYPE`). Only one file is in
    memory at a time. Closing the iterator ends the parser process. Raises IngestError at once, before the first file,
    if a path does not exist; later, if the only path is a file that cannot be read.

    Args:
        paths: files and folders.
        tokenizer: encodes the texts.
        limits: bounds on files and parsing; None for the defaults.
        should_stop: called between files and while a file is parsed or encoded. If it returns True, the iterator ends.
        choice: what the user wants read, or left out.
        choose: called for each file before it is opened; returns it, perhaps under another name, or None to pass over
            it without a word. None reads all files.
        password_of: called for each encrypted file that a password opens.
        is_sole_file_skipped: yield the reason why the only path is not read, if it is a file, and raise nothing later.
    """
    limits = limits or Limits()
    parser = ParserProcess(limits, should_stop)
    files = find(paths, limits, choice, parser=parser)
    wanted = files if choose is None else _chosen(files, choose)
    prepared = _prepare(wanted, parser, tokenizer, limits, should_stop, password_of)
    is_sole_file = len(paths) == 1 and not paths[0].is_dir() and not is_sole_file_skipped
    return _sole_file(prepared, paths[0]) if is_sole_file else prepared


def _prepare(
    files: Iterator[Entry],
    parser: ParserProcess,
    tokenizer: ContentEncoder,
    limits: Limits,
    should_stop: Callable[[], bool],
    password_of: PasswordOf,
) -> Iterator[EncodedDocument | SkippedFile]:
    with parser, contextlib.suppress(ReadingStoppedError):
        for file in files:
            if should_stop():
                return
            if isinstance(file, SkippedFile):
                yield file
                continue
            try:
                if isinstance(file, FileTree):
                    document = _tree(file)
                else:
                    document = load_document(file, parser, limits, password_of)
                yield encode_document(document, tokenizer, should_stop, limits.max_file_tokens)
            except IngestError as error:
                path = "" if isinstance(file, FileTree) else file.known_path
                yield SkippedFile(
                    name=file.name,
                    path=path,
                    reason=str(error),
                    is_failed=isinstance(error, UnreadableError),
                    is_locked=isinstance(error, PasswordError),
                )


def _chosen(files: Iterator[Entry], choose: Callable[[FoundFile], FoundFile | None]) -> Iterator[Entry]:
    for file in files:
        chosen = choose(file) if isinstance(file, FoundFile) else file
        if chosen is not None:
            yield chosen


def _sole_file(
    prepared: Iterator[EncodedDocument | SkippedFile], path: Path
) -> Iterator[EncodedDocument | SkippedFile]:
    """What is prepared, but IngestError instead of a skipped file if the one chosen file itself is not read."""
    for item in prepared:
        if isinstance(item, SkippedFile) and item.name == printable(path.name):
            kind = PasswordError if item.is_locked else IngestError
            raise kind(f"{item.name} is not read: {item.reason}")
        yield item


def _tree(tree: FileTree) -> Document:
    return Document(
        name=tree.name,
        media_type=TREE_MEDIA_TYPE,
        num_bytes=len(tree.text.encode()),
        text=tree.text,
        content_hash=Document.hash_of(tree.name, tree.text),
    )
