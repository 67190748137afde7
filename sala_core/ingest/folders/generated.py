"""Files of a folder that tools have made from other files: minified code, source maps, lock files."""

import re

_LOCK_FILES = frozenset(
    (
        "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "deno.lock",
        "poetry.lock", "pdm.lock", "uv.lock", "pipfile.lock", "conda-lock.yml", "pixi.lock", "cargo.lock", "go.sum",
        "go.work.sum", "gemfile.lock", "composer.lock", "mix.lock", "pubspec.lock", "podfile.lock", "flake.lock",
        "packages.lock.json", "gradle.lockfile", "package.resolved", ".terraform.lock.hcl", "cartfile.resolved",
        "rebar.lock", "stack.yaml.lock", "cabal.project.freeze",
    )
)  # fmt: skip
_MINIFIED_NAME = re.compile(r"[.-]min\.(?:js|mjs|cjs|css|html?|svg|map)$|\.(?:bundle|chunk)\.(?:js|css)$")
_SOURCE_MAP_NAME = re.compile(r"\.(?:js|mjs|cjs|css|ts|dart|wasm)\.map$")
_MINIFIED_SUFFIXES = (".js", ".mjs", ".cjs", ".css")
_LONG_LINE_CHARS = 1000
_HEAD_CHARS = 2048
# the comments in front of the first statement
_LEADING_COMMENTS = re.compile(
    r"\ufeff?(?:\s+|(?://|#|--|;|%)[^\n]*|/\*.*?(?:\*/|\Z)|<!--.*?(?:-->|\Z)|<\?[^>]*>|\(\*.*?(?:\*\)|\Z))*+", re.DOTALL
)
_MARKS = re.compile(
    r"(?<![\w`\"'])@generated\b(?!\s*[`\"'])|<auto-?generated\b"
    r"|\bcode generated (?:by|from|with)\b[^\n]*\bdo not edit\b"
    r"|\b(?:auto-?|automatically |machine[- ])?generated\b[^\n]{0,120}\b(?:do not|don't) (?:edit|modify|change)\b"
    r"|\b(?:do not|don't) (?:edit|modify|change)\b[^\n]{0,120}\b(?:auto-?|automatically |machine[- ])?generated\b",
    re.IGNORECASE,
)
HINT = "give the file itself to read it"


def generated_by_name(name: str) -> str | None:
    """Return why a file of a folder is not read because of its name, or None.

    name: as shown. A name without a folder is a file that the reader has chosen: it is always read.
    """
    folder, slash, base = name.lower().rpartition("/")
    if not slash or not folder:
        return None
    if base in _LOCK_FILES:
        return f"generated (a lock file); {HINT}"
    if _SOURCE_MAP_NAME.search(base):
        return f"generated (a source map); {HINT}"
    if _MINIFIED_NAME.search(base):
        return f"minified code; {HINT}"
    return None


def generated_by_content(name: str, text: str) -> str | None:
    """Return why a file of a folder is not read because of its text, or None.

    It is generated if a comment at its start says so, and minified if most of a script or style sheet
    stands in lines of more than 1,000 characters.
    """
    if "/" not in name:
        return None
    head = text[:_HEAD_CHARS]
    if "enerated" in head or "ENERATED" in head:
        comments = _LEADING_COMMENTS.match(head)
        if comments and (mark := _MARKS.search(comments[0])):
            return f'generated ("{" ".join(mark[0].split())[:60]}"); {HINT}'
    if name.lower().endswith(_MINIFIED_SUFFIXES) and len(text) > 2 * _LONG_LINE_CHARS:
        # dividing first: most sources have short lines, and need no look at each
        if len(text) < 120 * (text.count("\n") + 1):
            return None
        num_long = sum(len(line) for line in text.split("\n") if len(line) > _LONG_LINE_CHARS)
        if num_long > len(text) * 0.6:
            return f"minified code; {HINT}"
    return None
