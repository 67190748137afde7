"""The shape of the whole: imports point down, without circles, and nothing is tied to one machine."""

import ast
import re
import sys
from pathlib import Path

import pytest

LAYERS = {"app": 2, "sala_core": 1, "sala_kernels": 0}


def sources(root: Path) -> dict[str, Path]:
    """Module name -> file, for all three packages."""
    places = {
        "app": root / "app",
        "sala_core": root / "sala_core",
        "sala_kernels": root / "kernels" / "sala_kernels",
    }
    found = {}
    for package, folder in places.items():
        for file in folder.rglob("*.py"):
            parts = (package, *file.relative_to(folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(name: str, file: Path) -> set[str]:
    """Everything a module imports, wherever in the file; `from a import b` counts as a and a.b. Names in
    `if TYPE_CHECKING` count too."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    root = Path(__file__).resolve().parent.parent
    return {name: imported(name, file) for name, file in sources(root).items()}


def test_there_is_something_to_check(graph):
    assert {name.split(".")[0] for name in graph} == set(LAYERS)


def test_imports_point_down(graph):
    wrong = [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in sorted(targets)
        if LAYERS.get(target.split(".")[0], -1) > LAYERS[name.split(".")[0]]
    ]
    assert wrong == []


def test_the_page_knows_no_tensor(graph):
    wrong = [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in targets
        if name.split(".")[0] == "app" and target.split(".")[0] in ("torch", "numpy", "safetensors", "transformers")
    ]
    assert wrong == []


@pytest.mark.parametrize(("room", "above"), [("store", "engine"), ("ingest", "engine"), ("ingest", "store")])
def test_rooms_of_the_core_point_down_too(graph, room, above):
    wrong = [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in targets
        if name.startswith(f"sala_core.{room}") and (target + ".").startswith(f"sala_core.{above}.")
    ]
    assert wrong == []


def test_the_core_has_no_circles(graph):
    """A package's `__init__` that gathers its modules' names is not a module of its own here."""
    core = {name for name in graph if name.startswith("sala_core.") and not is_package(name, graph)}
    edges = {name: sorted(graph[name] & core) for name in core}
    assert first_circle(edges) is None


def is_package(name: str, graph: dict[str, set[str]]) -> bool:
    return any(other.startswith(name + ".") for other in graph)


def first_circle(edges: dict[str, list[str]]) -> list[str] | None:
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str] | None:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return None
        for target in edges.get(name, []):
            if circle := visit(target, [*trail, name]):
                return circle
        done.add(name)
        return None

    return next((circle for name in sorted(edges) if (circle := visit(name, []))), None)


def test_the_circle_finder_finds_circles():
    assert first_circle({"a": ["b"], "b": ["c"], "c": ["a"]}) == ["a", "b", "c", "a"]
    assert first_circle({"a": ["b", "c"], "b": ["c"], "c": []}) is None


def test_no_top_level_module_is_named_kernels(root):
    assert not (root / "kernels" / "__init__.py").exists()
    assert not (root / "kernels.py").exists()


def test_the_launcher_needs_only_the_standard_library(root):
    for name in (
        "launch.py",
        "app/__init__.py",
        *(f"app/{file.name}" for file in (root / "app").glob("arguments*.py")),
        "app/environment.py",
        "app/install_lock.py",
        "app/install_log.py",
    ):
        own = {"app.arguments", "app.environment", "app.install_lock", "app.install_log", "app.cli"}
        for target in imported(f"app.{Path(name).stem}", root / name):
            top = target.split(".")[0]
            is_own = top == "app" and target.startswith(tuple(own))
            assert is_own or top in sys.stdlib_module_names, f"{name} imports {target}"


def test_no_path_of_one_machine_is_written_down(root):
    pattern = re.compile(r"[\"'\s(](/home/\w|/Users/\w|/root/|/work/|/opt/pypi|[A-Z]:\\\\Users)")
    folders = ("app", "sala_core", "kernels", "tests", ".ci")
    files = [
        file
        for folder in folders
        for file in (root / folder).rglob("*")
        if file.suffix in (".py", ".js", ".css", ".sh", "")
    ]
    files += [*root.glob("*.py"), *root.glob("*.md"), *root.glob("*.toml")]
    wrong = []
    for file in files:
        if file.is_file() and file != Path(__file__).resolve():
            text = file.read_text(encoding="utf-8", errors="replace")
            wrong += [f"{file.relative_to(root)}: {match[0]}" for match in pattern.finditer(text)]
    assert wrong == []
