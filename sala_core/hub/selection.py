"""Which files of a model on the hub this program needs, and whether it can read the model, before the weights come."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from sala_core.errors import CheckpointError, ConfigError, ModelError
from sala_core.hub.records import RemoteFile, RemoteModel
from sala_core.model.checkpoint import load_config_json, load_generation_config, load_gptq_config
from sala_core.model.config import SalaConfig
from sala_core.text.chat_template import ChatLayout
from sala_core.text.tokenizer import Tokenizer

CONFIG = "config.json"
_DESCRIPTIONS = ("README", "LICENSE", "NOTICE", "COPYING")
_WEIGHTS = ("model.safetensors", "gptq_model-*.safetensors")
_OTHER_FORMATS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".npz")
_MAX_SMALL_BYTES = 100 << 20


def top_level_files(model: RemoteModel) -> dict[str, RemoteFile]:
    """Name -> file, for plain names: a name with a folder, a drive or a leading dot could lead out of the target."""
    return {file.name: file for file in model.files if re.fullmatch(r"\w[\w.+ -]*", file.name)}


def config_file(model: RemoteModel) -> RemoteFile:
    """The model's config.json. Raises ConfigError for a model without one."""
    if file := top_level_files(model).get(CONFIG):
        return file
    raise ConfigError(f"{model.name} has no config.json, so it is no model that this program reads")


def small_files(model: RemoteModel) -> list[RemoteFile]:
    """Settings, tokenizer, chat template, index of the weights, model card and license, except config.json."""
    return [file for file in top_level_files(model).values() if _is_small(file) and file.name != CONFIG]


def _is_small(file: RemoteFile) -> bool:
    path = PurePosixPath(file.name)
    if file.num_bytes > _MAX_SMALL_BYTES:
        return False
    if path.suffix in (".json", ".jinja"):
        return not path.name.endswith((".bin.index.json", ".h5.index.json"))
    is_text = path.suffix in ("", ".md", ".txt")
    return is_text and path.stem.upper().startswith(_DESCRIPTIONS)


def weight_files_of(model: RemoteModel, folder: Path) -> list[RemoteFile]:
    """The weights, as `weight_files` chooses them from a folder.

    folder: holds the model's small files. Raises CheckpointError for a model without safetensors, or whose index does
    not fit its files.
    """
    by_name = top_level_files(model)
    for pattern in _WEIGHTS:
        whole = [file for name, file in by_name.items() if fnmatch(name, pattern)]
        indices = [name for name in by_name if fnmatch(name, pattern + ".index.json")]
        if len(indices) == 1 and len(whole) != 1:
            return [_shard(model, by_name, name) for name in _shard_names(folder / indices[0])]
        if len(whole) == 1:
            return whole
        if whole:
            names = sorted(file.name for file in whole)
            raise CheckpointError(f"{model.name} has several models, {names}, and none of them is the only one")
    others = sorted({PurePosixPath(file.name).suffix for file in model.files} & set(_OTHER_FORMATS))
    found = f"; it has {', '.join(others)} files, which this program does not read" if others else ""
    raise CheckpointError(f"{model.name} has no weights in safetensors{found}")


def _shard_names(index: Path) -> list[str]:
    try:
        content: Any = json.loads(index.read_text(encoding="utf-8"))
        names = sorted({str(name) for name in content["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index.name} of the model has no weight_map") from error
    for name in names:
        if PurePosixPath(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index.name} names {name!r}, which is not a safetensors file beside it")
    return names


def _shard(model: RemoteModel, by_name: dict[str, RemoteFile], name: str) -> RemoteFile:
    if name not in by_name:
        raise CheckpointError(f"{model.name} lacks {name}, which the index of its weights names")
    return by_name[name]


def check_config(name: str, folder: Path) -> SalaConfig:
    """Raise ConfigError or CheckpointError unless config.json describes a model that this program runs."""
    with _refused(name):
        raw = load_config_json(folder)
        config = SalaConfig.from_dict(raw)
        if raw.get("quantization_config") is not None:
            load_gptq_config(folder)
        return config


def check_text_files(name: str, folder: Path) -> None:
    """Raise TokenizerError, CheckpointError or ConfigError for a tokenizer or settings that this program cannot use."""
    with _refused(name):
        load_gptq_config(folder)
        load_generation_config(folder)
        ChatLayout.from_tokenizer(Tokenizer.from_folder(folder))


@contextmanager
def _refused(name: str) -> Iterator[None]:
    """Say with the reason that no weights were downloaded."""
    try:
        yield
    except ModelError as error:
        raise type(error)(f"this program does not read {name}: {error}; its weights were not downloaded") from error
