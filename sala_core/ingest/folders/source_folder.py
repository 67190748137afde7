"""Whether a folder holds source code. There an HTML file is read as its source, elsewhere as a page."""

import os
from collections.abc import Collection

# files at the top of a project, and folders that only version control makes
_MARKS = frozenset(
    (
        ".git", ".gitignore", ".gitattributes", ".hg", ".svn", "build.gradle", "cargo.toml", "cmakelists.txt",
        "composer.json", "dockerfile", "gemfile", "go.mod", "makefile", "manage.py", "mix.exs", "package.json",
        "pom.xml", "pyproject.toml", "requirements.txt", "setup.cfg", "setup.py", "tsconfig.json",
    )
)  # fmt: skip
# not .js and .css: a browser saves them with a page, and generated documentation has them
_SUFFIXES = frozenset(
    (
        ".c", ".cc", ".clj", ".cpp", ".cs", ".dart", ".ejs", ".erb", ".ex", ".exs", ".go", ".h", ".hbs", ".hpp", ".hs",
        ".java", ".jinja", ".jinja2", ".j2", ".jsp", ".jsx", ".kt", ".less", ".lua", ".m", ".ml", ".php", ".pl",
        ".pug", ".py", ".rb", ".rs", ".sass", ".scala", ".scss", ".svelte", ".swift", ".ts", ".tsx", ".twig", ".vue",
        ".zig",
    )
)  # fmt: skip
_CODE_FOLDERS = frozenset(("app", "cmd", "internal", "lib", "pkg", "server", "source", "src"))
# beside these a file of code makes no project: the folder is a collection
_DOCUMENTS = frozenset((".doc", ".docx", ".epub", ".fb2", ".mobi", ".odt", ".pdf"))


def holds_source(folder: str, names: Collection[str]) -> bool:
    """Return whether a folder is one of source code, by the names in it and in its `src`, `lib` or `app`.

    folder: its path; names: of all that is in it. What is below such a folder counts as source code too.
    """
    if _names_source(names):
        return True
    return any(_names_source(_names_in(os.path.join(folder, n))) for n in names if n.lower() in _CODE_FOLDERS)


def is_collection(folder: str, names: Collection[str]) -> bool:
    """Return whether a folder of source code is a collection of repositories rather than one of them."""
    if any(name.lower() in _MARKS for name in names):
        return False
    return any(os.path.lexists(os.path.join(folder, name, ".git")) for name in names)


def _names_source(names: Collection[str]) -> bool:
    if any(name.lower() in _MARKS for name in names):
        return True
    suffixes = {os.path.splitext(name.lower())[1] for name in names}
    return not suffixes.isdisjoint(_SUFFIXES) and suffixes.isdisjoint(_DOCUMENTS)


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # a file of this name, or a folder that cannot be entered: `walk` reports it
