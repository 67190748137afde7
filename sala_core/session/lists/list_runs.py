"""The question lists of a workspace: kept in its library's folder, answered between jobs, one question at a time."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sala_core.disk.files import make_folder, new_id, storage_error, write_file
from sala_core.errors import QuestionListError, SalaError
from sala_core.events import Answer
from sala_core.session.lists.answer_rows import Row, answer_row, append_row, in_order, load_rows, unanswered
from sala_core.session.remote.turn import Writer
from sala_core.session.session import Session

ListStatus = Literal["waiting", "running", "stopped", "interrupted", "failed", "done"]
_ACTIVE: tuple[ListStatus, ...] = ("waiting", "running")
_HEAD, _ROWS = "list.json", "rows.jsonl"
_STORED = ("name", "questions", "created_at", "changes")


@dataclass(frozen=True, kw_only=True)
class ListView:
    """How a list stands. current: the question that is being answered; "" for none. error: why it failed, or ""."""

    id: str
    session_id: str
    name: str
    questions: tuple[str, ...]
    num_answered: int
    status: ListStatus
    current: str = ""
    error: str = ""
    created_at: float = 0.0
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields that replace those of the model's sampling parameters."""


class QuestionLists:
    """Answers lists of questions on the engine's thread. Between two questions other jobs go first.

    Each answer is on disk before the next question is asked, so a list that was stopped or killed continues where it
    was. Safe to call from any thread.
    """

    def __init__(
        self,
        folder: Path,
        call: Callable[[Callable[[], None]], None],
        open_session: Callable[[str], Session],
        writer: Callable[[Mapping[str, Any]], Writer | None] = lambda changes: None,
    ) -> None:
        """Serve the lists in a folder.

        Args:
            folder: holds `SESSION_ID/LIST_ID/`; made with the first list.
            call: has the engine's thread call a function between two jobs.
            open_session: opens a session by its id, on the engine's thread.
            writer: the engine elsewhere that answers, with the user's settings; None for the model here.
        """
        self._folder, self._call, self._open_session, self._writer = folder, call, open_session, writer
        self._views: dict[str, ListView] = {}
        self._stopping: set[str] = set()
        self._is_closed = False
        self._lock = threading.Lock()

    def start(
        self, session_id: str, name: str, questions: Sequence[str], changes: Mapping[str, Any] | None = None
    ) -> str:
        """Keep a new list, queue it, and return its id.

        Args:
            session_id: which session.
            name: of the list, shown to the user.
            questions: in order.
            changes: fields that replace those of the model's sampling parameters.

        Raises LibraryError, DiskFullError, and QuestionListError for an empty list.
        """
        if not questions:
            raise QuestionListError(f"{name} holds no question; write one on each line")
        view = ListView(
            id=new_id(),
            session_id=session_id,
            name=name,
            questions=tuple(questions),
            num_answered=0,
            status="waiting",
            created_at=time.time(),
            changes=dict(changes or {}),
        )
        head = {key: value for key, value in asdict(view).items() if key in _STORED}
        data = json.dumps(head, ensure_ascii=False).encode("utf-8", "surrogatepass")
        try:
            make_folder(self._path(view), 0o700)
        except OSError as error:
            raise storage_error(error, self._path(view)) from error
        write_file(self._path(view) / _HEAD, [memoryview(data)])
        self._begin(view)
        return view.id

    def resume(self, list_id: str, session_id: str) -> None:
        """Go on with a list that was stopped or interrupted, or has failed. Raises QuestionListError if it is gone."""
        view = self.view(list_id, session_id)
        if view.status not in (*_ACTIVE, "done"):
            self._begin(replace(view, status="waiting", error=""))

    def stop(self, list_id: str) -> None:
        """End a list after the token that is being written. The answers so far are kept."""
        with self._lock:
            self._stopping.add(list_id)

    def view(self, list_id: str, session_id: str) -> ListView:
        """How a list stands. Raises QuestionListError if the session has no such list, or its file is damaged."""
        with self._lock:
            known = self._views.get(list_id)
        return known if known is not None else self._stored(list_id, session_id)

    def views(self, session_id: str) -> list[ListView]:
        """The lists of a session, the latest first. Damaged ones are left out."""
        folders = self._folder.glob(f"{session_id}/*/{_HEAD}") if session_id.isalnum() else ()
        found = []
        for path in folders:
            try:
                found.append(self.view(path.parent.name, session_id))
            except QuestionListError:
                continue
        return sorted(found, key=lambda view: view.created_at, reverse=True)

    def rows(self, list_id: str, session_id: str) -> list[Row]:
        """The answers so far, in the order of the questions. Raises QuestionListError."""
        view = self.view(list_id, session_id)
        return in_order(view.questions, load_rows(self._path(view) / _ROWS))

    def delete(self, list_id: str, session_id: str) -> None:
        """Remove a list with its answers. Raises QuestionListError if it is gone or at work."""
        view = self.view(list_id, session_id)
        if view.status in _ACTIVE:
            raise QuestionListError(f"{view.name} is being answered; stop it first")
        shutil.rmtree(self._path(view), ignore_errors=True)
        with self._lock:
            self._views.pop(list_id, None)

    def drop_unused(self, session_ids: Collection[str]) -> None:
        """Remove the lists of sessions that are not there any more. session_ids: of all that are, with the bin."""
        for folder in self._folder.glob("*"):
            if folder.name not in session_ids:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End all lists; they are interrupted, and can be continued after the next start."""
        with self._lock:
            self._is_closed = True

    def _begin(self, view: ListView) -> None:
        with self._lock:
            self._stopping.discard(view.id)
            self._views[view.id] = view
        self._call(partial(self._answer_next, view.id))

    def _answer_next(self, list_id: str) -> None:
        """Answer one question, then queue the next. Runs on the engine's thread."""
        view = self._views[list_id]
        if self._should_stop(list_id):
            self._change(view, status="stopped", current="")
            return
        try:
            missing = unanswered(view.questions, load_rows(self._path(view) / _ROWS))
            if missing:
                view = self._change(view, status="running", current=missing[0])
                answer = self._ask(view, missing[0])
                if answer is None:
                    self._change(view, status="stopped", current="")
                    return
                append_row(self._path(view) / _ROWS, answer_row(missing[0], answer))
                view = self._change(view, num_answered=len(view.questions) - len(missing) + 1, current="")
            if len(missing) > 1:
                self._call(partial(self._answer_next, list_id))
            else:
                self._change(view, status="done")
        except SalaError as error:
            self._change(view, status="failed", current="", error=str(error))
        except Exception as error:  # noqa: BLE001 - the engine's thread goes on; the list says what went wrong
            self._change(view, status="failed", current="", error=f"{type(error).__name__}: {error}")

    def _ask(self, view: ListView, question: str) -> Answer | None:
        """The answer; None if it was stopped."""
        should_stop = partial(self._should_stop, view.id)
        with self._open_session(view.session_id) as session:
            aside, sampling = session.aside(), replace(session.sampling_defaults, **view.changes)
            for _ in aside.prepare(should_stop):
                pass
            if not aside.is_ready:
                return None
            told = aside.ask(question, sampling, should_stop, self._writer(view.changes))
            events = [event for event in told if isinstance(event, Answer)]
        return events[-1] if events and events[-1].finish_reason != "stopped" else None

    def _should_stop(self, list_id: str) -> bool:
        return self._is_closed or list_id in self._stopping

    def _change(self, view: ListView, **changes: Any) -> ListView:
        changed = replace(view, **changes)
        with self._lock:
            self._views[view.id] = changed
        return changed

    def _stored(self, list_id: str, session_id: str) -> ListView:
        """A list that this process has not worked on yet."""
        folder = self._folder / session_id / list_id
        if not (list_id.isalnum() and session_id.isalnum() and folder.is_dir()):
            raise QuestionListError("this list of questions is not there any more; look at the session again")
        try:
            head = json.loads((folder / _HEAD).read_text(encoding="utf-8", errors="surrogatepass"))
            name, questions = str(head["name"]), tuple(map(str, head["questions"]))
            created_at, changes = float(head["created_at"]), dict(head.get("changes", {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise QuestionListError(f"the list of questions in {folder} is damaged ({error}); delete it") from error
        num_answered = len(in_order(questions, load_rows(folder / _ROWS)))
        return ListView(
            id=list_id,
            session_id=session_id,
            name=name,
            questions=questions,
            num_answered=num_answered,
            status="done" if num_answered == len(questions) else "interrupted",
            created_at=created_at,
            changes=changes,
        )

    def _path(self, view: ListView) -> Path:
        return self._folder / view.session_id / view.id
