"""Any sequence of operations, with crashes in between, leaves a library that a simple model agrees with."""

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
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
from library_model import Model, Operation, Session, observe, perform, predict
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

numbers = st.integers(0, 10)


class LibraryMachine(RuleBasedStateMachine):
    """A library, and the model of it."""

    base: Path
    steps = itertools.count()

    @initialize()
    def start(self) -> None:
        """Open an empty library."""
        self.root = Path(tempfile.mkdtemp(dir=self.base))
        self.folder = self.root / "library"
        self.library = Library.open(self.folder)
        self.model: Model = {}
        self.archives: dict[int, Session] = {}

    def teardown(self) -> None:
        """Close it."""
        if hasattr(self, "library"):
            self.library.close()
            shutil.rmtree(self.root, ignore_errors=True)

    def do(self, operation: Operation, crash_at: int) -> bool:
        """Do an operation, or crash at a step of it; return whether it was done. crash_at: 0 for none."""
        after = predict(self.model, operation)
        if not crash_at:
            try:
                perform(self.library, operation)
            except DiskFullError:
                assert self.library.max_state_bytes is not None, "it can only be the quota's"
                return False
            self.model = after
            return True
        self.library.close()
        is_done = self._crash(operation, crash_at)
        self.library = _opened(self.folder)
        found = observe(self.library)
        assert found in (self.model, after), f"{operation}, step {crash_at}"
        is_done = is_done or (after != self.model and found == after)
        self.model = found
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

    def some(self, number: int) -> str:
        """The name of a session that is there."""
        return sorted(self.model)[number % len(self.model)]

    def free(self, number: int) -> str:
        """A name that is free."""
        free = [name for name in NAMES if name not in self.model]
        return free[number % len(free)]

    crashes = st.one_of(st.just(0), st.just(0), st.integers(1, MAX_CRASH_STEP))

    @precondition(lambda self: len(self.model) < len(NAMES))
    @rule(number=numbers, crash=crashes)
    def create(self, number: int, crash: int) -> None:
        """Create a session."""
        self.do(Operation("create", (self.free(number),)), crash)

    @precondition(lambda self: self.model)
    @rule(number=numbers, text=st.sampled_from(TEXTS), has_state=st.booleans(), crash=crashes)
    def read(self, number: int, text: str, has_state: bool, crash: int) -> None:
        """Read a text."""
        self.do(Operation("read", (self.some(number), text, has_state)), crash)

    @precondition(lambda self: self.model)
    @rule(number=numbers, text=st.sampled_from(["Who?", "Where? ✓", "x" * 300]), has_state=st.booleans(), crash=crashes)
    def ask(self, number: int, text: str, has_state: bool, crash: int) -> None:
        """Ask a question."""
        self.do(Operation("ask", (self.some(number), text, has_state)), crash)

    @precondition(lambda self: self.model)
    @rule(number=numbers, document=numbers, crash=crashes)
    def remove(self, number: int, document: int, crash: int) -> None:
        """Take a text out."""
        self.do(Operation("remove", (self.some(number), document)), crash)

    @precondition(lambda self: 0 < len(self.model) < len(NAMES))
    @rule(name=st.sampled_from(["fork", "rename"]), number=numbers, new=numbers, crash=crashes)
    def fork_or_rename(self, name: str, number: int, new: int, crash: int) -> None:
        """Fork a session, or rename it."""
        self.do(Operation(name, (self.some(number), self.free(new))), crash)

    @precondition(lambda self: self.model)
    @rule(name=st.sampled_from(["delete", "drop state"]), number=numbers, crash=crashes)
    def delete(self, name: str, number: int, crash: int) -> None:
        """Delete a session, or only its state."""
        self.do(Operation(name, (self.some(number),)), crash)

    @rule(limit=st.sampled_from([0, 3000, 20_000]), crash=crashes)
    def evict(self, limit: int, crash: int) -> None:
        """Delete the states that were not used for longest."""
        self.do(Operation("evict", (limit,)), crash)

    @rule(limit=st.sampled_from([None, None, 3000, 20_000]), crash=crashes)
    def limit(self, limit: int | None, crash: int) -> None:
        """Set a quota."""
        self.do(Operation("limit", (limit,)), crash)

    @rule(name=st.sampled_from(["collect", "copy"]), crash=crashes)
    def tidy(self, name: str, crash: int) -> None:
        """Delete what nobody needs, or keep a copy of the database."""
        self.do(Operation(name), crash)

    @precondition(lambda self: self.model)
    @rule(number=numbers, crash=crashes)
    def export(self, number: int, crash: int) -> None:
        """Write a session to a file."""
        name, file = self.some(number), len(list(self.root.glob("*.sala")))
        if self.do(Operation("export", (name, file)), crash) or (self.root / f"{file}.sala").exists():
            self.archives[file] = self.model[name]

    @precondition(lambda self: self.archives and len(self.model) < len(NAMES))
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
            assert observe(self.library) == self.model


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
    print(f"{next(LibraryMachine.steps):,} steps")
