"""The repository keeps its own rules: those of ruff and mypy, and documented parameters."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MIN_LISTED_PARAMETERS = 4

Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=["ruff", "format", "mypy"]
)
def test_the_checker_has_no_complaint(command, root):
    done = subprocess.run([sys.executable, "-m", *command], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["app", "sala_core", "kernels/sala_kernels"])
def test_public_functions_with_four_or_more_parameters_list_them_under_args(folder, root):
    unlisted = [
        f"{file.relative_to(root)}:{function.lineno} {function.name}: {', '.join(missing)}"
        for file in sorted((root / folder).rglob("*.py"))
        if not is_kernel_file(file)
        for function in public_functions(ast.parse(file.read_text(encoding="utf-8")))
        if (missing := unlisted_parameters(function))
    ]
    assert unlisted == []


FUNCTION = '''
def f(a, b, c, d, *, e):
    """Text.

    Args:
        a, b: lengths.
        c: a text that goes on
            d: in the next line.
    """
'''


def test_a_parameter_that_is_not_listed_is_found():
    (function,) = public_functions(ast.parse(FUNCTION))
    assert unlisted_parameters(function) == ["d", "e"]


def is_kernel_file(file: Path) -> bool:
    """Whether a file holds Triton kernels, whose parameters are pointers and strides."""
    return "sala_kernels" in file.parts and re.fullmatch(r"kernels(_\w+)?\.py", file.name) is not None


def public_functions(node: ast.AST) -> Iterator[Function]:
    """Functions and methods, and each `__init__`, that no underscore, `@triton.jit` or `@override` exempts."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public_functions(child)
        elif isinstance(child, Function):
            decorators = [ast.unparse(decorator) for decorator in child.decorator_list]
            is_exempt = any("override" in text or text.startswith("triton") for text in decorators)
            is_public = child.name == "__init__" or not child.name.startswith("_")
            if is_public and not is_exempt:
                yield child


def unlisted_parameters(function: Function) -> list[str]:
    """Parameters that the docstring does not list; none if the function has few of them."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    names = [argument.arg for argument in every if argument.arg not in ("self", "cls", "ctx")]
    listed = listed_parameters(ast.get_docstring(function) or "")
    return [name for name in names if name not in listed] if len(names) >= MIN_LISTED_PARAMETERS else []


def listed_parameters(docstring: str) -> set[str]:
    """The names before the colons of the section `Args:`; several names may share a line."""
    section = re.search(r"^Args:\n((?:    .*\n?)*)", docstring, re.MULTILINE)
    lines = section[1].splitlines() if section else []
    entries = [match[1] for line in lines if (match := re.match(r" {4}(\w[\w, *]*):", line))]
    return {name.strip().lstrip("*") for entry in entries for name in entry.split(",")}
