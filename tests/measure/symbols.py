"""Whether names in code are found where Python itself finds them: definitions, and the lines that call them.

    python tests/measure/symbols.py [FOLDER] [--files N] [--names N]

Asks about random names that the files of a folder define (the standard library without one); `ast` is the reference.
"""

import argparse
import ast
import re
import sysconfig
from collections import defaultdict
from pathlib import Path
from random import Random

from sala_core.finder.symbols import SymbolQuestion, find_symbol

SKIPPED = ("site-packages", "test", "tests", "idlelib", "lib2to3")

Lines = set[tuple[int, int]]


def load(folder: Path, count: int) -> tuple[list[str], list[str], dict[str, Lines], dict[str, Lines]]:
    """Texts, their names, and by name the lines (text, number) that define and that call it."""
    texts, names = [], []
    defined: dict[str, Lines] = defaultdict(set)
    called: dict[str, Lines] = defaultdict(set)
    for file in sorted(folder.rglob("*.py")):
        if len(texts) == count or set(file.parts) & set(SKIPPED):
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                defined[node.name].add((len(texts), node.lineno))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                called[name].add((len(texts), node.func.end_lineno or 0))
        texts.append(text)
        names.append(str(file.relative_to(folder)))
    return texts, names, defined, called


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--files", type=int, default=150)
    parser.add_argument("--names", type=int, default=600)
    options = parser.parse_args()
    texts, names, defined, called = load(options.folder, options.files)
    chosen = Random(1).sample(sorted(defined), min(options.names, len(defined)))
    exact = right = extra = missing = 0
    for name in chosen:
        head = re.compile(rf"(?:def|class)\s+{re.escape(name)}\b")
        found = find_symbol(SymbolQuestion(name=name), texts, names).places
        heads = [(place.text, head.search(texts[place.text], place.start, place.end)) for place in found]
        exact += {(text, _line(texts[text], at.start()) if at else 0) for text, at in heads} == defined[name]
        used = find_symbol(SymbolQuestion(name=name, uses=True), texts, names)
        if called[name]:
            lines = {(place.text, _line(texts[place.text], place.start)) for place in used.places if used.are_uses}
            right += len(lines & called[name])
            extra += len(lines - called[name])
            missing += len(called[name] - lines)
    print(f"{len(texts)} files, {sum(map(len, texts)):,} characters, {len(chosen)} names")
    print(f"definitions: of {exact} names all and no other line")
    print(f"calls: {right:,} lines found, {extra:,} others, {missing:,} missing")


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


if __name__ == "__main__":
    main()
