"""Processes that append checkpoints until they are killed; run by test_store_kill.py.

Reads lines `durable FOLDER` or `naive FOLDER` and forks a writer for each, so that the modules are imported once. A
writer prints `ready PID` before it opens the library, then each position once the library has stored it; `gone SIGNAL`
follows when it has ended. `naive` is the control: it overwrites one state file in place and writes the row first.
"""

import itertools
import os
import sys
from pathlib import Path

import torch

from sala_core.disk.files import checksum
from sala_core.disk.safetensors import encode_tensors
from sala_core.store import Library, MessageDraft, PartDraft
from sala_core.store.checkpoints import SEGMENT_SUFFIX
from sala_core.store.states import StateStore

FINGERPRINT = "kill-test"
SESSION = "victim"
RUN_TOKENS = 64
KEEP_EVERY = 4
NAIVE_NAME = "naive"
_PIECE_BYTES = 4096


def tensors_at(position: int, rows: int = 256) -> dict[str, torch.Tensor]:
    """The tensors that belong to a position: [8, rows, 128] bf16, half a MiB at 256 rows."""
    generator = torch.Generator().manual_seed(position)
    return {"k.0": torch.randn(8, rows, 128, generator=generator).bfloat16()}


def snapshot_at(position: int) -> dict[str, torch.Tensor]:
    """The snapshot that belongs to a position: [8, 32, 32] float32."""
    generator = torch.Generator().manual_seed(-position)
    return {"state.0": torch.randn(8, 32, 32, generator=generator)}


def append_durably(library: Library) -> None:
    """Append checkpoints after the session's head; keep every fourth one and commit a turn with it."""
    store = StateStore(library, FINGERPRINT)
    with library.lock_session(SESSION) as session:
        head, position = session.head, session.position
        if head is not None:
            store.load_snapshot(head)
        for step in itertools.count(position // RUN_TOKENS + 1):
            ids = library.token_ids(session.id, position, position + RUN_TOKENS)
            keep = step % KEEP_EVERY == 0
            segment, snapshot = tensors_at(position), snapshot_at(position)
            head = store.save(parent=head, token_ids=ids, start=position, segment=segment, snapshot=snapshot, keep=keep)
            position += RUN_TOKENS
            if keep:
                message = MessageDraft(role="user", text=f"turn {step}")
                part = PartDraft(kind="user", token_ids=ids[:1], message_id=message.id)
                library.commit_turn(session.id, [part], [message], head, position)
            else:
                library.set_head(session.id, head, position)
            report(position)


def overwrite_in_place(library: Library, steps: int = sys.maxsize) -> None:
    """Write the row first, then the new state over the old one, without a temporary file or fsync."""
    store = StateStore(library, FINGERPRINT)
    path = library.states_folder / (NAIVE_NAME + SEGMENT_SUFFIX)
    for position in itertools.islice(itertools.count(RUN_TOKENS, RUN_TOKENS), steps):
        about = store._metadata(NAIVE_NAME, None, 0, position) | {"kind": "segment"}
        data = b"".join(encode_tensors(tensors_at(0), about))
        with library.database.write() as conn:
            conn.execute(
                "INSERT OR REPLACE INTO checkpoints (name, fingerprint, format, start_token, end_token, keep,"
                " segment_bytes, segment_checksum, created_at, used_at)"
                " VALUES (?, ?, 1, 0, ?, 1, ?, ?, 0, 0)",
                [NAIVE_NAME, FINGERPRINT, position, len(data), checksum(memoryview(data))],
            )
        with path.open("r+b" if path.exists() else "wb", buffering=0) as file:
            for start in range(0, len(data), _PIECE_BYTES):
                file.write(data[start : start + _PIECE_BYTES])
        report(position)


def report(position: int) -> None:
    """Tell the parent process, in one write, that everything before `position` is stored."""
    os.write(1, f"{position}\n".encode())


def write_until_killed(mode: str, folder: Path) -> None:
    """Run a writer until it is killed."""
    os.write(1, f"ready {os.getpid()}\n".encode())
    with Library.open(folder) as library:
        {"durable": append_durably, "naive": overwrite_in_place}[mode](library)


if __name__ == "__main__":
    for line in sys.stdin:
        mode, _, folder = line.strip().partition(" ")
        child = os.fork()
        if child == 0:
            write_until_killed(mode, Path(folder))
            sys.exit()
        _, status = os.waitpid(child, 0)
        os.write(1, f"gone {os.WTERMSIG(status)}\n".encode())
