"""The rows of the two tables and their CSV files."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MEASURED = "measured"
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One measurement of one model. Fields that were not measured are None. Spreads: slowest minus fastest run.

    what: "answer": prefill of `length` tokens and decoding of `new_tokens`; "reading": prefill alone; "saving": prefill
    with segments written to disk meanwhile; "speculation": decoding with drafts.
    ttft_s: time to the first token. ttft_processor_s: CPU time until then, summed over threads; on a machine with other
    load it is more reliable than ttft_s.
    ms_per_token: of the tokens after the first.
    reading_limit_s, decoding_limit_ms: the time of the counted bytes and FLOPs at the ceilings of the same run.
    """

    what: str
    model: str
    size: str
    length: int
    weights: str
    kv: str = ""
    status: str = MEASURED
    runs: int = 0
    ttft_s: float | None = None
    ttft_spread_s: float | None = None
    ttft_processor_s: float | None = None
    end_to_end_s: float | None = None
    end_to_end_spread_s: float | None = None
    new_tokens: int = 0
    ms_per_token: float | None = None
    ms_per_token_spread: float | None = None
    peak_memory_bytes: int | None = None
    reserved_memory_bytes: int | None = None
    state_bytes: int | None = None
    weight_bytes: int | None = None
    reading_bytes: int | None = None
    reading_flops: int | None = None
    reading_limit_s: float | None = None
    decoding_bytes: int | None = None
    decoding_flops: int | None = None
    decoding_limit_ms: float | None = None
    copy_bytes_per_s: float | None = None
    matmul_flops_per_s: float | None = None
    matmul_dtype: str = ""
    note: str = ""
    hardware: str = ""
    driver: str = ""
    torch: str = ""
    triton: str = ""
    commit: str = ""
    date: str = ""


@dataclass(frozen=True, kw_only=True)
class KernelRow:
    """One implementation of one operation on one set of inputs.

    bound: the ceiling that limits the operation: "bytes" (memory bandwidth) or "FLOPs" (matrix products).
    fraction: the time of the counted work at that ceiling, divided by the measured time.
    """

    operation: str
    workload: str
    implementation: str
    status: str = MEASURED
    runs: int = 0
    time_us: float | None = None
    spread_us: float | None = None
    num_bytes: int = 0
    num_flops: int = 0
    bytes_per_s: float | None = None
    flops_per_s: float | None = None
    bound: str = ""
    fraction: float | None = None
    copy_bytes_per_s: float | None = None
    matmul_flops_per_s: float | None = None
    matmul_dtype: str = ""
    note: str = ""
    hardware: str = ""
    driver: str = ""
    torch: str = ""
    triton: str = ""
    commit: str = ""
    date: str = ""


Row = ModelRow | KernelRow


class Table:
    """A CSV file of rows, complete after every row. A context manager."""

    def __init__(self, file: Path, kind: type[Row]) -> None:
        """Creates the file, or empties it. kind: the class of the rows, which gives the columns."""
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream = file.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._stream, [field.name for field in fields(kind)], lineterminator="\n")
        self._writer.writeheader()
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def add(self, row: Row) -> None:
        """Append a row and flush it."""
        self._writer.writerow({name: _text(value) for name, value in vars(row).items()})
        self._stream.flush()


def read_model_rows(file: Path) -> list[ModelRow]:
    """The rows of a file that `Table` wrote."""
    return [ModelRow(**values) for values in _read(file, ModelRow)]


def read_kernel_rows(file: Path) -> list[KernelRow]:
    """The rows of a file that `Table` wrote."""
    return [KernelRow(**values) for values in _read(file, KernelRow)]


def _read(file: Path, kind: type[Row]) -> Iterable[dict[str, Any]]:
    types = {field.name: str(field.type) for field in fields(kind)}
    with file.open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            yield {name: _value(text, types[name]) for name, text in line.items()}


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _value(text: str, kind: str) -> object:
    if "str" in kind:
        return text
    if not text:
        return None
    return float(text) if "float" in kind else int(text)
