"""Which files a client may have read: only what is in folders that the user has allowed."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sala_core.errors import IngestError

_SHOWN = 5


def resolved_roots(folders: Iterable[Path]) -> tuple[Path, ...]:
    """The allowed folders without links and `..`, each once. Raises IngestError for one that is no folder."""
    found: dict[Path, None] = {}
    for folder in folders:
        try:
            path = folder.expanduser().resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise IngestError(f"--allow: there is no folder {folder}; check the spelling") from error
        if not path.is_dir():
            raise IngestError(f"--allow: {folder} is a file; allow the folder that it is in")
        found[path] = None
    return tuple(found)


def roots_of_uris(uris: Iterable[object]) -> tuple[Path, ...]:
    """The folders among a client's roots (`file://` addresses). Others, and those that are not here, are left out."""
    found: dict[Path, None] = {}
    for uri in uris:
        parts = urlsplit(str(uri))
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            continue
        try:
            path = Path(url2pathname(parts.path)).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            continue
        if path.is_dir():
            found[path] = None
    return tuple(found)


def allowed_paths(texts: Sequence[str], roots: Sequence[Path], *, library: Path) -> list[Path]:
    """The files and folders that a client names, without links and `..`, in the order given.

    A relative path is looked for in each root.

    texts: as the client wrote them. roots: resolved folders. library: the program's own folder, which is never read.
    Raises IngestError for one that is not there, or outside of all roots also behind its links.
    """
    if not roots:
        raise IngestError(
            "no folder may be read through this connection; start the program with --allow FOLDER, or give the client "
            "a workspace folder (an MCP root), then try again"
        )
    return [_allowed(text, roots, library.resolve()) for text in texts]


def _allowed(text: str, roots: Sequence[Path], library: Path) -> Path:
    try:
        named = Path(text).expanduser()
        candidates = [named] if named.is_absolute() else [root / named for root in roots]
        paths = [candidate.resolve() for candidate in candidates]
        inside = [path for path in paths if any(path.is_relative_to(root) for root in roots)]
        found = next((path for path in inside if path.exists()), None)
    except (OSError, RuntimeError, ValueError) as error:
        raise IngestError(f"{text[:200]!r} is no path; give the path of a file or folder") from error
    shown = ", ".join(map(str, roots[:_SHOWN])) + (f" and {len(roots) - _SHOWN} more" if len(roots) > _SHOWN else "")
    if not inside:
        raise IngestError(
            f"{text[:200]!r} is outside of the folders that may be read ({shown}); name a file inside of them, or ask "
            "the user to allow its folder with --allow"
        )
    if found is None:
        raise IngestError(f"there is no file or folder {text[:200]!r} in {shown}; check the spelling")
    if found.is_relative_to(library) or library.is_relative_to(found):
        raise IngestError(f"{text[:200]!r} holds the program's own library, which is not read; name other files")
    return found
