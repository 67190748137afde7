"""The order in which the files of a repository are read: as a person would, and stable when files are added.

The place of a file follows from its own path alone. A new file never changes the order of the others, so only what
stands behind it has to be read again. What seldom changes and explains the rest comes first; data, changelogs and
other files that change often come last.
"""

import re
from enum import IntEnum

_NUMBER = re.compile(r"(\d+)")
_SUFFIX = re.compile(r"(?<=.)\.[^\W\d_]\w{0,9}$")


class Group(IntEnum):
    """The parts of a repository, in reading order."""

    DOCS = 0
    CONFIG = 1
    SOURCES = 2
    EXAMPLES = 3
    TESTS = 4
    HIDDEN = 5
    DATA = 6


_PROSE = (".md", ".markdown", ".rst", ".adoc", ".asciidoc", ".org", ".txt", ".pdf", ".docx", ".odt", ".tex")
_DOC_FOLDERS = frozenset(("doc", "docs", "documentation", "guide", "guides", "manual", "book"))
_EXAMPLE_FOLDERS = frozenset(
    (
        "bench",
        "benches",
        "benchmark",
        "benchmarks",
        "demo",
        "demos",
        "example",
        "examples",
        "samples",
        "scripts",
        "tools",
    )
)
_TEST_FOLDERS = frozenset(("test", "tests", "testing", "__tests__", "spec", "specs", "e2e", "unittests"))
_DATA_FOLDERS = frozenset(("data", "dataset", "datasets", "fixtures", "testdata", "test_data", "snapshots"))
_TEST_NAME = re.compile(
    r"(?:test_.*|conftest)\.py$|.*_test\.(?:py|go|c|cc|cpp|rb|dart|exs)$|.*[.-](?:test|spec)\.[cm]?[jt]sx?$"
    r"|.*_spec\.rb$|.*tests?\.(?:java|kt|cs|swift|scala)$"
)
_DATA_SUFFIXES = (
    ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".geojson", ".xml", ".log", ".svg", ".po", ".pot", ".txt", ".lock",
    ".sum", ".srt", ".vtt", ".patch", ".diff", ".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz",
)  # fmt: skip
_LATE_NAME = re.compile(
    r"(?:changelog|changes|history|news|releases?|license|licence|copying|copyright|notice|authors|contributors"
    r"|third.?party.*|code.of.conduct)(?:[._-].*)?$"
)
_CONFIG = (
    "pyproject.toml", "setup.py", "setup.cfg", "package.json", "cargo.toml", "go.mod", "pom.xml", "build.gradle",
    "build.gradle.kts", "settings.gradle", "composer.json", "gemfile", "mix.exs", "pubspec.yaml", "deno.json",
    "tsconfig.json", "cmakelists.txt", "meson.build", "makefile", "justfile", "dockerfile", "docker-compose.yml",
    "docker-compose.yaml", "compose.yaml", "manifest.in", "environment.yml", "tox.ini",
)  # fmt: skip
_CONFIG_RANK = {name: index for index, name in enumerate(_CONFIG)}
_REQUIREMENTS = re.compile(r"(?:requirements|constraints)[\w.-]*\.(?:txt|in)$")
_CONFIG_SUFFIXES = (".toml", ".ini", ".cfg", ".yaml", ".yml")
_README = re.compile(r"readme(?:[._-].*)?$")
_FIRST_NAME = re.compile(r"__init__\.pyi?$|(?:mod|lib)\.rs$|index\.[a-z]+$|init\.lua$|package-info\.java$|doc\.go$")

Key = tuple[object, ...]


def reading_key(path: str) -> Key:
    """Return a sort key for a file of a repository. path: relative to its top, POSIX; ends in `/` for a folder.

    README and the other texts at the top, then `docs`; configuration at the top; sources folder by folder, parents
    before children; examples and tools; tests; hidden files and folders; data, licenses and changelogs.
    """
    return (group_of(path), *folder_key(path, is_source=True))


def folder_key(path: str, *, is_source: bool = False) -> Key:
    """Return a sort key that puts the files of a folder before its subfolders, each in natural order.

    is_source: README, configuration and the file that stands for the folder (`__init__.py`, `mod.rs`) come first.
    """
    *folders, name = path.removesuffix("/").split("/")
    key: list[object] = [(1, 0, natural_key(folder)) for folder in folders]
    if path.endswith("/"):
        return (*key, (1, 0, natural_key(name)))
    return (*key, (0, _rank(name.lower()) if is_source else 0, natural_key(name)))


def group_of(path: str) -> Group:
    """Return the part of a repository that a file belongs to. path: as for `reading_key`."""
    *folders, name = path.lower().removesuffix("/").split("/")
    if path.endswith("/"):
        folders = [*folders, name]
    if any(part.startswith(".") and len(part) > 1 for part in (*folders, name)):
        return Group.HIDDEN
    is_config = name in _CONFIG_RANK or _REQUIREMENTS.match(name) is not None
    top = folders[0] if folders else ""
    is_late = _LATE_NAME.match(name) is not None and ("." not in name or name.endswith(_PROSE))
    if not _DATA_FOLDERS.isdisjoint(folders) or is_late:
        return Group.DATA
    if top in _DOC_FOLDERS or (not folders and name.endswith(_PROSE) and not is_config) or _is_top_readme(path):
        return Group.DOCS
    if name.endswith(_DATA_SUFFIXES) and not is_config and not _README.match(name):
        return Group.DATA
    if not folders and (is_config or name.endswith(_CONFIG_SUFFIXES)):
        return Group.CONFIG
    if not _TEST_FOLDERS.isdisjoint(folders) or _TEST_NAME.match(name):
        return Group.TESTS
    return Group.EXAMPLES if top in _EXAMPLE_FOLDERS else Group.SOURCES


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str, str]:
    """Return a sort key that puts `ch.txt` before `ch2.txt`, and that before `ch10.txt`, and ignores case.

    The name itself breaks ties.
    """
    folded = name.casefold()
    suffix = match[0] if (match := _SUFFIX.search(folded)) else ""
    parts = _NUMBER.split(folded.removesuffix(suffix))
    # \d matches only digits that int() accepts; a very long number sorts as text
    key = [(0, int(part), "") if index % 2 and len(part) < 20 else (1, 0, part) for index, part in enumerate(parts)]
    return key, suffix, name


def _is_top_readme(path: str) -> bool:
    return "/" not in path and _README.match(path.lower()) is not None


def _rank(name: str) -> int:
    """Where a file of a folder of sources stands before the others: README, configuration, what stands for it."""
    if _README.match(name):
        return 0
    if name in _CONFIG_RANK:
        return 1 + _CONFIG_RANK[name]
    if _FIRST_NAME.match(name):
        return 1 + len(_CONFIG)
    return 2 + len(_CONFIG)
