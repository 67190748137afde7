"""Read TOML tables into frozen dataclasses. Unknown keys, missing keys and wrong types are errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sala_core.errors import TrainError

Record = TypeVar("Record")


def read_table(cls: type[Record], table: Any, where: str, base: Path) -> Record:
    """Return the dataclass of a table. Raises TrainError for an unknown or missing key, or a value of another type.

    Args:
        cls: the dataclass, which may contain others.
        table: the parsed table.
        where: name of the table in errors.
        base: folder that relative paths start from.
    """
    if not isinstance(table, Mapping):
        raise TrainError(f"{where} must be a table, found {table!r}")
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise TrainError(f"{where} has no key {unknown[0]!r}; it knows {', '.join(known)}")
    required = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in required if name not in table]
    if missing:
        raise TrainError(f"{where} lacks the key {missing[0]!r}")
    hints = get_type_hints(cls)
    return cls(**{name: _value(hints[name], value, f"{where}.{name}", base) for name, value in table.items()})


def _value(kind: Any, value: Any, where: str, base: Path) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return _one_of(inner, value, where, base)
    if origin is Literal:
        if value not in inner:
            raise TrainError(f"{where} must be one of {', '.join(map(repr, inner))}, found {value!r}")
        return value
    if origin is tuple and isinstance(value, list):
        kinds = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        if len(kinds) == len(value):
            return tuple(
                _value(k, item, f"{where}[{i}]", base) for i, (k, item) in enumerate(zip(kinds, value, strict=True))
            )
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _value(inner[1], item, f"{where}.{key}", base) for key, item in value.items()}
    if kind is Path and isinstance(value, str):
        return (base / Path(value).expanduser()).resolve()
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    if hasattr(kind, "__dataclass_fields__"):
        return read_table(kind, value, where, base)
    raise TrainError(f"{where} must be {getattr(kind, '__name__', kind)}, found {value!r}")


def _one_of(kinds: tuple[Any, ...], value: Any, where: str, base: Path) -> Any:
    for kind in kinds:
        if kind is not NoneType:
            try:
                return _value(kind, value, where, base)
            except TrainError as error:
                reason = error
    raise reason
