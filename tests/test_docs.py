"""The documents: what they name exists, their links lead somewhere, and the core's README names every module."""

import ast
import re
from pathlib import Path

MAX_README_LINES = 150

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DEFINITION = re.compile(r"`([\w/]+\.py)`:\s+((?:`[\w.]+`(?:,\s+)?)+)")
"""A module, then what it defines: `session/session.py`: `Session.read`, `Session.ask`."""

FOLDERS = (".github", "app", "assets", "kernels", "sala_core", "tests")
NOT_DOCUMENTS = "assets/quantize/"  # calibration texts


def documents(root: Path) -> list[Path]:
    """Every Markdown file of the repository, relative to its root."""
    found = [*root.glob("*.md"), *(file for folder in FOLDERS for file in (root / folder).rglob("*.md"))]
    names = sorted(file.relative_to(root) for file in found)
    return [name for name in names if not name.as_posix().startswith(NOT_DOCUMENTS)]


def named_paths(text: str) -> set[str]:
    """Modules and folders in inline code; words in capitals stand for any name."""
    words = {word for code in CODE.findall(FENCE.sub("", text)) for word in code.split()}
    return {word for word in words if re.fullmatch(r"\.?[\w./-]+(\.py|[a-z]/)", word) and "//" not in word}


def exists(root: Path, document: Path, path: str) -> bool:
    """Whether a path is in the repository: below the document's folder, the root or `sala_core/`. A name without a
    folder may be in any folder."""
    pattern = re.sub(r"(?<![A-Za-z])[A-Z]{2,}(?![a-z])", "*", path.rstrip("/"))
    bases = [(root / document).parent, root, root / "sala_core"]
    found = [base.glob(pattern) for base in bases]
    if "/" not in path:
        found += [(root / folder).rglob(pattern) for folder in FOLDERS]
    return any(next(files, None) is not None for files in found)


def anchors(text: str) -> set[str]:
    """The names that links to headings use."""
    titles = HEADING.findall(FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def definitions(file: Path) -> set[str]:
    """Functions, classes and their methods that a module defines, as `name` or `Class.name`."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return found


def test_every_module_and_folder_that_a_document_names_exists(root):
    wrong = [
        f"{document}: {path}"
        for document in documents(root)
        for path in sorted(named_paths((root / document).read_text(encoding="utf-8")))
        if not exists(root, document, path)
    ]
    assert wrong == []


def test_every_name_in_the_recipes_stands_in_the_code(root):
    text = (root / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Style")[0]
    names = {code for code in CODE.findall(FENCE.sub("", text)) if re.fullmatch(r"_?[A-Za-z]\w+", code)} - {"NAME"}
    files = [file for folder in ("app", "sala_core", "kernels") for file in (root / folder).rglob("*.py")]
    words = set(re.findall(r"\w+", "\n".join(file.read_text(encoding="utf-8") for file in files)))
    assert sorted(names - words) == []


def test_every_link_leads_to_a_file_and_a_heading(root):
    wrong = []
    for name in documents(root):
        for link in LINK.findall(FENCE.sub("", (root / name).read_text(encoding="utf-8"))):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (root / name.parent / path).resolve() if path else root / name
            if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
                wrong.append(f"{name}: {link}")
    assert wrong == []


def test_the_core_readme_names_every_module(root):
    text = (root / "sala_core" / "README.md").read_text(encoding="utf-8")
    listed = set()
    for section in re.split(r"^##+ ", text, flags=re.MULTILINE):
        heading, *lines = section.splitlines()
        if folder := re.fullmatch(r"`(sala_core/.*)`", heading):
            listed |= {folder[1] + CODE.findall(line)[0] for line in lines if line.startswith("- `")}
    modules = {file.relative_to(root).as_posix() for file in (root / "sala_core").rglob("*.py")}
    assert listed == {name for name in modules if not name.endswith("/__init__.py")}


def test_the_core_readme_names_functions_that_their_modules_define(root):
    text = (root / "sala_core" / "README.md").read_text(encoding="utf-8")
    found = [(path, name) for path, names in DEFINITION.findall(text) for name in CODE.findall(names)]
    assert len(found) > 20
    wrong = []
    for path, name in found:
        file = root / path if path.startswith("app/") else root / "sala_core" / path
        if not file.exists() or name not in definitions(file):
            wrong.append(f"{path}: {name}")
    assert wrong == []


def test_every_promise_on_security_names_tests_that_exist(root):
    text = (root / ".github" / "SECURITY.md").read_text(encoding="utf-8")
    promises = text.partition("## What is protected")[2].partition("\nNetwork:")[0].split("\n- **")[1:]
    assert len(promises) > 8
    assert [promise.partition(".")[0] for promise in promises if "tests/" not in promise] == []
    for name in re.findall(r"`(tests/[\w/]+\.py::\w+)`", text):
        file, _, test = name.partition("::")
        assert (root / file).exists(), name
        assert test in definitions(root / file), name


def test_the_readme_is_short(root):
    assert len((root / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_a_wrong_path_or_heading_is_found(root):
    assert named_paths("see `python3 launch.py read` in `app/commands/` and `x = 1`, `~/models/`") == {
        "launch.py",
        "app/commands/",
    }
    assert not exists(root, Path("README.md"), "sala_core/cellar.py")
    assert exists(root, Path("README.md"), "tests/sala_kernels/test_NAME.py")
    assert anchors("## What fits on a card\n```\n# no heading\n```\n") == {"what-fits-on-a-card"}
