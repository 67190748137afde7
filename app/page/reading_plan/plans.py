"""The plans of a running program: each is counted in a thread of its own, then read or dropped."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from app.page.reading_plan.plan import Plan, is_read_at_once
from app.page.session_list import session_for
from sala_core.disk.files import new_id
from sala_core.errors import IngestError, PlanGoneError, SalaError
from sala_core.ingest.fetch.address import parse_address
from sala_core.ingest.fetch.git import fetch_repository
from sala_core.ingest.fetch.web import FetchLimits, fetch_page
from sala_core.session.planning.records import Additions, CountOrder
from sala_core.session.planning.shared import FileKey

if TYPE_CHECKING:
    from sala_core.ingest.fetch.address import Address
    from sala_core.session.planning.records import Estimate, PlannedFile
    from sala_core.session.workspace import Workspace

MAX_PLANS = 16
_UNEXPECTED = "something unexpected went wrong"


class Plans:
    """The plans of one running program. Safe to call from any thread."""

    def __init__(self, workspace: Workspace) -> None:
        """Begin without a plan."""
        self._workspace = workspace
        self._plans: dict[str, Plan] = {}
        self._lock = threading.Lock()
        self._is_resumed = False

    def of_paths(self, session_id: str, paths: Sequence[Path]) -> Plan:
        """Plan to read files and folders where they are.

        session_id: "" for a new session. Raises IngestError for a path that does not exist.
        """
        for path in paths:
            if not path.exists():
                raise IngestError(f"there is no file or folder {path}; check the spelling")
        plan = Plan(id=new_id(), session_id=session_id, name=_name_of(paths), paths=tuple(paths))
        plan.needs_decision = any(path.is_dir() for path in paths)
        return self._start(plan)

    def of_upload(self, session_id: str, folder: Path, paths: Sequence[Path]) -> Plan:
        """Plan to read what came through the browser. It is kept on disk until somebody decides.

        session_id: "" for a new session. folder: is taken over; holds the paths. Raises LibraryError.
        """
        offer = self._workspace.offers.put(new_id(), folder, paths, session_id, _name_of(paths))
        plan = Plan(id=offer.id, session_id=session_id, name=offer.name, paths=tuple(offer.paths), folder=offer.folder)
        plan.needs_decision = any(path.is_dir() for path in plan.paths)
        return self._start(plan)

    def of_address(self, session_id: str, text: str) -> Plan:
        """Plan to fetch an address, and to read what was fetched. Nothing is fetched before `fetch` is called.

        session_id: "" for a new session. Raises FetchError for what is no address, or is not fetched.
        """
        address = parse_address(text)
        name = address.folders[-1].rpartition(".")[0] or address.folders[-1]
        plan = Plan(id=new_id(), session_id=session_id, name=name, addresses=(address,), status="announced")
        self._plans[plan.id] = plan
        return plan

    def find(self, plan_id: str) -> Plan:
        """The plan with this id. Raises PlanGoneError."""
        try:
            return self._plans[plan_id]
        except KeyError:
            raise PlanGoneError("this plan is no longer there; drop the files again, or type the path again") from None

    def open(self) -> list[Plan]:
        """The plans that wait for the user, with what was dropped before the program ended last."""
        with self._lock:
            if not self._is_resumed:
                self._is_resumed = True
                self._resume()
        return [plan for plan in self._plans.values() if plan.status != "reading"]

    def fetch(self, plan_id: str) -> None:
        """The user agrees: fetch the addresses. Raises PlanGoneError."""
        plan = self.find(plan_id)
        if plan.status == "announced":
            plan.status = "fetching"
            threading.Thread(target=self._fetch, args=(plan,), name="fetch", daemon=True).start()

    def unlock(self, plan_id: str, name: str, password: str) -> PlannedFile:
        """Count an encrypted file again with a password. Returns the file, which is still locked if it is wrong.

        The password is kept in memory until the reading is over. Raises PlanGoneError, IngestError.
        """
        found: list[PlannedFile] = []
        plan = self.find(plan_id)
        order = CountOrder(
            paths=plan.paths,
            report=lambda file: found.append(file) if file.name == name else None,
            session_id=self._session_id(plan),
            should_stop=plan.stopping.is_set,
            password_of=(plan.passwords | {name: password}).get,
        )
        self._workspace.planner.count(order)
        index = next((index for index, file in enumerate(plan.files) if file.name == name), None)
        if not found or index is None:
            raise IngestError(f"{name} is not there any more; drop it again")
        plan.files[index] = found[0]
        if found[0].state != "locked":
            plan.passwords[name] = password
        return found[0]

    def estimate(self, plan_id: str, left_out: Sequence[str]) -> Estimate | None:
        """What it takes to read all but some of the files; None until the model is loaded. Raises PlanGoneError."""
        plan = self.find(plan_id)
        chosen = plan.chosen(left_out)
        additions = Additions(
            num_tokens=sum(file.num_tokens for file in chosen),
            replaced=frozenset(file.content_hash for file in chosen if file.state == "changed"),
            files=tuple(
                FileKey(name=file.name, file_hash=file.file_hash, num_tokens=file.num_tokens) for file in chosen
            ),
        )
        return self._workspace.planner.estimate(self._session_id(plan), additions)

    def read(self, plan_id: str, left_out: Sequence[str] | None = None) -> Plan:
        """Queue the reading; a new session is made only now.

        left_out: names of files that are not wanted; None where nobody has chosen. Raises PlanGoneError, and SalaError
        where the reading is refused: the plan then stays as it is.
        """
        plan = self.find(plan_id)
        with self._lock:  # two windows may decide at the same moment
            return plan if plan.status == "reading" else self._read(plan, left_out)

    def _read(self, plan: Plan, left_out: Sequence[str] | None) -> Plan:
        row = session_for(self._workspace, plan.session_id, plan.name)
        try:
            self._workspace.submit_read(
                row.id,
                list(plan.paths),
                owned_folder=plan.folder,
                left_out=left_out,
                passwords=dict(plan.passwords) or None,
            )
        except SalaError:
            if row.id != plan.session_id:
                self._workspace.library.delete_if_blank(row.id)
            raise
        plan.read_in, plan.status = row.id, "reading"
        self._workspace.offers.drop(plan.id)
        plan.passwords.clear()
        return plan

    def cancel(self, plan_id: str) -> None:
        """Drop a plan and what was copied or fetched for it. A plan that is not there, or is being read, is left."""
        plan = self._plans.get(plan_id)
        if plan is None or plan.status == "reading":
            return
        del self._plans[plan_id]
        plan.stopping.set()
        plan.passwords.clear()
        if plan.folder is not None:
            shutil.rmtree(plan.folder, ignore_errors=True)
        self._workspace.offers.drop(plan.id)

    def _resume(self) -> None:
        for offer in self._workspace.offers.all():
            if offer.id not in self._plans:
                paths, folder = tuple(offer.paths), offer.folder
                plan = Plan(id=offer.id, session_id=offer.session_id, name=offer.name, paths=paths, folder=folder)
                self._start(plan)

    def _start(self, plan: Plan) -> Plan:
        decided = [known.id for known in self._plans.values() if known.status == "reading"]
        for plan_id in decided[:-MAX_PLANS]:
            del self._plans[plan_id]
        self._plans[plan.id] = plan
        threading.Thread(target=self._count, args=(plan,), name="plan", daemon=True).start()
        return plan

    def _session_id(self, plan: Plan) -> str:
        """The plan's session, or "" if there is none any more."""
        ids = {row.id for row in self._workspace.library.sessions()}
        return plan.session_id if plan.session_id in ids else ""

    def _fetch(self, plan: Plan) -> None:
        limits, place = FetchLimits(), None
        with self._told(plan):
            place = self._workspace.new_upload_folder()
            roots = [self._fetch_one(plan, address, place, limits) for address in plan.addresses]
            offer = self._workspace.offers.put(plan.id, place, list(dict.fromkeys(roots)), plan.session_id, plan.name)
            plan.paths, plan.folder, plan.status = tuple(offer.paths), offer.folder, "counting"
            if plan.stopping.is_set():  # it was canceled just now
                self._workspace.offers.drop(plan.id)
                return
        if plan.status == "counting":
            plan.needs_decision = plan.addresses[0].kind == "git"
            self._count(plan)
        elif place is not None:
            shutil.rmtree(place, ignore_errors=True)

    def _fetch_one(self, plan: Plan, address: Address, place: Path, limits: FetchLimits) -> Path:
        if address.kind == "git":
            return fetch_repository(address, place, limits, plan.stopping.is_set).root

        def report(note: str) -> None:
            plan.note = note

        return fetch_page(address, place, limits, report, plan.stopping.is_set).root

    def _count(self, plan: Plan) -> None:
        order = CountOrder(
            paths=plan.paths,
            report=plan.files.append,
            session_id=self._session_id(plan),
            progress=plan.count_to,
            should_stop=plan.stopping.is_set,
        )
        with self._told(plan):
            plan.gone = self._workspace.planner.count(order)
            if plan.stopping.is_set():
                return
            found = self.estimate(plan.id, ())
            if found is not None and is_read_at_once(plan, found):
                self.read(plan.id)
            else:
                plan.needs_decision, plan.status = True, "ready"

    @contextmanager
    def _told(self, plan: Plan) -> Iterator[None]:
        """What fails inside ends the plan, with the reason."""
        try:
            yield
        except SalaError as error:
            self._fail(plan, str(error))
        except Exception as error:  # noqa: BLE001 - the thread's outermost boundary: the page must be able to say why
            self._fail(plan, f"{_UNEXPECTED} ({type(error).__name__}: {error})")

    def _fail(self, plan: Plan, reason: str) -> None:
        plan.error, plan.status, plan.needs_decision = reason, "failed", True


def _name_of(paths: Sequence[Path]) -> str:
    return paths[0].name if paths[0].is_dir() else paths[0].stem
