"""Why one piece of a file could not be read, in words: what an exception of a parser or of an archive means."""

import lzma
import struct
import zipfile
import zlib

# raised by zipfile for damaged archives: wrong checksums, offsets, methods and names
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError, OSError, ValueError,
)  # fmt: skip
# what a fault of a parser may raise: it costs the piece, not the file
PIECE_FAILURES = (*DAMAGE, ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError)
_MAX_CHARS = 120


def failure_reason(error: BaseException) -> str:
    """Return what an exception says about the piece that was read, with its own words where they add something."""
    match error:
        case RecursionError():
            return "its elements are nested too deeply"
        case NotImplementedError():
            return _with_words("it is compressed in a way that is not known", error)
        case EOFError():
            return "it is cut off"
        case zipfile.BadZipFile() | struct.error():
            return _with_words("its place in the archive is damaged", error)
        case zlib.error() | lzma.LZMAError():
            return _with_words("its compressed data is damaged", error)
        case UnicodeError():
            return _with_words("its characters cannot be decoded", error)
        case OSError():
            return error.strerror.lower() if error.strerror else "it cannot be opened"
        case _:
            return _with_words("the reader failed on it", error, name=type(error).__name__)


def _with_words(meaning: str, error: BaseException, *, name: str = "") -> str:
    words = " ".join(str(error).split())[:_MAX_CHARS]
    words = ": ".join(filter(None, (name, words)))
    return f"{meaning} ({words})" if words else meaning
