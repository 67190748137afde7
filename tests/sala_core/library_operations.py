"""All that can be done with a library, each as a function of its folder, for tests that disturb it.

Beside the library's folder stands `given.sala`, which `import` takes in; `export` writes `made.sala` there. Where a
turn was deleted, `deleted.pickle` stands there too, for `restore turn`.
"""

import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import made_library
import numpy as np
from made_library import FINGERPRINT, TURN, copy_of, encoded, make_library, save

from sala_core.store import Library, MessageDraft, PartDraft
from sala_core.store.integrity.library_folder import DATABASE
from sala_core.store.integrity.repair import repair_library
from sala_core.store.portable.export import export_session
from sala_core.store.portable.import_session import import_session
from sala_core.store.states import StateStore

FIRST_SCHEMA = Path(__file__).parent / "store" / "integrity" / "first-schema.tar.xz"
GUEST_TEXT = "Call me Ishmael.\nSome years ago, never mind how long precisely.\n"


def make_starts(base: Path) -> dict[str, Path]:
    """Make the libraries that operations start from: name of the start -> a folder with `library` and `given.sala`."""
    names = ("whole", "versions", "deleted turn", "lost", "damaged", "first", "none", "copied long ago")
    starts = {name: base / name / "library" for name in names}
    make_library(starts["whole"])
    lost = copy_of(starts["whole"], starts["lost"])
    for path in lost.glob("library.*"):
        if path.name.startswith(DATABASE) or "copy" in path.name:
            path.unlink()
    damaged = copy_of(starts["whole"], starts["damaged"])
    data = (damaged / DATABASE).read_bytes()
    (damaged / DATABASE).write_bytes(data[:8192] + b"\xff" * 4096 + data[12288:])
    with tarfile.open(FIRST_SCHEMA) as archive:
        archive.extractall(starts["first"], filter="data")
    earlier = copy_of(starts["whole"], starts["copied long ago"])
    kept = json.loads((earlier / "library.copy.json").read_text())
    (earlier / "library.copy.json").write_text(json.dumps(kept | {"of": [0, 0]}))
    os.utime(earlier / "library.copy.db", (1, 1))
    with Library.open(copy_of(starts["whole"], starts["versions"])) as library:
        ask_again(library)
        library.bin_session("copy")
    with Library.open(copy_of(starts["versions"], starts["deleted turn"])) as library:
        change = library.delete_turn("tale", library.turns("tale")[0].id)
        starts["deleted turn"].with_name("deleted.pickle").write_bytes(pickle.dumps(change.deleted))
    starts["none"].parent.mkdir()
    given = make_given(base)
    for library in starts.values():
        (library.parent / "given.sala").hardlink_to(given)
    return {name: library.parent for name, library in starts.items()}


def make_given(base: Path) -> Path:
    """Write a session of another library as a file."""
    with Library.open(base / "elsewhere") as library:
        store = StateStore(library, FINGERPRINT)
        session = library.create_session("guest", model="A", fingerprint=FINGERPRINT)
        document = library.put_document(encoded(GUEST_TEXT), "tokenizer-a")
        ids = np.concatenate([[7, 8], encoded(GUEST_TEXT).token_ids, [9]])
        part = PartDraft(kind="document", token_ids=ids, document_id=document, body_start=2)
        library.append_parts(session.id, [part])
        middle = len(ids) // 2
        first = save(store, None, ids[:middle], 0)
        library.set_head(session.id, save(store, first, ids[middle:], middle), len(ids))
        messages = [MessageDraft(role=role, text=text) for role, text in (("user", "Who?"), ("assistant", "Ishmael."))]
        parts = [PartDraft(kind=each.role, token_ids=TURN, message_id=each.id) for each in messages]
        row = library.session(session.id)
        library.commit_turn(row.id, parts, messages, row.head, row.position)
        export_session(library, "guest", base / "given.sala")
    return base / "given.sala"


def create(library: Library) -> None:
    """Make a session in a library that is new."""
    with library.database.write():
        session = library.create_session("tale", model="A", fingerprint=FINGERPRINT)
        library.append_parts(session.id, [PartDraft(kind="system", token_ids=np.arange(5))])


def read(library: Library) -> None:
    """Store a text, and make it part of a session together with its state, as a reading does."""
    with library.lock_session("tale") as row:
        document = library.put_document(encoded("Another text.\n"), "tokenizer-a")
        ids = encoded("Another text.\n").token_ids
        parts = [*library.parts(row.id), PartDraft(kind="document", token_ids=ids, document_id=document)]
        head = save(StateStore(library, FINGERPRINT), row.head, ids, row.num_tokens)
        library.change_stream(row.id, parts, [], head=head, position=row.num_tokens + len(ids))


def ask(library: Library) -> None:
    """Add a turn, with its state."""
    with library.lock_session("tale"):
        made_library.add_turn(library, StateStore(library, FINGERPRINT), "Later.")


def ask_again(library: Library) -> None:
    """Ask another question in place of the last one."""
    with library.lock_session("tale") as row:
        turn = library.turns("tale")[-1]
        question, reply = MessageDraft(role="user", text="Who?"), MessageDraft(role="assistant", text="Nobody.")
        ids = TURN[::-1].copy()
        parts = [
            PartDraft(kind="user", token_ids=ids[:3], message_id=question.id),
            PartDraft(kind="assistant", token_ids=ids[3:], message_id=reply.id),
        ]
        store = StateStore(library, FINGERPRINT)
        before = next((each.name for each in store.chain(row.head) if each.end == turn.start), None)
        head = save(store, before, ids, turn.start)
        library.commit_turn(row.id, parts, [question, reply], head, turn.start + len(ids), instead_of=turn.id)


def restore_turn(library: Library) -> None:
    """Take the deletion of a turn back."""
    library.restore_turn("tale", pickle.loads(library.folder.with_name("deleted.pickle").read_bytes()))


def remove(library: Library) -> None:
    """Take the text out of the session; what stands behind it is read again."""
    with library.lock_session("tale") as row:
        parts = [part for part in library.parts(row.id) if part.kind != "document"]
        ids = np.concatenate([library.token_ids(row.id, part.start, part.end) for part in parts])
        head = save(StateStore(library, FINGERPRINT), None, ids, 0)
        library.change_stream(row.id, parts, [], head=head, position=len(ids))


def evict(library: Library) -> None:
    """Drop all states, and what nothing needs."""
    library.evict(0)
    library.collect_garbage(min_age_s=0)


def limit(library: Library) -> None:
    """Set a quota, and keep it."""
    library.set_quota(library.usage().states_bytes - 1)
    library.make_room(library.max_state_bytes or 0)


def export(library: Library) -> None:
    """Write a session to a file."""
    export_session(library, "tale", library.folder.with_name("made.sala"))


def take_in(library: Library) -> None:
    """Take a session in from a file."""
    import_session(library, library.folder.with_name("given.sala"), fingerprint=FINGERPRINT)


def nothing(_library: Library) -> None:
    """Open and close."""


IN_LIBRARY: dict[str, Callable[[Library], object]] = {
    "open": nothing,
    "create": create,
    "read": read,
    "ask": ask,
    "fork": lambda library: library.fork_session("tale", "third"),
    "rename": lambda library: library.rename_session("tale", "tale of two"),
    "delete": lambda library: library.delete_session("tale"),
    "ask again": ask_again,
    "show version": lambda library: library.show_version("tale", library.turns("tale")[0].id, -1),
    "delete turn": lambda library: library.delete_turn("tale", library.turns("tale")[0].id),
    "restore turn": restore_turn,
    "branch": lambda library: library.branch_session("tale", "branch", library.turns("tale")[0].id),
    "bin": lambda library: library.bin_session("tale"),
    "restore": lambda library: library.restore_session("copy"),
    "empty bin": lambda library: library.empty_bin(0.0),
    "remove": remove,
    "evict": evict,
    "limit": limit,
    "copy": lambda library: library.keep_copy(),
    "export": export,
    "import": take_in,
    "migrate": nothing,
}
STARTS = {
    "show version": "versions",
    "delete turn": "versions",
    "restore turn": "deleted turn",
    "branch": "versions",
    "restore": "versions",
    "empty bin": "versions",
    "migrate": "first",
    "create": "none",
    "copy": "copied long ago",
    "repair": "lost",
    "repair damaged": "damaged",
}
"""Operation -> the start it needs, if that is not the whole library."""
OPERATIONS = (*IN_LIBRARY, "repair", "repair damaged")
CHANGES_NOTHING = ("open", "evict", "limit", "copy", "export", "migrate", "repair", "repair damaged")
"""Operations after which a library holds what it held, apart from states."""


def run(operation: str, folder: Path) -> None:
    """Do one operation on the library in `folder`."""
    if operation.startswith("repair"):
        for _ in repair_library(folder):
            pass
        return
    with Library.open(folder) as library:
        IN_LIBRARY[operation](library)
