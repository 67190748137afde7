"""The Hugging Face cache: where downloaded models are, and what to say about those that are not there.

Its layout is the library's: `models--ORG--NAME/` with `blobs/`, `snapshots/COMMIT/` and `refs/REVISION`, which holds a
commit. A download of this program leaves its unfinished files in UNFINISHED beside them, and in UNFINISHED of the
folder where it goes to a folder.
"""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from sala_core.errors import ModelError
from sala_core.model.known_models import known_model

UNFINISHED = ".download"
"""Name of the folder that holds the files of a download until all are there and checked."""

JOURNAL = "download.json"
"""Name of the file in UNFINISHED that says what is downloaded."""

DEFAULT_REVISION = "main"


def cache_root() -> Path:
    """The folder of the cache: HF_HUB_CACHE, or `hub` in HF_HOME, or `~/.cache/huggingface/hub`."""
    return Path(constants.HF_HUB_CACHE)


def check_repository(name: str) -> None:
    """Raise ModelError for a text that cannot be the name of a model on the hub."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ModelError(f"{name!r} is not the name of a model: {error}") from error
    if name.count("/") != 1:
        raise ModelError(f"{name!r} is not the name of a model; give it as 'org/model'")


def repository_folder(name: str) -> Path:
    """The folder of a model in the cache, whether it exists or not."""
    return cache_root() / f"models--{name.replace('/', '--')}"


def snapshot_folder(repository: Path, revision: str) -> Path | None:
    """The files of a revision in a model's folder of the cache; None if that revision was never downloaded.

    revision: a branch, a tag, or a commit of 40 hexadecimal digits.
    """
    try:
        commit = (repository / "refs" / revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = revision
    folder = repository / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def cached_model(name: str) -> Path:
    """The folder of a downloaded model, by "org/name" or "org/name@revision".

    Raises ModelError, which says how to get the model, if it is not there or not whole.
    """
    repository, _, revision = name.partition("@")
    check_repository(repository)
    folder = snapshot_folder(repository_folder(repository), revision or DEFAULT_REVISION)
    command = download_command(repository, revision)
    if folder is not None and (folder / "config.json").is_file():
        return folder
    if folder is not None or (repository_folder(repository) / UNFINISHED).is_dir():
        raise ModelError(f"only a part of {name} is downloaded; continue with: {command}")
    known = known_model(repository)
    size = f"{known.num_bytes / 1e9:.1f} GB, " if known else ""
    raise ModelError(f"{name} is neither a folder nor downloaded; get it with: {command} ({size}into {cache_root()})")


def refuse_unfinished(folder: Path) -> None:
    """Raise ModelError if a download into this folder has not ended."""
    if (folder / UNFINISHED).is_dir() and not (folder / "config.json").is_file():
        journal = read_journal(folder)
        name, revision = (journal["name"], journal["revision"]) if journal else ("NAME", DEFAULT_REVISION)
        command = download_command(name, "" if revision == DEFAULT_REVISION else revision)
        raise ModelError(f"{folder} holds only a part of a model; continue with: {command} --to {folder}")


def read_journal(root: Path) -> dict[str, Any] | None:
    """What an unfinished download in `root` wrote down: name, revision, bytes_total, digests. None without one."""
    try:
        content = json.loads((root / UNFINISHED / JOURNAL).read_text(encoding="utf-8"))
        texts = isinstance(content["name"], str) and isinstance(content["revision"], str)
        return content if texts and isinstance(content["digests"], dict) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def download_command(name: str, revision: str = "") -> str:
    """The command that downloads a model into the cache, or continues to. revision: "" is the default one."""
    option = f" --revision {revision}" if revision else ""
    return f"python3 launch.py download {name}{option}"
