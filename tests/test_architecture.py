"""The architecture: layers of components, imports that point down, no import cycles, one error tree, size limits."""

import ast
import builtins
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from setuptools import find_packages

PACKAGES = {"app": "app", "sala_core": "sala_core", "sala_kernels": "kernels/sala_kernels"}
"""Package -> its folder."""

LAYERS = (
    ("sala_kernels",),
    ("sala_core.assets", "sala_core.attention_map", "sala_core.errors", "sala_core.stopping", "sala_core.written_by"),
    ("sala_core.disk", "sala_core.finder", "sala_core.ingest", "sala_core.text"),
    ("sala_core.events", "sala_core.model"),
    ("sala_core.evidence", "sala_core.remote", "sala_core.store"),
    ("sala_core.engine",),
    ("sala_core.session", "sala_core.quantize", "sala_core.train", "sala_core.evals", "sala_core.hub"),
    ("sala_core.bench", "sala_core.suggestions", "sala_core.viewing"),
    ("sala_core.doctor",),
    ("sala_core",),
    ("app", "app.grammar", "app.wording"),
    ("app.remote",),
    ("app.setup", "app.page"),
    ("app.server", "app.commands"),
    ("app.cli",),
)
"""Layers of components, the lowest first. A component is a folder or a module of `app` or `sala_core`, or all of the
kernels. It may import components of lower layers, but none of its own layer. `sala_core` and `app` stand for their
`__init__.py`."""

OUTSIDE_THE_ERROR_TREE = {
    "app.server.engine_for_others.access.AccessError": "becomes a response with status 401",
    "app.server.engine_for_others.bodies.LimitError": "becomes a response with status 413",
    "app.setup.environment.SetupError": "raised before the environment exists, so before `sala_core` can be imported",
    "app.server.api.errors.ApiError": "becomes a response in the form that OpenAI's clients expect",
    "sala_core.bench.child.ChildFailed": "a measurement process failed; the run records it and goes on",
    "sala_core.bench.child.ChildOutOfMemory": "a measurement process ran out of memory; the run records it and goes on",
    "sala_core.evals.endpoint._Busy": "the server is busy; the request is sent again",
    "sala_core.ingest.parser_process.ReadingStoppedError": "ends a reading that was asked to stop",
    "sala_core.ingest.parsers.ocr.tesseract.RecognitionError": "a page is not recognized; the receipt tells why",
    "sala_core.ingest.parsers.result.ParseError": "crosses from a parser to its process, which reports it as text",
    "sala_core.model.chunk_pipeline.PipelineAborted": "wakes the threads that wait for one that failed",
    "sala_core.quantize.solver.QuantizeStopped": "ends a run that was asked to stop",
}
"""Exception class -> why it is no SalaError. All but the first are caught inside their own package."""

STANDARD_LIBRARY_ONLY = ("app", "app.grammar", "app.setup")
"""Components that run before the environment exists."""

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
    """Return everything that a module imports, also inside functions and under `if TYPE_CHECKING`.

    `from a import b` counts as a and a.b. A name in `_EXPORTS` (a lazy `__init__`) counts as its module.
    """
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


def component(module: str) -> str:
    """The component that a module of this program belongs to."""
    parts = module.split(".")
    return "sala_kernels" if parts[0] == "sala_kernels" else ".".join(parts[:2])


def layer(name: str) -> int:
    """The number of a component's layer. Raises ValueError for a component that LAYERS does not have."""
    for number, components in enumerate(LAYERS):
        if name in components:
            return number
    raise ValueError(f"{name} is in no layer; add it to LAYERS")


@pytest.fixture(scope="module")
def files() -> dict[str, Path]:
    return sources(Path(__file__).resolve().parent.parent)


@pytest.fixture(scope="module")
def graph(files) -> Graph:
    """Module -> the modules of this program that it imports. `from a import b` imports a only if b is no module."""
    edges: Graph = {}
    for name, file in files.items():
        targets = imported(name, file) & set(files)
        submodules = {target.rpartition(".")[0] for target in targets}
        edges[name] = {target for target in targets if target not in submodules or not is_package(target, files)}
    return edges


def is_package(name: str, files: dict[str, Path]) -> bool:
    return files[name].name == "__init__.py"


def upward(graph: Graph) -> list[str]:
    """Imports of another component in the same layer or a higher one."""
    return [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in sorted(targets)
        if component(target) != component(name) and layer(component(target)) >= layer(component(name))
    ]


def test_imports_point_down(graph):
    assert upward(graph) == []


def test_every_component_is_in_exactly_one_layer(graph):
    counted = Counter(name for components in LAYERS for name in components)
    assert counted == Counter({component(name) for name in graph})


def test_an_upward_import_is_found():
    assert upward({"sala_core.model.state": {"sala_core.engine.decode"}})
    assert upward({"sala_core.disk.files": {"sala_core.text.prompt"}}), "the same layer is not a lower one"
    assert not upward({"sala_core.engine.decode": {"sala_core.model.state", "sala_core.engine.sampling"}})
    with pytest.raises(ValueError, match="no layer"):
        upward({"sala_core.cellar.wine": {"sala_core.errors"}})


def test_an_import_inside_a_function_counts(tmp_path):
    module = tmp_path / "late.py"
    module.write_text("def f():\n    from sala_core.engine import decode\n    import app.cli\n")
    assert imported("sala_core.text.late", module) >= {"sala_core.engine.decode", "app.cli"}


def test_there_are_no_import_cycles(graph, files):
    """An `__init__` that only exports the names of its modules does not count as a module here."""
    modules = {name for name in graph if not is_package(name, files)}
    assert first_cycle({name: sorted(graph[name] & modules) for name in modules}) is None


def first_cycle(edges: dict[str, list[str]]) -> list[str] | None:
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str] | None:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return None
        for target in edges.get(name, []):
            if cycle := visit(target, [*trail, name]):
                return cycle
        done.add(name)
        return None

    return next((cycle for name in sorted(edges) if (cycle := visit(name, []))), None)


def test_the_cycle_finder_finds_cycles():
    assert first_cycle({"a": ["b"], "b": ["c"], "c": ["a"]}) == ["a", "b", "c", "a"]
    assert first_cycle({"a": ["b", "c"], "b": ["c"], "c": []}) is None


def test_no_folder_holds_too_many_modules(files):
    counted = Counter(file.parent for file in files.values() if file.name != "__init__.py")
    assert {str(folder): count for folder, count in counted.items() if count > MAX_MODULES} == {}


def test_no_file_is_too_long(files, root):
    scripts = [file for file in (root / "assets" / "page").iterdir() if file.suffix in (".js", ".css")]
    lines = {str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in [*files.values(), *scripts]}
    assert {file: count for file, count in lines.items() if count > MAX_LINES} == {}


def exception_classes(files: dict[str, Path]) -> dict[str, str]:
    """Exception class -> its base, both as module.Class; a builtin base by its name alone."""
    bases: dict[str, str] = {}
    for name, file in files.items():
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
        imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
        origin = {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}
        origin |= {node.name: f"{name}.{node.name}" for node in classes}
        for node in classes:
            if node.bases and isinstance(node.bases[0], ast.Name):
                bases[origin[node.name]] = origin.get(node.bases[0].id, node.bases[0].id)
    return {name: base for name, base in bases.items() if is_exception(name, bases)}


def is_exception(name: str, bases: dict[str, str]) -> bool:
    """Whether the class's chain of bases ends at a builtin exception."""
    while name in bases:
        name = bases[name]
    builtin = getattr(builtins, name, None)
    return isinstance(builtin, type) and issubclass(builtin, BaseException)


def drawn_tree(docstring: str) -> dict[str, str]:
    """Class -> its base, read from the tree that a docstring draws with box characters."""
    lines = [match for line in docstring.splitlines() if (match := re.fullmatch(r"([ │├└─]*)(\w+Error)", line))]
    tree, path = {}, ["Exception"]
    for prefix, name in (match.groups() for match in lines):
        depth = 1 + (len(prefix) - len(lines[0][1])) // 4
        tree[name] = path[depth - 1]
        path[depth:] = [name]
    return tree


def test_there_is_one_error_tree_and_its_docstring_draws_it(files):
    classes = exception_classes(files)
    tree = {name: base for name, base in classes.items() if name not in OUTSIDE_THE_ERROR_TREE}
    assert {name for name in tree if not name.startswith("sala_core.errors.")} == set()
    short = {name.rpartition(".")[2]: base.rpartition(".")[2] for name, base in tree.items()}
    docstring = ast.get_docstring(ast.parse(files["sala_core.errors"].read_text(encoding="utf-8")))
    assert drawn_tree(docstring) == short
    assert [name for name, base in short.items() if base not in short] == ["SalaError"]


def test_what_is_outside_the_error_tree_exists_and_is_outside(files):
    classes = exception_classes(files)
    for name in OUTSIDE_THE_ERROR_TREE:
        assert classes.get(name) == "Exception", name


def test_the_page_knows_no_tensor(files):
    wrong = [
        f"{name} imports {target}"
        for name, file in files.items()
        for target in imported(name, file)
        if name.split(".")[0] == "app" and target.split(".")[0] in ("torch", "numpy", "safetensors", "transformers")
    ]
    assert wrong == []


def test_the_launcher_needs_only_the_standard_library(files, root):
    modules = {name: file for name, file in files.items() if component(name) in STANDARD_LIBRARY_ONLY}
    for name, file in [*modules.items(), ("launch", root / "launch.py")]:
        for target in imported(name, file) - ({"app.cli", "app.cli.run"} if name == "launch" else set()):
            if target in files or target.rpartition(".")[0] in files:
                assert component(target) in STANDARD_LIBRARY_ONLY, f"{name} imports {target}"
            else:
                assert target.split(".")[0] in sys.stdlib_module_names, f"{name} imports {target}"


def test_an_installation_has_every_package_and_its_types(files, root):
    setup = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    find = setup["packages"]["find"]
    installed = {name for where in find["where"] for name in find_packages(str(root / where), include=find["include"])}
    assert installed == {name for name in files if is_package(name, files)}
    assert {name for name in files if name not in installed and name.rpartition(".")[0] not in installed} == set()
    assert "py.typed" in setup["package-data"]["*"]
    assert [folder for folder in PACKAGES.values() if not (root / folder / "py.typed").is_file()] == []


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
