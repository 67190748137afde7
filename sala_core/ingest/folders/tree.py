"""The tree of files that stands before a repository, as a short document of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from sala_core.ingest.folders.order import folder_key

MAX_TREE_CHARS = 12_000
"""Longest tree: some 3,000 to 5,000 tokens."""
_FILES_PER_FOLDER = (10**6, 60, 30, 15, 8, 4, 2, 0)
_DEPTHS = (8, 6, 5, 4, 3, 2, 1)


@dataclass(frozen=True, kw_only=True)
class FileTree:
    """The tree of a repository. name: of its document.

    It holds names only, so it changes when files are added, removed or renamed, not when they are edited.
    """

    name: str
    text: str


def file_tree(name: str, paths: Sequence[str], max_chars: int = MAX_TREE_CHARS) -> FileTree:
    """Return the tree of a repository: every folder on a line with its whole path, its files below it.

    If that is longer than `max_chars`, large folders are cut to their first files, with the number of the others; then
    deep folders to the number of their files; then the list of folders ends with their number.

    Args:
        name: of the repository, as in the names of its documents.
        paths: of its files, relative to it; a folder that is not read ends in `/`.
        max_chars: longest text.
    """
    folders: dict[str, list[str]] = {"": []}
    for path in sorted(paths, key=folder_key):
        folder, _, base = path.removesuffix("/").rpartition("/")
        folders.setdefault(folder, []).append(base + ("/ (not read)" if path.endswith("/") else ""))
    title = f"The files of {name}, folder by folder:\n"
    room = max_chars - len(title) - 1
    text = next((t for n in _FILES_PER_FOLDER if len(t := _with_files(folders, n)) <= room), None)
    if text is None:
        text = next((t for d in _DEPTHS if len(t := _folders_only(folders, d)) <= room), None)
    if text is None:
        text = _cut(_folders_only(folders, 1), room)
    return FileTree(name=f"{name} (files)", text=f"{title}{text}\n")


def _with_files(folders: dict[str, list[str]], max_files: int) -> str:
    """Every folder with at most its first `max_files` files."""
    lines = []
    for folder, files in folders.items():
        indent = "  " if folder else ""
        if folder:
            lines.append(f"{folder}/")
        lines += [indent + file for file in files[:max_files]]
        if len(files) > max_files:
            lines.append(f"{indent}… {len(files) - max_files:,} {'more ' if max_files else ''}files")
    return "\n".join(lines)


def _folders_only(folders: dict[str, list[str]], depth: int) -> str:
    """Folders down to `depth`, each with the number of files in it; deeper ones count for the folder above them."""
    counts: dict[str, int] = {}
    for folder, files in folders.items():
        shown = "/".join(folder.split("/")[:depth])
        counts[shown] = counts.get(shown, 0) + len(files)
    return "\n".join(f"{folder + '/' if folder else 'at the top'}: {count:,} files" for folder, count in counts.items())


def _cut(text: str, max_chars: int) -> str:
    lines = text.split("\n")
    kept, used = [], 40
    for line in lines:
        used += len(line) + 1
        if used > max_chars:
            break
        kept.append(line)
    return "\n".join([*kept, f"… {len(lines) - len(kept):,} more folders"])
