"""The order in which a repository is read, and the tree before it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sala_core.ingest import TREE_MEDIA_TYPE, EncodedDocument, FoundFile, Limits, prepare, walk
from sala_core.ingest.folders.order import Group, group_of, reading_key
from sala_core.ingest.folders.tree import MAX_TREE_CHARS, file_tree

REPOSITORY = [
    "README.md", "CONTRIBUTING.md", "docs/README.md", "docs/guide.md", "docs/guide10.md", "docs/api/index.md",
    "pyproject.toml", "setup.cfg", "tox.ini",
    "main.py", "pkg/README.md", "pkg/__init__.py", "pkg/a2.py", "pkg/a10.py", "pkg/core/__init__.py", "pkg/core/x.py",
    "web/package.json", "web/index.ts", "web/app.ts",
    "scripts/build.sh",
    "pkg/core/test_x.py", "tests/conftest.py", "tests/test_a.py", "web/app.test.ts",
    ".github/workflows/ci.yml", ".gitignore",
    "CHANGELOG.md", "LICENSE", "data/rows.csv", "pkg/table.json", "tests/fixtures/big.py",
]  # fmt: skip
"""In reading order."""


def names(root: Path) -> list[str]:
    found = [entry.name for entry in walk([root], Limits()) if isinstance(entry, FoundFile)]
    return [name.removeprefix("root/") for name in found]


def test_a_repository_is_read_as_a_person_would(write: Callable[..., Path]) -> None:
    found = names(write({name: "x" for name in reversed(REPOSITORY)}))
    expected = [*REPOSITORY[:24], *sorted(REPOSITORY[24:26], key=reading_key), *REPOSITORY[26:]]
    assert found == expected
    groups = [group_of(name) for name in found]
    assert groups == sorted(groups)


def test_a_new_file_leaves_the_others_in_their_order(write: Callable[..., Path]) -> None:
    root = write({name: "x" for name in REPOSITORY})
    before = names(root)
    write({"pkg/a5.py": "x", "tests/test_b.py": "x", "docs/new.md": "x", "aaa/first.py": "x"})
    after = names(root)
    assert [name for name in after if name in before] == before
    assert len(after) == len(before) + 4


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("README", Group.DOCS), ("readme.txt", Group.DOCS), ("requirements-dev.txt", Group.CONFIG),
        ("CMakeLists.txt", Group.CONFIG), ("src/CMakeLists.txt", Group.SOURCES), ("src/notes.txt", Group.DATA),
        ("src/pom.xml", Group.SOURCES), ("src/strings.xml", Group.DATA), ("src/contest.py", Group.SOURCES),
        ("src/latest.py", Group.SOURCES), ("pkg/foo_test.go", Group.TESTS), ("src/test/java/A.java", Group.TESTS),
        ("src/FooTest.java", Group.TESTS), ("spec/a_spec.rb", Group.TESTS), ("examples/one.py", Group.EXAMPLES),
        ("src/examples/one.py", Group.SOURCES), ("licenses.py", Group.SOURCES), ("history.py", Group.SOURCES), 
        ("LICENSE-MIT", Group.DATA), ("changes.rst", Group.DATA),
        (".env.example", Group.HIDDEN), ("src/.hidden/x.py", Group.HIDDEN), ("docs/conf.py", Group.DOCS),
        ("node_modules/", Group.SOURCES),
    ],
)  # fmt: skip
def test_the_part_of_a_repository_follows_from_the_path(path: str, group: Group) -> None:
    assert group_of(path) is group


def test_a_folder_of_books_keeps_its_natural_order_and_has_no_tree(write: Callable[..., Path], tokenizer) -> None:
    root = write({"ch10.txt": "x", "ch2.txt": "x", "README.md": "x", "part 1/ch1.txt": "x", "tests/a.txt": "x"})
    assert names(root) == ["ch2.txt", "ch10.txt", "README.md", "part 1/ch1.txt", "tests/a.txt"]
    assert all(document.document.media_type != TREE_MEDIA_TYPE for document in prepare([root], tokenizer))


def test_each_repository_of_a_collection_is_whole_and_has_its_tree(write: Callable[..., Path], tokenizer) -> None:
    files = {f"{name}/{file}": "x" for name in ("one", "two") for file in ("z.py", "README.md", ".git/HEAD")}
    root = write(files | {"scratch.py": "x", "notes.txt": "x"})
    found = [entry.document.name for entry in prepare([root], tokenizer) if isinstance(entry, EncodedDocument)]
    assert found == [
        "root/notes.txt", "root/scratch.py", "root/one (files)", "root/one/README.md", "root/one/z.py",
        "root/two (files)", "root/two/README.md", "root/two/z.py",
    ]  # fmt: skip


def test_the_tree_is_the_first_document(write: Callable[..., Path], tokenizer) -> None:
    root = write({"app.py": "x", "lib/b.py": "x", "lib/deep/c10.py": "x", "lib/deep/c2.py": "x", ".env": "SECRET=1"})
    tree, *files = prepare([root], tokenizer)
    assert isinstance(tree, EncodedDocument)
    assert tree.document.name == "root (files)"
    assert tree.document.media_type == TREE_MEDIA_TYPE
    assert tree.document.text == (
        "The files of root, folder by folder:\napp.py\nlib/\n  b.py\nlib/deep/\n  c2.py\n  c10.py\n"
    )
    assert tree.num_tokens > 0
    assert len(files) == 5


def test_the_tree_does_not_change_when_a_file_is_edited(write: Callable[..., Path], tokenizer) -> None:
    root = write({"a.py": "x", "b.py": "x"})
    first = next(iter(prepare([root], tokenizer)))
    (root / "a.py").write_text("much longer than before")
    assert next(iter(prepare([root], tokenizer))) == first


def test_the_tree_of_a_huge_repository_is_bounded() -> None:
    paths = [f"pkg{folder}/part{part}/file{file}.py" for folder in range(40) for part in range(5) for file in range(50)]
    few_files = file_tree("big", paths)
    assert len(few_files.text) <= MAX_TREE_CHARS
    assert "pkg39/part4/\n" in few_files.text
    assert "… " in few_files.text
    deep = [f"a{n}/{'sub/' * 20}file.py" for n in range(400)]
    by_count = file_tree("deep", deep).text
    assert len(by_count) <= MAX_TREE_CHARS
    assert "a399/" in by_count
    wide = file_tree("wide", [f"{'x' * 60}{number}/a.py" for number in range(100_000)])
    assert len(wide.text) <= MAX_TREE_CHARS
    assert "more folders" in wide.text
    assert file_tree("big", list(reversed(paths))) == few_files
