"""Ignore rules, compared with git itself if it is installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sala_core.ingest import FoundFile, Limits, SkippedFile, walk

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def read_names(root: Path) -> set[str]:
    return {entry.name for entry in walk([root], Limits()) if isinstance(entry, FoundFile)}


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return home


def test_nested_rules_negation_and_folders(write: Callable[..., Path]) -> None:
    root = write(
        {
            ".gitignore": "*.log\n!keep.log\n/build/\n",
            "a.log": "x",
            "keep.log": "x",
            "build/x.txt": "x",
            "sub/.gitignore": "keep.log\n!a.log\n/local.txt\n",
            "sub/a.log": "x",
            "sub/keep.log": "x",
            "sub/local.txt": "x",
            "sub/build/x.txt": "x",
            "sub/deep/local.txt": "x",
        }
    )
    expected = "keep.log sub/a.log sub/build/x.txt sub/deep/local.txt .gitignore sub/.gitignore"
    assert read_names(root) == {f"root/{name}" for name in expected.split()}
    reasons = {entry.name: entry.reason for entry in walk([root], Limits()) if isinstance(entry, SkippedFile)}
    assert reasons["root/build/"] == "ignored by .gitignore (rule /build/)"
    assert reasons["root/a.log"] == "ignored by .gitignore (rule *.log)"


def test_a_file_in_an_ignored_folder_cannot_be_included_again(write: Callable[..., Path]) -> None:
    root = write({".gitignore": "out/\n!out/keep.txt\n", "out/keep.txt": "x", "a.txt": "x"})
    assert read_names(root) == {"root/a.txt", "root/.gitignore"}


def test_with_a_rule_on_the_content_of_a_folder_a_file_can_be_included_again(write: Callable[..., Path]) -> None:
    root = write({".gitignore": "out/**\n!out/keep.txt\n", "out/keep.txt": "x", "out/b.txt": "x"})
    assert read_names(root) == {"root/out/keep.txt", "root/.gitignore"}


def test_gitignore_overrides_the_exclude_file_and_the_global_file(write: Callable[..., Path], own_home: Path) -> None:
    root = write(
        {
            ".git/info/exclude": "*.a\n!b.c\n",
            ".gitignore": "!keep.a\n",
            "x.a": "x",
            "keep.a": "x",
            "a.c": "x",
            "b.c": "x",
        }
    )
    (own_home / ".config" / "git").mkdir(parents=True)
    (own_home / ".config" / "git" / "ignore").write_text("*.c\n")
    assert read_names(root) == {"root/.gitignore", "root/keep.a", "root/b.c"}


@needs_git
def test_the_configured_global_file_is_used(write: Callable[..., Path], own_home: Path) -> None:
    (own_home / ".gitconfig").write_text("[core]\n\texcludesFile = ~/mine\n")
    (own_home / "mine").write_text("*.c\n")
    assert read_names(write({"a.c": "x", "a.d": "x"})) == {"root/a.d"}


def test_rules_of_the_repository_around_a_chosen_folder_apply(write: Callable[..., Path]) -> None:
    root = write(
        {
            ".git/HEAD": "x",
            ".gitignore": "*.tmp\n/dist/\n",
            "src/a.tmp": "x",
            "src/a.py": "x",
            "dist/a.txt": "x",
        }
    )
    assert read_names(root / "src") == {"src/a.py"}
    # a folder that was chosen although it is ignored: the rules above it do not apply
    assert read_names(root / "dist") == {"dist/a.txt"}


def test_a_nested_repository_has_its_own_rules(write: Callable[..., Path]) -> None:
    root = write(
        {
            ".git/HEAD": "x",
            ".gitignore": "*.txt\n",
            "vendor/.git": "gitdir: ../elsewhere\n",
            "vendor/a.txt": "x",
            "a.txt": "x",
        }
    )
    assert read_names(root) == {"root/.gitignore", "root/vendor/a.txt"}


def test_malformed_lines_in_ignore_files_are_skipped(write: Callable[..., Path]) -> None:
    root = write({".gitignore": b"\xef\xbb\xbf*.log\r\n!\n\xff\xfe\n[z\n///\n\\\n", "a.log": "x", "b": "x"})
    assert read_names(root) == {"root/b", "root/.gitignore"}


NAMES = st.sampled_from(["a", "b", "ab", "c.x", "d"])
PATTERN_PARTS = st.sampled_from(["a", "b", "*", "?", "a*", "**", "c.x", "*.x", "[ab]", "d", "\\a", "[!a]"])


@st.composite
def ignore_files(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(0, 4))):
        parts = draw(st.lists(PATTERN_PARTS, min_size=1, max_size=3))
        line = draw(st.sampled_from(["", "!"])) + draw(st.sampled_from(["", "/"])) + "/".join(parts)
        lines.append(line + draw(st.sampled_from(["", "/", " "])))
    return "\n".join(lines) + "\n"


@needs_git
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.sets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), min_size=1, max_size=10),
    rules=st.dictionaries(st.sampled_from(["", "a", "b", "a/b"]), ignore_files(), max_size=3),
)
def test_any_tree_and_any_rules_give_the_same_files_as_git(files: set[tuple[str, ...]], rules: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "root"
        root.mkdir()
        for parts in sorted(files):
            path = root.joinpath(*parts)
            if any(parent.is_file() for parent in path.parents) or path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        for below, text in rules.items():
            if (root / below).is_dir():
                (root / below / ".gitignore").write_text(text)
        subprocess.run(["git", "init", "-q", str(root)], check=True)
        command = ["git", "ls-files", "-z", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True, env={**os.environ})
        expected = {name for name in os.fsdecode(listed.stdout).split("\0") if name}
        assert {name.removeprefix("root/") for name in read_names(root)} == expected
