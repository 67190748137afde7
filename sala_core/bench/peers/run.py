"""`bench peers`: the embedded model beside llama.cpp with a model of its size and full attention, in turn, in one run.

Both read the same tokens, decode greedily, write their state to a file and read it back, each in a process of its own.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sala_core.bench import child
from sala_core.bench.peers.records import MEASURED, PeerRow, write_peer_rows
from sala_core.bench.records import OUT_OF_MEMORY
from sala_core.errors import BenchError
from sala_core.text.lengths import length_name

ENGINES = ("sala", "llama.cpp")
_LENGTHS = (1 << 12, 1 << 14, 1 << 16)
_PACKAGES = ("llama_cpp", "gguf")
_GROWTH = 2.0  # time grows at most with this power of the length


@dataclass(frozen=True, kw_only=True)
class PeerPlan:
    """What to measure. Empty values take the defaults: 4K, 16K and 64K, float32.

    new_tokens: decoded after each length. patience_s: time limit of one reading.
    """

    lengths: Sequence[int] = ()
    weights: str | None = None
    new_tokens: int | None = None
    patience_s: float = 600.0


def bench_peers(plan: PeerPlan, folder: Path) -> Iterator[tuple[Path, PeerRow]]:
    """Measure the plan; yields (file, row) after each row is written to `peers-cpu.json`.

    Raises BenchError if the packages of the extra `peers` are not installed, or for weights that are not compared.
    """
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise BenchError(
            f"{' and '.join(missing)} cannot be imported; install the extra: "
            "python -m pip install 'sala-desktop[peers]' (it builds llama.cpp, which needs a C++ compiler)"
        )
    weights = plan.weights or "fp32"
    if weights not in ("fp32", "bf16"):
        raise BenchError(f"peers are compared with fp32 or bf16 weights, not {weights}; leave --weights out")
    machine = child.record("machine", device="cpu", dtype="float32", shrink=8)["machine"]
    file, rows = folder / "peers-cpu.json", list[PeerRow]()
    last: dict[str, PeerRow] = {}
    for length in plan.lengths or _LENGTHS:
        for engine in ENGINES:
            row = PeerRow(engine=engine, length=length, weights=weights)
            row = _skipped(row, last.get(engine), plan.patience_s) or _measure(row, plan.new_tokens or 32)
            last[engine] = row = replace(row, machine=machine)
            rows.append(row)
            write_peer_rows(rows, file)
            yield file, row


def _skipped(row: PeerRow, before: PeerRow | None, patience_s: float) -> PeerRow | None:
    """The row of a skipped length; None if it is to be measured. before: the engine's row at the length before."""
    if before is None:
        return None
    if before.read_s is None:
        return replace(row, status=f"skipped after: {before.status}")
    expected_s = before.read_s * (row.length / before.length) ** _GROWTH
    return replace(row, status=f"skipped: about {expected_s / 60:.0f} min") if expected_s > patience_s else None


def _measure(row: PeerRow, new_tokens: int) -> PeerRow:
    job = {"engine": row.engine, "length": row.length, "weights": row.weights, "new_tokens": new_tokens}
    try:
        return PeerRow(**child.record("peer", **job))
    except child.ChildOutOfMemory:
        return replace(row, status=OUT_OF_MEMORY)
    except child.ChildFailed as error:
        return replace(row, status=f"failed: {error}")


def peer_text(row: PeerRow) -> str:
    """One line about a row."""
    head = f"{row.engine} {length_name(row.length)} {row.weights}: {row.status}"
    if row.status != MEASURED:
        return head
    values = asdict(row)
    return (
        f"{head}; read {row.length / values['read_s']:,.0f} tokens/s ({values['read_processor_s']:.3g} CPU s); "
        f"{values['decode_ms']:.3g} ms per token ({values['decode_processor_ms']:.3g} CPU); "
        f"saved in {values['save_s']:.3g} s, restored in {values['restore_s']:.3g} s, "
        f"{values['state_bytes'] / 1e6:,.0f} MB"
    )
