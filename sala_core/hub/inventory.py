"""The models that are on this computer, and those that can be downloaded, with what fits this machine of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

from sala_core.errors import ConfigError, ModelError, TokenizerError
from sala_core.hub.fit import Fit, Machine, fit, size_of_config, size_of_folder
from sala_core.hub.target import bytes_collected
from sala_core.model.checkpoint import (
    EMBEDDED,
    expected_shapes,
    load_config_json,
    load_gptq_config,
    resolve_model,
    weight_files,
)
from sala_core.model.config import SalaConfig
from sala_core.model.hub_cache import (
    DEFAULT_REVISION,
    cache_root,
    download_command,
    read_journal,
    repository_folder,
    snapshot_folder,
)
from sala_core.model.known_models import KNOWN_MODELS
from sala_core.model.state import KvKind
from sala_core.text.tokenizer_files import TokenizerFiles

Source = Literal["embedded", "cache", "folder"]
Status = Literal["complete", "incomplete", "unusable", "missing"]
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", None: "bf16"}
_MODEL_TYPE = "minicpm_sala"
_CACHE_PREFIX = "models--"
_MAX_HEADER_BYTES = 100 << 20  # the limit of the safetensors library


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """A model on this computer, or a part of one."""

    name: str
    """What `--model` takes."""
    source: Source
    folder: Path
    status: Status
    """"unusable": all files are there, and the program does not read them. "missing": there is nothing any more."""
    problem: str
    """What is wrong, and the next step; "" for a complete model."""
    num_parameters: int
    """0 if it cannot be told."""
    format: str
    """Of the weights: "bf16", "int4 GPTQ"; "" if it cannot be told."""
    num_bytes: int
    """On the disk."""
    tokenizer: str
    """Its kind and number of tokens; "" if there is none."""
    fit: Fit | None
    """None unless the model is complete."""


@dataclass(frozen=True, kw_only=True)
class AvailableModel:
    """A published model that this program reads."""

    name: str
    num_parameters: int
    num_bytes: int
    license: str
    command: str
    """The command that downloads it."""
    is_here: bool
    fit: Fit
    """As it is published, in bf16."""
    fit_int4: Fit
    """With the int4 weights that `launch.py quantize` makes of it."""


def local_models(machine: Machine, names: Iterable[str] = (), *, kv: KvKind | Literal["auto"]) -> list[LocalModel]:
    """The embedded model, those in the Hugging Face cache, and those of `names`, each once. Needs no network.

    Args:
        machine: which the texts are to fit.
        names: further models, as `--model` takes them.
        kv: number format of keys and values. "auto" is what the program would choose.
    """
    found: dict[Path, LocalModel] = {}
    named: list[tuple[str, Source]] = [(EMBEDDED, "embedded")]
    named += [(name, "cache") for name in _cached_names()]
    named += [(name, "folder") for name in names]
    for name, source in named:
        model = _model(name, source, machine, kv)
        found.setdefault(model.folder, model)
    return list(found.values())


def available_models(
    machine: Machine, here: Iterable[LocalModel], *, kv: KvKind | Literal["auto"]
) -> list[AvailableModel]:
    """The published models that this program reads. here: what `local_models` found."""
    complete = {model.name for model in here if model.status == "complete"}
    return [
        AvailableModel(
            name=known.name,
            num_parameters=known.num_parameters,
            num_bytes=known.num_bytes,
            license=known.license,
            command=download_command(known.name),
            is_here=known.name in complete,
            fit=fit(size_of_config(known.config, machine, int4=False), machine, kv),
            fit_int4=fit(size_of_config(known.config, machine, int4=True), machine, kv),
        )
        for known in KNOWN_MODELS
    ]


def _cached_names() -> Iterator[str]:
    """Names of the models of this family in the cache, complete or not, with their revisions."""
    for root in sorted(cache_root().glob(f"{_CACHE_PREFIX}*--*")):
        name = root.name.removeprefix(_CACHE_PREFIX).replace("--", "/", 1)
        revisions = sorted(file.name for file in (root / "refs").glob("*") if file.is_file())
        commits = {snapshot_folder(root, revision) for revision in revisions}
        revisions += [folder.name for folder in sorted((root / "snapshots").glob("*")) if folder not in commits]
        journal = read_journal(root)
        if journal is not None and journal["revision"] not in revisions:
            revisions.append(journal["revision"])
        for revision in revisions:
            folder = snapshot_folder(root, revision)
            if (journal and folder is None) or (folder is not None and _is_of_family(folder)):
                yield name if revision == DEFAULT_REVISION else f"{name}@{revision}"


def _is_of_family(folder: Path) -> bool:
    try:
        return load_config_json(folder).get("model_type") == _MODEL_TYPE
    except ConfigError:
        return False


def _model(name: str, source: Source, machine: Machine, kv: KvKind | Literal["auto"]) -> LocalModel:
    folder, root = _folders(name)
    blank = LocalModel(
        name=name,
        source=source,
        folder=folder,
        status="incomplete",
        problem="",
        num_parameters=0,
        format="",
        num_bytes=bytes_collected(root),
        tokenizer="",
        fit=None,
    )
    try:
        folder = resolve_model(name)
    except ModelError as error:
        exists = root.exists() and any(root.iterdir())
        return replace(blank, status="incomplete" if exists else "missing", problem=str(error))
    return _described(replace(blank, folder=folder, num_bytes=_bytes_in(folder)), machine, kv)


def _folders(name: str) -> tuple[Path, Path]:
    """(the folder of a model that may not be there, the folder where its download would leave unfinished files)."""
    path = Path(name).expanduser()
    if path.is_dir() or "/" not in name or path.is_absolute():
        return path, path
    repository, _, revision = name.partition("@")
    root = repository_folder(repository)
    return snapshot_folder(root, revision or DEFAULT_REVISION) or root, root


def _described(model: LocalModel, machine: Machine, kv: KvKind | Literal["auto"]) -> LocalModel:
    """A model whose folder exists, with what its files tell."""
    folder = model.folder
    try:
        raw = load_config_json(folder)
        config = SalaConfig.from_dict(raw)
        model = replace(model, num_parameters=_num_parameters(config), format=_format(folder, raw))
        tokenizer = _tokenizer(folder)
        size = size_of_folder(folder, config, raw.get("dtype") or raw.get("torch_dtype"), machine)
    except ModelError as error:
        if is_whole(folder):
            return replace(model, status="unusable", problem=str(error))
        advice = f"; get the rest with: {_command(model.name)}" if model.source == "cache" else ""
        return replace(model, status="incomplete", problem=f"{error}{advice}")
    return replace(model, status="complete", tokenizer=tokenizer, fit=fit(size, machine, kv))


def is_whole(folder: Path) -> bool:
    """Whether a model's folder has config.json and its weights, and no file of them is cut short."""
    try:
        load_config_json(folder)
        return all(_ends_where_its_header_says(file) for file in weight_files(folder))
    except ModelError:
        return False


def _ends_where_its_header_says(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says. False for a header that cannot be read."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length <= _MAX_HEADER_BYTES else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return bool(ends) and 8 + length + max(ends) == file.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return False


def _command(name: str) -> str:
    repository, _, revision = name.partition("@")
    return download_command(repository, revision)


def _num_parameters(config: SalaConfig) -> int:
    return sum(prod(shape) for shape in expected_shapes(config).values())


def _format(folder: Path, raw: dict[str, Any]) -> str:
    gptq = load_gptq_config(folder)
    stored = raw.get("dtype") or raw.get("torch_dtype")
    return f"int{gptq.bits} GPTQ" if gptq is not None else _DTYPES.get(stored, str(stored))


def _tokenizer(folder: Path) -> str:
    """Kind and number of tokens. Raises TokenizerError without a tokenizer."""
    files = TokenizerFiles.read(folder)
    model = files.description.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise TokenizerError(f"tokenizer.json of {folder} has no vocabulary; get the tokenizer's files again")
    added = files.description.get("added_tokens") or ()
    ids = {*model["vocab"].values(), *(token["id"] for token in added)}
    template = "" if files.chat_template else ", no chat template"
    return f"{model.get('type')}, {len(ids):,} tokens{template}"


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
