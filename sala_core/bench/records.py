"""The rows of the two tables, and the files they are added to as they come."""

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
    """One figure run of one model. Empty fields were not measured; spreads are slowest less fastest run.

    what: "answer": read `length` tokens and decode `new_tokens`; "reading": read alone; "saving": read, with segments
    written to disk meanwhile; "speculation": decode with drafts. Limits are what the counted bytes and FLOPs would take
    at the ceilings measured beside them. ms_per_token: of tokens after the first. ttft_processor_s: of all threads
    together; on a machine that others use too, it says more than ttft_s.
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

    fraction: of the measured ceiling that bounds it ("bytes": copying, "FLOPs": multiplying), what the counted work
    would take at that ceiling over the time it took.
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
    """A CSV file that is whole after every row. Use as a context manager."""

    def __init__(self, file: Path, kind: type[Row]) -> None:
        """Begins the file anew."""
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
        """Append a row and hand it to the operating system."""
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
