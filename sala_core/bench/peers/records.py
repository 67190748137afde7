"""The rows of `bench peers`, and their JSON file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

MEASURED = "measured"


@dataclass(frozen=True, kw_only=True)
class PeerRow:
    """One engine at one length. Empty values were not measured.

    Attributes:
        engine: "sala" or "llama.cpp".
        length: tokens read.
        weights: "fp32" or "bf16".
        status: MEASURED, or why it was not.
        read_s, read_processor_s: seconds of reading, and CPU seconds of all threads.
        decode_ms, decode_processor_ms: milliseconds of a token after them, and of CPU time: medians over the tokens.
        save_s, restore_s: seconds to write the state to a file and to read it back.
        state_bytes: bytes of that file.
        note: versions and settings.
        machine: of `Machine`.
    """

    engine: str
    length: int
    weights: str
    status: str = MEASURED
    read_s: float | None = None
    read_processor_s: float | None = None
    decode_ms: float | None = None
    decode_processor_ms: float | None = None
    save_s: float | None = None
    restore_s: float | None = None
    state_bytes: int | None = None
    note: str = ""
    machine: dict[str, str] = field(default_factory=dict)


def write_peer_rows(rows: list[PeerRow], file: Path) -> None:
    """Write all rows so far."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def read_peer_rows(file: Path) -> list[PeerRow]:
    """The rows of a file that `write_peer_rows` wrote."""
    return [PeerRow(**values) for values in json.loads(file.read_text(encoding="utf-8"))]
