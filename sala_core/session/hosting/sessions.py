"""Readings and questions of other Salas, in the one queue of a workspace: questions go before readings."""

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sala_core.errors import DocumentsMissingError, LibraryError, SalaError, SessionNotFoundError
from sala_core.events import Answer
from sala_core.remote.sala.order import OrderedTurn, StreamOrder
from sala_core.remote.sala.wire import WireEvent
from sala_core.session.hosting.client import Client
from sala_core.session.hosting.feed import Feed, Feeds
from sala_core.session.hosting.follow import Given
from sala_core.session.hosting.received import Received
from sala_core.session.hosting.telling import for_client
from sala_core.session.hosting.turn_tokens import TurnTokens
from sala_core.session.job_runner import Event, JobView, Task
from sala_core.session.queue.questions import QuestionOfOthers, Work
from sala_core.session.session import Session
from sala_core.session.workspace import Workspace
from sala_core.store import JobRow, JobStatus, ReadRequest, SessionRow

_ACTIVE: tuple[JobStatus, ...] = ("queued", "running")


@dataclass(frozen=True, kw_only=True)
class JobOrder:
    """What a client wants done.

    id: chosen by the client, 32 hexadecimal digits: the same id again is the same job. session: the session's key.
    fingerprint: of the states of the model that the client expects. question: None for a reading. changes: answer
    settings that replace the model's own.
    """

    id: str
    session: str
    fingerprint: str
    stream: StreamOrder
    question: str | None = None
    changes: Mapping[str, Any] | None = None


class SessionsOfOthers:
    """Serves all clients. Every call names its client, and reaches nothing of another one."""

    def __init__(self, workspace: Workspace) -> None:
        """workspace: whose library, model and queue are used."""
        self._workspace = workspace
        self._feeds = Feeds()
        self._received: dict[str, Received] = {}
        self._names: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def received(self, client: Client) -> Received:
        """The documents that a client has sent."""
        with self._lock:
            return self._received_of(client)

    def sessions(self, client: Client) -> dict[str, SessionRow]:
        """A client's sessions, by their keys."""
        rows = ((client.key_of(row.name), row) for row in self._workspace.library.sessions_of_others())
        return {key: row for key, row in rows if key is not None}

    def submit(self, client: Client, order: JobOrder) -> JobView:
        """Queue a job, unless there is one with this id already, and return how it stands.

        Raises DocumentsMissingError; SessionBusyError where too many questions of the session wait; ValueError for a
        key that is none; LibraryError if the id is another client's.
        """
        name = client.session_name(order.session)
        with self._lock:
            if (row := self._find(order.id)) is not None:
                return self._own(client, row)
            session = self._session(name)
            given = self._given(client, session, order)
            feed = self._feeds.new(order.id)
            if order.question is None:
                self._submit_read(session.id, order, given, feed)
            else:
                self._submit_ask(session.id, order, given, feed)
            self._feeds.drop_old({row.id for status in _ACTIVE for row in self._workspace.library.jobs(status=status)})
        return self._workspace.job(order.id)

    def job(self, client: Client, job_id: str) -> JobView:
        """How a client's job stands. Raises LibraryError for an unknown one, and for another client's."""
        return self._own(client, self._workspace.library.job(job_id))

    def events(self, client: Client, job_id: str, number: int) -> tuple[list[WireEvent], JobView, str]:
        """A job's events from `number` on, how it stands, and the name of the class of its error.

        Of a job of an earlier process only the result is left: it comes whatever `number` is. Raises as `job`.
        """
        view = self.job(client, job_id)  # before the events: what comes between is told the next time
        feed = self._feeds.get(job_id)
        if feed is None:
            events: list[WireEvent] = [view.result] if view.result is not None else []
        else:
            events = feed.since(number)
        return [for_client(event, self._content_hash) for event in events], view, feed.kind if feed else ""

    def stop(self, client: Client, job_id: str) -> None:
        """Ask a client's job to end. Raises as `job`."""
        self._workspace.stop(self.job(client, job_id).id)

    def delete(self, client: Client, key: str) -> None:
        """Delete a session with its state, and the documents that no other session of the client has.

        Raises SessionNotFoundError, SessionBusyError.
        """
        library, name = self._workspace.library, client.session_name(key)
        library.delete_session(library.session(name).id)
        hashes = {
            row.content_hash for session in self.sessions(client).values() for row in library.documents(session.id)
        }
        names = self._names.get(client.id, {})
        self.received(client).keep_only({parcel for parcel, content in names.items() if content in hashes})

    def _content_hash(self, document_id: str) -> str:
        """By what clients know a document; "" for one that is gone."""
        with suppress(LibraryError):
            return self._workspace.library.document(document_id).content_hash
        return ""

    def _received_of(self, client: Client) -> Received:
        """As `received`; the caller holds the lock."""
        if client.id not in self._received:
            self._received[client.id] = Received(self._folder(client))
        return self._received[client.id]

    def _folder(self, client: Client) -> Path:
        return client.folder(self._workspace.library.folder)

    def _find(self, job_id: str) -> JobRow | None:
        with suppress(LibraryError):
            return self._workspace.library.job(job_id)
        return None

    def _own(self, client: Client, row: JobRow) -> JobView:
        """The job, if it is this client's."""
        session = self._workspace.library.session(row.session_id)
        if client.key_of(session.name) is None:
            raise LibraryError(f"there is no job {row.id}")
        return self._workspace.job(row.id)

    def _session(self, name: str) -> SessionRow:
        library = self._workspace.library
        try:
            return library.session(name)
        except SessionNotFoundError:
            return self._workspace.new_session(name)

    def _given(self, client: Client, session: SessionRow, order: JobOrder) -> Given:
        names = self._names.setdefault(client.id, {})
        received = self._received_of(client)
        have = {row.content_hash for row in self._workspace.library.documents(session.id)}
        missing = [name for name in order.stream.documents if names.get(name) not in have and not received.has(name)]
        if missing:
            raise DocumentsMissingError(missing)
        return Given(
            order=order.stream,
            fingerprint=order.fingerprint,
            names=names,
            load=received.load,
            turns=TurnTokens(self._folder(client)),
        )

    def _submit_read(self, session_id: str, order: JobOrder, given: Given, feed: Feed) -> None:
        def work(task: Task) -> Generator[Event, None, None]:
            with self._workspace.open_session(session_id) as session:
                session.follow(given)
                yield from session.read([], should_stop=task.should_stop)

        self._workspace.runner.submit(session_id, ReadRequest(), _told(work, feed.add, feed), job_id=order.id)

    def _submit_ask(self, session_id: str, order: JobOrder, given: Given, feed: Feed) -> None:
        def follow(session: Session) -> None:
            session.follow(given)

        def listen(event: Event) -> None:
            if isinstance(event, Answer):
                self._keep_tokens(session_id, str(order.question), event, given.turns)
            feed.add(event)
            if feed.is_abandoned:
                self._workspace.stop(order.id)

        others = QuestionOfOthers(job_id=order.id, before=follow, told=lambda work: _told(work, listen, feed))
        self._workspace.questions.submit(session_id, str(order.question), changes=order.changes, others=others)

    def _keep_tokens(self, session_id: str, question: str, answer: Answer, turns: TurnTokens) -> None:
        """Keep the tokens of the turn that was just stored."""
        library = self._workspace.library
        parts = library.parts(session_id)[-2:]
        ids = [library.token_ids(session_id, part.start, part.end) for part in parts]
        tokenizer = self._workspace.engine.tokenizer.fingerprint
        turns.put(OrderedTurn(question=question, answer=answer.text), tokenizer, *ids)


def _told(work: Work, listen: Callable[[Event], None], feed: Feed) -> Work:
    """The work, whose events are told to `listen` as well; the feed gets the class of the error that ends it."""

    def told(task: Task) -> Generator[Event, None, None]:
        try:
            for event in work(task):
                listen(event)
                yield event
        except SalaError as error:
            feed.kind = type(error).__name__
            raise

    return told
