"""Archives (zip, tar) opened like folders: the parser process unpacks them into a private folder, which is removed."""

from collections.abc import Iterator
from contextlib import contextmanager

from sala_core.errors import IngestError
from sala_core.ingest.folders.found import FoundFile
from sala_core.ingest.folders.regular import describe_os_error, read_regular
from sala_core.ingest.parser_process import ParserProcess
from sala_core.ingest.sniff import HEAD_BYTES, Kind, identify

MAX_NESTING = 2
"""An archive inside an archive is opened, but none inside that."""
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz")


def is_archive(file: FoundFile) -> bool:
    """Return whether a file is opened like a folder, by its name and its first bytes. A packed book is not."""
    if not file.name.lower().endswith(SUFFIXES):
        return False
    try:
        kind = identify(file.name, read_regular(file.path, HEAD_BYTES))
    except (OSError, IngestError):
        return True  # binary, as archives are; unpacking it tells what is wrong with others
    return kind is not Kind.EPUB and not (kind is Kind.FB2 and file.name.lower().endswith(".fb2.zip"))


@contextmanager
def unpacked(file: FoundFile, parser: ParserProcess) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """Unpack an archive into a private folder, which is removed after the block.

    Gives the folder, and (name, reason) of each member that is not in it; a name of "" stands for the archive. Raises
    IngestError if nothing can be unpacked, and ReadingStoppedError.
    """
    from sala_core.ingest.scratch import private_folder  # its imports take 10 MB, and few folders hold an archive

    with private_folder() as folder:
        try:
            yield str(folder), parser.unpack(file.path, str(folder))
        except OSError as error:
            raise IngestError(describe_os_error(error)) from error
