"""Where the texts are that the questions of `assets/training/questions/` and `assets/evals/natural/` are about."""

import sysconfig
from collections.abc import Sequence
from pathlib import Path


def find_text(name: str, folders: Sequence[Path]) -> Path | None:
    """The file of a text by its name in a question: below one of the folders, or a module of Python; else None."""
    if name.startswith("stdlib:"):
        return Path(sysconfig.get_paths()["stdlib"]) / name.removeprefix("stdlib:")
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
