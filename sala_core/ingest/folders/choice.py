"""Which files the user wants beyond, or without, what a reading takes by itself."""

from dataclasses import dataclass
from functools import cached_property

from sala_core.errors import IngestError
from sala_core.ingest.folders.ignore import Rule, parse_rules

LEFT_OUT = "left out as you chose"
"""Why a file of `FileChoice.left_out` is not read."""


@dataclass(frozen=True, kw_only=True)
class FileChoice:
    """What the user asks for. Patterns are those of a `.gitignore`, relative to each path that is read.

    Secrets, credentials and version control data are never read, whatever is chosen.
    """

    everything: bool = False
    """Also read generated, minified and ignored files."""
    include: tuple[str, ...] = ()
    """Patterns of files and folders that are read although they are generated, minified, ignored or packages."""
    exclude: tuple[str, ...] = ()
    """Patterns of files and folders that are left out."""
    left_out: frozenset[str] = frozenset()
    """Names of single files, as `walk` gives them, that the user does not want."""

    def __post_init__(self) -> None:
        """Raise IngestError for a pattern that means nothing."""
        for pattern in (*self.include, *self.exclude):
            rules = list(parse_rules(pattern))
            if len(rules) != 1 or not rules[0].ignores:
                raise IngestError(f"{pattern!r} is no pattern of file names; write it as in .gitignore, like '*.js'")

    def exclusion(self, path: str, *, is_folder: bool) -> str | None:
        """Return why a path is left out, or None. path: relative to what is read, POSIX."""
        rule = _matching(self._exclude, path, is_folder=is_folder)
        return f"left out as asked (pattern {rule.line})" if rule else None

    def includes(self, path: str, *, is_folder: bool) -> bool:
        """Whether a pattern of `include` matches the path or a folder above it."""
        if not self._include:
            return False
        parts = path.split("/")
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if _matching(self._include, path, is_folder=is_folder):
            return True
        return any(_matching(self._include, folder, is_folder=True) for folder in above)

    def leads_to_included(self, folder: str) -> bool:
        """Whether a pattern of `include` names something below the folder."""
        return any(pattern.removeprefix("/").startswith(folder + "/") for pattern in self.include)

    @cached_property
    def _include(self) -> tuple[Rule, ...]:
        return tuple(rule for pattern in self.include for rule in parse_rules(pattern))

    @cached_property
    def _exclude(self) -> tuple[Rule, ...]:
        return tuple(rule for pattern in self.exclude for rule in parse_rules(pattern))


def _matching(rules: tuple[Rule, ...], path: str, *, is_folder: bool) -> Rule | None:
    return next((rule for rule in rules if rule.matches(path, is_folder=is_folder)), None)
