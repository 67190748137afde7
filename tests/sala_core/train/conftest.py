"""A recipe with every stage that runs in seconds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import sala_core.train
from sala_core.train.recipe import STAGES

TOY = Path(sala_core.train.__file__).parent / "recipes" / "toy.toml"
WriteRecipe = Callable[..., Path]


@pytest.fixture(scope="session")
def toy() -> Path:
    """The toy recipe of the program."""
    return TOY


@pytest.fixture
def write_recipe(tmp_path: Path) -> WriteRecipe:
    """write_recipe(*(old, new), stages=all, name="recipe") writes the toy recipe with text replaced."""

    def write(*changes: tuple[str, str], stages: Sequence[str] = STAGES, name: str = "recipe") -> Path:
        first, *parts = TOY.read_text().replace("../../../", f"{TOY.parents[3]}/").split("\n\n[")
        kept = [part for part in parts if (table := part.strip("[").split("]")[0]) not in STAGES or table in stages]
        text = "\n\n[".join([first, *kept])
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / f"{name}.toml"
        file.write_text(text)
        return file

    return write
