"""Git's ignore rules (gitignore(5)): nested `.gitignore`, `.git/info/exclude` and the user's global file.

A rule is relative to the folder of its file. Within one file the last matching rule decides. The `.gitignore` nearest
to the path takes precedence over those further up, then come `.git/info/exclude` and the global file. An ignored
folder is never entered, so rules are matched against the path itself, not against the folders above it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pathspec import GitIgnoreSpec

from sala_core.errors import IngestError
from sala_core.ingest.folders.regular import read_regular

MAX_RULES_BYTES = 1 << 20


@dataclass(frozen=True)
class Rule:
    """One line of an ignore file. ignores: False if the line begins with `!`."""

    line: str
    regex: re.Pattern[str]
    ignores: bool
    is_for_folders: bool

    def matches(self, relative: str, *, is_folder: bool) -> bool:
        """Whether the rule matches this path itself (POSIX, relative to the rule's folder).

        The regex of pathspec also matches everything below the path, so it must match in full. Only rules such as
        `a/**` have no group for the part below; for these a search is enough.
        """
        if self.is_for_folders and not is_folder:
            return False
        if not self.regex.groupindex:
            return self.regex.search(relative) is not None
        return self.regex.fullmatch(relative) is not None


@dataclass(frozen=True)
class RuleFile:
    """The rules of one ignore file. folder: absolute, the rules are relative to it. label: shown in reasons."""

    folder: str
    label: str
    rules: tuple[Rule, ...]

    @classmethod
    def read(cls, path: str, folder: str, label: str) -> "RuleFile | None":
        """Read the rules in `path`; return None if there are none. Lines that git rejects are skipped."""
        try:
            data = read_regular(path, MAX_RULES_BYTES)
        except (OSError, IngestError):
            return None
        rules = tuple(parse_rules(os.fsdecode(data.removeprefix(b"\xef\xbb\xbf"))))
        return cls(folder, label, rules) if rules else None

    def decide(self, path: str, *, is_folder: bool) -> Rule | None:
        """Return the last rule that matches the absolute `path`, or None."""
        relative = path[len(self.folder.rstrip(os.sep)) + 1 :].replace(os.sep, "/")
        for rule in reversed(self.rules):
            if rule.matches(relative, is_folder=is_folder):
                return rule
        return None


def parse_rules(text: str) -> Iterator[Rule]:
    """Yield the rules of an ignore file. Lines that git rejects are left out."""
    for line in text.split("\n"):
        trimmed = line.removesuffix("\r").rstrip(" ")
        # parsed without the last slash, so that the regex matches paths without one; `is_for_folders` keeps it
        body = trimmed.removesuffix("/") if trimmed.endswith("/") else line.removesuffix("\r")
        try:
            patterns = GitIgnoreSpec.from_lines([body]).patterns
        except ValueError:
            continue
        for pattern in patterns:
            if pattern.regex is not None and pattern.include is not None:
                yield Rule(line.strip(), pattern.regex, pattern.include, trimmed.endswith("/"))


@dataclass(frozen=True)
class IgnoreRules:
    """The rule files that apply in one folder, in order of precedence."""

    levels: tuple[RuleFile, ...] = ()

    @classmethod
    def above(cls, folder: str) -> "IgnoreRules":
        """Return the rules of the repository around the absolute `folder`, without the folder's own `.gitignore`.

        If these rules ignore the folder itself, the user has chosen it all the same: then they do not apply.
        """
        chain = [folder]
        while not os.path.lexists(os.path.join(chain[-1], ".git")):
            parent = os.path.dirname(chain[-1])
            if parent == chain[-1]:
                return cls(_repository_levels(folder))
            chain.append(parent)
        chain.reverse()
        rules = cls(_repository_levels(chain[0]))
        for outer, inner in pairwise(chain):
            rules = rules.inside(outer)
            if rules.reason(inner, is_folder=True):
                return cls(_repository_levels(folder))
        return rules

    @classmethod
    def only_global(cls, folder: str) -> "IgnoreRules":
        """Return the rules of the user's global file alone, relative to `folder`."""
        return cls(_repository_levels(folder))

    def inside(self, folder: str) -> "IgnoreRules":
        """The rules for entries of `folder`, its own file first. A nested repository ignores the rules above it."""
        levels = self.levels
        if os.path.lexists(os.path.join(folder, ".git")):
            levels = _repository_levels(folder)
        own = RuleFile.read(os.path.join(folder, ".gitignore"), folder, ".gitignore")
        return IgnoreRules((own, *levels) if own else levels)

    def reason(self, path: str, *, is_folder: bool) -> str | None:
        """Return why the absolute `path` is ignored, or None if it is not."""
        for level in self.levels:
            if rule := level.decide(path, is_folder=is_folder):
                return f"ignored by {level.label} (rule {rule.line})" if rule.ignores else None
        return None


def _repository_levels(folder: str) -> tuple[RuleFile, ...]:
    """`.git/info/exclude` and the global file, both relative to `folder`."""
    levels = []
    if git_folder := _git_folder(folder):
        exclude = os.path.join(git_folder, "info", "exclude")
        levels.append(RuleFile.read(exclude, folder, ".git/info/exclude"))
    if path := global_excludes_file():
        levels.append(RuleFile.read(path, folder, path))
    return tuple(level for level in levels if level)


def _git_folder(folder: str) -> str | None:
    """The folder with `info/exclude`: `.git`, or the one that the `.git` file of a worktree or submodule names."""
    path = os.path.join(folder, ".git")
    if os.path.isdir(path):
        return path
    try:
        pointer = os.fsdecode(read_regular(path, 4096)).strip()
        git_folder = os.path.join(folder, pointer.removeprefix("gitdir:").strip())
        common = os.fsdecode(read_regular(os.path.join(git_folder, "commondir"), 4096)).strip()
    except (OSError, IngestError):
        return None
    return os.path.join(git_folder, common)


def global_excludes_file() -> str | None:
    """Return the path of the user's ignore file: git's `core.excludesFile`, else `git/ignore` in the config folder."""
    home = os.path.expanduser("~")
    if git := shutil.which("git"):
        # GIT_DIR points nowhere: the configuration of a repository around the home folder must not count
        command = [git, "config", "--type=path", "--get", "core.excludesFile"]
        environment = {**os.environ, "GIT_DIR": os.devnull}
        try:
            done = subprocess.run(command, capture_output=True, cwd=home, env=environment, timeout=5, check=False)
        except (OSError, subprocess.TimeoutExpired):
            done = None
        if done and done.returncode == 0 and (path := os.fsdecode(done.stdout).strip()):
            return path
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return os.path.join(configuration, "git", "ignore")
