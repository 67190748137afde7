"""Any sequence of operations, with crashes in between, leaves a library that a simple model agrees with."""

import itertools
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conversation_model import Session, Turn, gathered
from crash_steps import KILLED, end_at
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from library_model import IN_BIN, Model, Operation, observe, perform, predict, seen
from sqlite_calls import need_vfs, watched

from sala_core.errors import DiskFullError, LibraryDamagedError
from sala_core.store import Library
from sala_core.store.integrity.repair import repair_library
from sala_core.store.integrity.verify import verify_library

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")

NAMES = [f"session {number}" for number in range(5)]
TEXTS = ["One.\n", "Two, which is longer.\n", "Three is the longest of these texts.\n"]
STEPS_A_RUN = 40
MAX_CRASH_STEP = 260

TIDYING = [
    *(Operation("evict", (limit,)) for limit in (0, 3000, 20_000)),
    *(Operation("limit", (limit,)) for limit in (None, None, 3000, 20_000)),
    Operation("collect"),
    Operation("copy"),
]

numbers = st.integers(0, 10)


@dataclass(frozen=True)
class Deleted:
    """A turn that was deleted just now: in which session, what takes that back, that session before, and its place."""

    name: str
    deleted: Any
    before: Session
    index: int


class LibraryMachine(RuleBasedStateMachine):
    """A library, and the model of it."""

    base: Path
    steps = itertools.count()
    done: ClassVar[Counter[str]] = Counter()

    @initialize()
    def start(self) -> None:
        """Make a library with a conversation."""
        self.root = Path(tempfile.mkdtemp(dir=self.base))
        self.folder = self.root / "library"
        self.library = Library.open(self.folder)
        self.model: Model = {}
        self.archives: dict[int, Session] = {}
        self.asked = itertools.count(1)
        self.deleted: Deleted | None = None
        self.result: object = None
        self.do(Operation("create", (NAMES[0],)), 0)
        for has_state in (True, False, True):
            self.do(Operation("ask", (NAMES[0], self.question("What?"), has_state)), 0)

    def teardown(self) -> None:
        """Close it."""
        if hasattr(self, "library"):
            self.library.close()
            shutil.rmtree(self.root, ignore_errors=True)

    def do(self, operation: Operation, crash_at: int) -> bool:
        """Do an operation, or crash at a step of it; return whether it was done. crash_at: 0 for none."""
        before, after = self.model, predict(self.model, operation)
        if not crash_at:
            try:
                self.result = perform(self.library, operation)
            except DiskFullError:
                assert self.library.max_state_bytes is not None, "it can only be the quota's"
                return False
            is_done = True
        else:
            self.library.close()
            is_done = self._crash(operation, crash_at)
            self.library = _opened(self.folder)
            found = observe(self.library)
            assert found in (seen(before), seen(after)), f"{operation}, step {crash_at}"
            is_done = found == seen(after) and (is_done or after != before)
        if is_done:
            self.model = after
            LibraryMachine.done[operation.name] += 1
        if self.model != before:
            self.deleted = None
        return is_done

    def _crash(self, operation: Operation, step: int) -> bool:
        child = os.fork()
        if child == 0:
            code = 3
            try:
                with watched(end_at(step, [0])), Library.open(self.folder) as library:
                    perform(library, operation)
                code = 0
            except DiskFullError:
                code = 1
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 1, KILLED), f"{operation} ended with {code}"
        return code == 0

    @property
    def live(self) -> list[str]:
        """The names of the sessions that are not in the bin."""
        return sorted(name for name in self.model if not name.startswith(IN_BIN))

    @property
    def talks(self) -> list[str]:
        """Those of the sessions in which something was asked."""
        return [name for name in self.live if self.model[name].turns]

    @property
    def num_binned(self) -> int:
        """How many sessions are in the bin."""
        return len(self.model) - len(self.live)

    def some(self, number: int) -> str:
        """The name of a session that is there."""
        return self.live[number % len(self.live)]

    def turn(self, number: int, place: int) -> tuple[str, int]:
        """A session in which something was asked, and the index of a turn of it."""
        name = self.talks[number % len(self.talks)]
        return name, place % len(self.model[name].turns)

    def question(self, text: str) -> Turn:
        """A question that was not asked before."""
        number = next(self.asked)
        return Turn(f"{text} {number}", number)

    def free(self, number: int) -> str:
        """A name that is free."""
        free = [name for name in NAMES if name not in self.model]
        return free[number % len(free)]

    crashes = st.one_of(st.just(0), st.just(0), st.integers(1, MAX_CRASH_STEP))

    @precondition(lambda self: len(self.live) < len(NAMES))
    @rule(number=numbers, crash=crashes)
    def create(self, number: int, crash: int) -> None:
        """Create a session."""
        self.do(Operation("create", (self.free(number),)), crash)

    @precondition(lambda self: self.live)
    @rule(number=numbers, text=st.sampled_from(TEXTS), has_state=st.booleans(), crash=crashes)
    def read(self, number: int, text: str, has_state: bool, crash: int) -> None:
        """Read a text."""
        self.do(Operation("read", (self.some(number), text, has_state)), crash)

    @precondition(lambda self: self.live)
    @rule(number=numbers, text=st.sampled_from(["Who?", "Where? ✓", "x" * 300]), has_state=st.booleans(), crash=crashes)
    def ask(self, number: int, text: str, has_state: bool, crash: int) -> None:
        """Ask a question."""
        self.do(Operation("ask", (self.some(number), self.question(text), has_state)), crash)

    @precondition(lambda self: self.talks)
    @rule(number=numbers, place=numbers, crash=crashes, gather_crash=crashes, is_switched=st.booleans())
    def ask_again(self, number: int, place: int, crash: int, gather_crash: int, is_switched: bool) -> None:
        """Ask another question in place of one; documents that stand behind it move before it first. Perhaps then show
        the version before it."""
        name, index = self.turn(number, place)
        self.do(Operation("gather", (name, index)), gather_crash)
        if self.model[name] == gathered(self.model[name], index):
            is_done = self.do(Operation("ask again", (name, index, self.question("Why?"))), crash)
            if is_done and is_switched:
                self.do(Operation("show version", (name, index, -1)), gather_crash)

    @precondition(lambda self: any(_switches(self.model[name]) for name in self.talks))
    @rule(number=numbers, switch=numbers, crash=crashes)
    def show_version(self, number: int, switch: int, crash: int) -> None:
        """Show another version of a turn."""
        names = [name for name in self.talks if _switches(self.model[name])]
        name = names[number % len(names)]
        switches = _switches(self.model[name])
        self.do(Operation("show version", (name, *switches[switch % len(switches)])), crash)

    @precondition(lambda self: self.talks)
    @rule(number=numbers, place=numbers, crash=crashes, is_taken_back=st.booleans(), back_crash=crashes)
    def delete_turn(self, number: int, place: int, crash: int, is_taken_back: bool, back_crash: int) -> None:
        """Delete a turn, and perhaps take that back at once."""
        name, index = self.turn(number, place)
        before = self.model[name]
        if self.do(Operation("delete turn", (name, index)), crash) and not crash:
            self.deleted = Deleted(name, self.result, before, index)
            if is_taken_back:
                self.restore_turn(crash=back_crash)

    @precondition(lambda self: self.deleted)
    @rule(crash=crashes)
    def restore_turn(self, crash: int) -> None:
        """Take the deletion of a turn back."""
        gone = self.deleted
        assert gone is not None
        self.do(Operation("restore turn", (gone.name, gone.deleted, gone.before, gone.index)), crash)

    @precondition(lambda self: self.talks and len(self.live) < len(NAMES))
    @rule(number=numbers, place=numbers, new=numbers, crash=crashes)
    def branch(self, number: int, place: int, new: int, crash: int) -> None:
        """Copy a session up to a turn."""
        name, index = self.turn(number, place)
        self.do(Operation("branch", (name, self.free(new), index)), crash)

    @precondition(lambda self: self.live)
    @rule(number=numbers, crash=crashes)
    def bin(self, number: int, crash: int) -> None:
        """Move a session to the bin."""
        self.do(Operation("bin", (self.some(number),)), crash)

    @precondition(lambda self: self.num_binned and len(self.live) < len(NAMES))
    @rule(number=numbers, crash=crashes)
    def restore(self, number: int, crash: int) -> None:
        """Bring a session back from the bin."""
        self.do(Operation("restore", (number % self.num_binned,)), crash)

    @precondition(lambda self: self.num_binned == 1)
    @rule(crash=crashes)
    def empty_bin(self, crash: int) -> None:
        """Delete what is in the bin; each session in a transaction of its own."""
        self.do(Operation("empty bin"), crash)

    @precondition(lambda self: self.live)
    @rule(number=numbers, document=numbers, crash=crashes)
    def remove(self, number: int, document: int, crash: int) -> None:
        """Take a text out."""
        self.do(Operation("remove", (self.some(number), document)), crash)

    @precondition(lambda self: 0 < len(self.live) < len(NAMES))
    @rule(name=st.sampled_from(["fork", "rename"]), number=numbers, new=numbers, crash=crashes)
    def fork_or_rename(self, name: str, number: int, new: int, crash: int) -> None:
        """Fork a session, or rename it."""
        self.do(Operation(name, (self.some(number), self.free(new))), crash)

    @precondition(lambda self: self.live)
    @rule(name=st.sampled_from(["delete", "drop state"]), number=numbers, crash=crashes)
    def delete(self, name: str, number: int, crash: int) -> None:
        """Delete a session, or only its state."""
        self.do(Operation(name, (self.some(number),)), crash)

    @rule(operation=st.sampled_from(TIDYING), crash=crashes)
    def tidy(self, operation: Operation, crash: int) -> None:
        """Make room, set a quota, delete what nobody needs, or keep a copy of the database."""
        self.do(operation, crash)

    @precondition(lambda self: self.live)
    @rule(number=numbers, crash=crashes)
    def export(self, number: int, crash: int) -> None:
        """Write a session to a file."""
        name, file = self.some(number), len(list(self.root.glob("*.sala")))
        if self.do(Operation("export", (name, file)), crash) or (self.root / f"{file}.sala").exists():
            self.archives[file] = self.model[name]

    @precondition(lambda self: self.archives and len(self.live) < len(NAMES))
    @rule(number=numbers, file=numbers, crash=crashes)
    def take_in(self, number: int, file: int, crash: int) -> None:
        """Take a session in from a file."""
        chosen = sorted(self.archives)[file % len(self.archives)]
        self.do(Operation("import", (self.free(number), chosen, self.archives[chosen])), crash)

    @rule()
    def reopen(self) -> None:
        """Close and open."""
        self.library.close()
        self.library = Library.open(self.folder)
        assert self.library.take_notices() == []

    @rule(is_lost=st.booleans())
    def repair(self, is_lost: bool) -> None:
        """Repair the library, perhaps after the database and its copy were lost."""
        self.library.close()
        for path in self.folder.glob("library.*") if is_lost else ():
            if path.name.startswith("library.db") or "copy" in path.name:
                path.unlink()
        list(repair_library(self.folder))
        self.library = Library.open(self.folder)
        self.library.take_notices()

    @rule()
    def verify(self) -> None:
        """Check everything."""
        assert [each for each in verify_library(self.library) if each.problem] == []

    @invariant()
    def agrees(self) -> None:
        """The library holds what the model says."""
        next(LibraryMachine.steps)
        if hasattr(self, "library"):
            assert observe(self.library) == seen(self.model)


def _switches(session: Session) -> list[tuple[int, int]]:
    """(index, step) of all versions next to those that are shown."""
    found = []
    for index, turn in enumerate(session.turns):
        place, number = session.versions(index).index(turn), len(session.versions(index))
        found += [(index, step) for step in (-1, 1) if 0 <= place + step < number]
    return found


def _opened(folder: Path) -> Library:
    """Open a library after a crash."""
    try:
        return Library.open(folder)
    except LibraryDamagedError:
        list(repair_library(folder))
        return Library.open(folder)


@pytest.mark.timeout(0)
def test_every_sequence_of_operations_agrees_with_a_simple_model(tmp_path, unsynced, pytestconfig):
    need_vfs()
    LibraryMachine.base = tmp_path
    steps = pytestconfig.getoption("--steps")
    run_state_machine_as_test(
        LibraryMachine,
        settings=settings(
            max_examples=max(1, steps // STEPS_A_RUN),
            stateful_step_count=STEPS_A_RUN,
            deadline=None,
            database=None,
            derandomize=steps <= 200,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{next(LibraryMachine.steps):,} steps, done: {dict(LibraryMachine.done.most_common())}")
