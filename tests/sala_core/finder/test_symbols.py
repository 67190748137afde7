"""Names in code: which questions are about one, and where texts define and use it, beside what Python itself says."""

import ast
import re
import sysconfig
from collections import defaultdict
from pathlib import Path

import pytest

from sala_core.finder.symbols import SymbolQuestion, find_symbol, symbol_question


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What does read_file do?", SymbolQuestion(name="read_file")),
        ("what is `retry`?", SymbolQuestion(name="retry")),
        ("Where is readFile() defined?", SymbolQuestion(name="readFile")),
        ("Explain Reader::open", SymbolQuestion(name="open", owner="Reader")),
        ("What does the method `Reader.open` return?", SymbolQuestion(name="open", owner="Reader", details=True)),
        ("Which arguments does the function open take?", SymbolQuestion(name="open", details=True)),
        ("Who calls read_file?", SymbolQuestion(name="read_file", uses=True)),
        ("Where is MAX_SIZE used?", SymbolQuestion(name="MAX_SIZE", uses=True)),
        ("What is read_file used for?", SymbolQuestion(name="read_file")),
        ("How do I use read_file?", SymbolQuestion(name="read_file")),
        ("What happens when read_file is called too often?", None),
        ("Should I use read_file or read_text?", None),
        ("Which class queues questions?", None),
        ("Which function opens a file?", None),
        ("May a package have an __init__.py?", None),
        ("Is crates.io down?", None),
        ("Where had young McCarthy been before?", None),
        ("Who is the ferryman?", None),
    ],
)
def test_a_question_about_a_name_is_known_by_its_form(question, expected):
    assert symbol_question(question) == expected


DEFINED = {
    "a.py": ("@cached\nasync def seek(a, b=(1, 2)):\n    '''Go there.\n\n    More.'''\n    return a\n", "Go there."),
    "a.js": ("/** Go there. */\nexport default async function seek(a, b) {\n  return a;\n}\n", "Go there."),
    "b.js": ("class A {\n  // Go there.\n  seek(a) {\n    return a;\n  }\n}\n", "Go there."),
    "c.js": ("// Go there.\nexport const seek = (a) => {\n  return a;\n};\n", "export const seek = (a) =>"),
    "a.ts": ("export interface seek {\n  a: number;\n}\n", "export interface seek"),
    "a.rs": ("/// Go there.\n#[inline]\npub(crate) fn seek<T>(a: T) -> T {\n    a\n}\n", "Go there."),
    "a.go": ("// Go there.\nfunc (f *File) seek(a int) int {\n\treturn a\n}\n", "func (f *File) seek(a int) int"),
    "a.c": ("/* Go there. */\nstatic int *seek(struct file *f,\n          int a)\n{\n  return a;\n}\n", "int a)"),
    "b.c": ("#define seek(a) ((a) + 1)\n", "#define seek(a) ((a) + 1)"),
    "a.java": ("  public static List<String> seek(int a) throws Bad {\n    return a;\n  }\n", "throws Bad"),
    "a.kt": ("override fun seek(a: Int): Int {\n    return a\n}\n", "override fun seek(a: Int): Int"),
    "b.py": ("seek = {\n    'a': 1,\n    'b': 2,\n}\n", "'b': 2,\n}"),
}
CALLS = "  x = seek(1);\n  if (seek(2)) {\n    return seek (3);\n  }\n  new Seek(seek);\n"


@pytest.mark.parametrize("name", DEFINED)
def test_definitions_are_found_with_their_documentation_in_many_languages(name):
    text, part = DEFINED[name]
    found = find_symbol(SymbolQuestion(name="seek"), [CALLS, text], ["calls", name])
    assert not found.are_uses
    (place,) = found.places
    assert place.text == 1
    assert part in text[place.start : place.end]
    assert "return a" not in text[place.start : place.end], "the body is not quoted"
    assert text[slice(*place.context)].rstrip() in text
    if "return a" in text:
        assert "return a" in text[slice(*place.context)], "but it is the context"


TEXT = '''"""seek(1) is how it is called."""
from files import seek


def seek(a):
    """Go there. See seek(2)."""


class File:
    def seek(self, a):
        """Go there in a file."""
        return seek(a)  # of the module

    def rest(self):
        # seek(3)
        handler = seek
        return self.seek(4), seeker(5)
'''


def test_uses_are_calls_outside_of_imports_comments_and_strings():
    found = find_symbol(SymbolQuestion(name="seek", uses=True), [TEXT], ["files.py"])
    assert found.are_uses
    lines = [(TEXT[place.start : place.end], place.inside) for place in found.places]
    assert lines == [("return seek(a)  # of the module", "seek"), ("return self.seek(4), seeker(5)", "rest")]


def test_the_owner_of_a_method_or_the_name_of_a_module_chooses_among_definitions():
    def found(question):
        places = find_symbol(symbol_question(question), [TEXT, "def seek(): ..."], ["files.py", "other.py"]).places
        return [(place.text, place.inside) for place in places]

    assert found("What does File.seek do?") == [(0, "File")]
    assert found("What does other.seek do?") == [(1, "")]
    assert found("What does Nobody.seek do?") == found("What does `seek` do?") == [(0, ""), (0, "File"), (1, "")]


def test_a_name_that_is_only_used_or_never_used_is_told_apart():
    assert find_symbol(SymbolQuestion(name="seek", uses=True), [CALLS], ["a.c"]).places == ()
    unused = find_symbol(SymbolQuestion(name="seek", uses=True), ["def seek(a): ..."], ["a.py"])
    assert (len(unused.places), unused.are_uses) == (1, False)


def test_long_definitions_and_minified_lines_end():
    text = "def seek(\n" + "    argument,\n" * 2000 + "):\n    pass\n" + "a b c " * 50_000 + "seek(1)\n"
    found = find_symbol(SymbolQuestion(name="seek"), [text], ["a.py"])
    assert all(place.end - place.start <= 800 for place in found.places)
    assert all(place.context[1] - place.context[0] <= 1200 for place in found.places)


def test_names_of_pythons_library_are_found_where_python_defines_and_calls_them():
    folder = Path(sysconfig.get_path("stdlib"))
    names = ("argparse.py", "queue.py", "heapq.py", "tempfile.py", "textwrap.py", "shutil.py", "asyncio/queues.py")
    texts = [(folder / name).read_text(encoding="utf-8") for name in names]
    defined, called = defaultdict(set), defaultdict(set)
    for number, text in enumerate(texts):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                defined[node.name].add((number, node.lineno))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                called[name].add((number, node.func.end_lineno))
    extra = right = 0
    for name, places in defined.items():
        found = find_symbol(SymbolQuestion(name=name), texts, names).places
        head = re.compile(rf"(?:def|class) {name}\b")
        heads = {(place.text, head.search(texts[place.text], place.start).start()) for place in found}
        assert {(text, texts[text].count("\n", 0, at) + 1) for text, at in heads} == places, name
        uses = find_symbol(SymbolQuestion(name=name, uses=True), texts, names)
        if uses.are_uses:
            lines = {(place.text, texts[place.text].count("\n", 0, place.start) + 1) for place in uses.places}
            assert called[name] <= lines or not called[name], name
            right += len(lines & called[name])
            extra += len(lines - called[name]) if called[name] else 0
    assert right > 300
    assert extra <= 0.02 * right


@pytest.mark.timeout(20)
def test_very_many_uses_and_definitions_take_linear_time():
    many = "".join(f"def f{i}():\n    return seek({i})\n" for i in range(20_000))
    line = "seek(1); " * 100_000 + "\ndef seek():\n    pass\n"
    asked = SymbolQuestion(name="seek", uses=True)
    assert len(find_symbol(asked, [many + "def seek(): ...\n"], ["a.py"]).places) == 20_000
    assert len(find_symbol(asked, [line], ["a.py"]).places) == 1
