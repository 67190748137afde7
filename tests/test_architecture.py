"""The architecture: folders on floors, imports that point down, no circles, and folders and files of bounded size."""

import ast
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGES = {"app": "app", "sala_core": "sala_core", "sala_kernels": "kernels/sala_kernels"}
"""Package -> its folder."""

FLOORS = (
    ("sala_kernels",),
    ("sala_core.assets", "sala_core.errors"),
    ("sala_core.disk", "sala_core.ingest", "sala_core.text"),
    ("sala_core.events", "sala_core.model"),
    ("sala_core.evidence", "sala_core.store"),
    ("sala_core.engine",),
    ("sala_core.session", "sala_core.quantize", "sala_core.train", "sala_core.evals"),
    ("sala_core.bench",),
    ("sala_core",),
    ("app", "app.grammar", "app.wording"),
    ("app.setup", "app.page"),
    ("app.server", "app.commands"),
    ("app.cli",),
)
"""Rooms from the ground up. A room is a folder or a module of `app` and `sala_core`, or all of the kernels; it may
import what is on lower floors, and nothing beside it. `sala_core` and `app` stand for their `__init__.py`."""

STANDARD_LIBRARY_ONLY = ("app", "app.grammar", "app.setup")
"""What runs before the environment exists."""

MAX_MODULES = 16
MAX_LINES = 400

Graph = dict[str, set[str]]


def sources(root: Path) -> dict[str, Path]:
    """Module name -> file, for all three packages."""
    found = {}
    for package, folder in PACKAGES.items():
        for file in (root / folder).rglob("*.py"):
            parts = (package, *file.relative_to(root / folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(name: str, file: Path) -> set[str]:
    """Everything a module imports, also inside functions and under `if TYPE_CHECKING`; `from a import b` counts as a
    and a.b, and a name in `_EXPORTS` (a lazy `__init__`) as the module that it comes from."""
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
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and names(node) == ["_EXPORTS"]:
            found |= set(ast.literal_eval(node.value).values())
    return found


def names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def room(module: str) -> str:
    """The room that a module of ours is in."""
    parts = module.split(".")
    return "sala_kernels" if parts[0] == "sala_kernels" else ".".join(parts[:2])


def floor(name: str) -> int:
    """The floor of a room. Raises ValueError for a room that FLOORS does not have."""
    for number, rooms in enumerate(FLOORS):
        if name in rooms:
            return number
    raise ValueError(f"{name} is on no floor; add it to FLOORS")


@pytest.fixture(scope="module")
def files() -> dict[str, Path]:
    return sources(Path(__file__).resolve().parent.parent)


@pytest.fixture(scope="module")
def graph(files) -> Graph:
    """Module -> the modules of ours that it imports; of `from a import b` a itself only where b is no module."""
    edges: Graph = {}
    for name, file in files.items():
        targets = imported(name, file) & set(files)
        submodules = {target.rpartition(".")[0] for target in targets}
        edges[name] = {target for target in targets if target not in submodules or not is_package(target, files)}
    return edges


def is_package(name: str, files: dict[str, Path]) -> bool:
    return files[name].name == "__init__.py"


def upward(graph: Graph) -> list[str]:
    """Imports that run to the same floor or a higher one, from another room."""
    return [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in sorted(targets)
        if room(target) != room(name) and floor(room(target)) >= floor(room(name))
    ]


def test_imports_point_down(graph):
    assert upward(graph) == []


def test_every_room_is_on_one_floor(graph):
    counted = Counter(name for rooms in FLOORS for name in rooms)
    assert counted == Counter({room(name) for name in graph})


def test_an_upward_import_is_found():
    assert upward({"sala_core.model.state": {"sala_core.engine.decode"}})
    assert upward({"sala_core.disk.files": {"sala_core.text.prompt"}}), "beside is not below"
    assert not upward({"sala_core.engine.decode": {"sala_core.model.state", "sala_core.engine.sampling"}})
    with pytest.raises(ValueError, match="no floor"):
        upward({"sala_core.cellar.wine": {"sala_core.errors"}})


def test_an_import_inside_a_function_counts(tmp_path):
    module = tmp_path / "late.py"
    module.write_text("def f():\n    from sala_core.engine import decode\n    import app.cli\n")
    assert imported("sala_core.text.late", module) >= {"sala_core.engine.decode", "app.cli"}


def test_there_are_no_circles(graph, files):
    """A package's `__init__` that gathers its modules' names is not a module of its own here."""
    modules = {name for name in graph if not is_package(name, files)}
    assert first_circle({name: sorted(graph[name] & modules) for name in modules}) is None


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


def test_no_folder_holds_too_many_modules(files):
    counted = Counter(file.parent for file in files.values() if file.name != "__init__.py")
    assert {str(folder): count for folder, count in counted.items() if count > MAX_MODULES} == {}


def test_no_file_is_too_long(files, root):
    scripts = [file for file in (root / "assets" / "page").iterdir() if file.suffix in (".js", ".css")]
    lines = {str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in [*files.values(), *scripts]}
    assert {file: count for file, count in lines.items() if count > MAX_LINES} == {}


def test_the_page_knows_no_tensor(files):
    wrong = [
        f"{name} imports {target}"
        for name, file in files.items()
        for target in imported(name, file)
        if name.split(".")[0] == "app" and target.split(".")[0] in ("torch", "numpy", "safetensors", "transformers")
    ]
    assert wrong == []


def test_the_launcher_needs_only_the_standard_library(files, root):
    rooms = {name: file for name, file in files.items() if room(name) in STANDARD_LIBRARY_ONLY}
    for name, file in [*rooms.items(), ("launch", root / "launch.py")]:
        for target in imported(name, file) - ({"app.cli", "app.cli.run"} if name == "launch" else set()):
            is_own = target in files or target.rpartition(".")[0] in files
            allowed = (
                room(target) in STANDARD_LIBRARY_ONLY if is_own else target.split(".")[0] in sys.stdlib_module_names
            )
            assert allowed, f"{name} imports {target}"


def test_no_top_level_module_is_named_kernels(root):
    assert not (root / "kernels" / "__init__.py").exists()
    assert not (root / "kernels.py").exists()


def test_no_path_of_one_machine_is_written_down(root):
    pattern = re.compile(r"[\"'\s(](/home/\w|/Users/\w|/root/|/work/|/opt/pypi|[A-Z]:\\\\Users)")
    folders = ("app", "sala_core", "kernels", "tests", ".ci")
    written = [
        file
        for folder in folders
        for file in (root / folder).rglob("*")
        if file.suffix in (".py", ".js", ".css", ".sh", "")
    ]
    written += [*root.glob("*.py"), *root.glob("*.md"), *root.glob("*.toml")]
    wrong = []
    for file in written:
        if file.is_file() and file != Path(__file__).resolve():
            text = file.read_text(encoding="utf-8", errors="replace")
            wrong += [f"{file.relative_to(root)}: {match[0]}" for match in pattern.finditer(text)]
    assert wrong == []
