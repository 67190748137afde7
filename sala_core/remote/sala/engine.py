"""The engine: another Sala that reads this session's documents and answers from them."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sala_core.disk.files import new_id
from sala_core.errors import (
    DocumentsMissingError,
    EngineFailedError,
    EngineUnreachableError,
)
from sala_core.events import Answer, PromptProgress, ReadProgress, ReadReceipt
from sala_core.ingest import Document
from sala_core.remote.access import Access
from sala_core.remote.engine import (
    EngineAnswer,
    EngineEvent,
    EngineInfo,
    EngineSettings,
    SessionText,
    TextDocument,
)
from sala_core.remote.sala.connection import PATIENCE_S, Connection, failed
from sala_core.remote.sala.following import Following, Shown
from sala_core.remote.sala.kept import Kept, KnownModel
from sala_core.remote.sala.order import OrderedTurn, StreamOrder
from sala_core.remote.sala.parcel import pack, parcel_hash
from sala_core.remote.sala.places import LocalPlaces
from sala_core.remote.sala.sending import Sender
from sala_core.remote.sala.wire import PROTOCOL, WireEvent, WireToken
from sala_core.written_by import WrittenBy

_LOADING_S = 300.0
_LOOK_S = 0.5
_ATTEMPTS = 5


class SalaEngine:
    """A `RemoteEngine`: a Sala that was started with `serve --engine-for-others`.

    Documents, source maps, conversation, branches and exports stay here. The server keeps the documents' texts and the
    state; what it has is not sent again, and what it has read is not read again, also after a restart on either side.
    """

    def __init__(self, access: Access, library: Path, *, patience_s: float = PATIENCE_S) -> None:
        """Prepare the engine; nothing is sent.

        Args:
            access: address of the server, its key, and the certificates that vouch for it.
            library: folder of the library here, in which the client's secret is kept.
            patience_s: how long a cut connection is made anew before an error is raised.

        Raises EngineError, LibraryError.
        """
        self.kept = Kept(library)
        self._patience_s = patience_s
        self.connection = Connection(access, self.kept.secret(), patience_s=patience_s)
        self._fingerprint = ""
        self._info: EngineInfo | None = None
        self._read: dict[str, tuple[str, ...]] = {}
        """Session -> hashes of the documents that the server has read of it, as this object knows."""

    def connect(self) -> EngineInfo:
        """Ask the server what it is: `RemoteEngine.connect`. A model that is being loaded there is waited for."""
        found = wait_until_ready(self.connection)
        address = self.connection.access.address
        if found.get("protocol") != PROTOCOL:
            raise EngineFailedError(
                f"{address} speaks version {found.get('protocol')} of the protocol, and this program {PROTOCOL}; "
                "update the older of the two"
            )
        if found.get("status") != "ready":
            reason = found.get("error") or f"still loading after {_LOADING_S:,.0f} s"
            raise EngineFailedError(f"{address} cannot load its model: {reason}")
        self._fingerprint = str(found["fingerprint"])
        self._info = EngineInfo(
            kind="sala",
            url=self.connection.access.url,
            model=str(found["model"]),
            context_tokens=int(found["max_tokens"]),
            keeps_state=True,
        )
        return self._info

    def note_before(self, session: SessionText) -> str:
        """What the next question costs beside its own tokens: `RemoteEngine.note_before`."""
        info = self.connect()
        known = self.kept.model(self.connection.access.address, session.session_id)
        if known is None or known.fingerprint == self._fingerprint:
            return ""
        tokens = sum(document.num_tokens for document in session.documents)
        before = "another version or number format of it" if known.name == info.model else repr(known.name)
        return (
            f"{self.connection.access.address} now serves {info.model!r}; this session was read there by {before}. "
            f"Its whole text is read again there: about {tokens:,} tokens."
        )

    def read(self, session: SessionText, *, should_stop: Callable[[], bool]) -> Iterator[ReadProgress | ReadReceipt]:
        """Have the server read the session's documents; the last event is its receipt. Raises EngineError.

        The reading goes on at the server when this iterator is closed, or this program ends.
        """
        self.connect()
        order = self._order(session)
        for event in self._job(session, order, {}, should_stop):
            if isinstance(event, ReadProgress | ReadReceipt):
                yield event
            if isinstance(event, ReadReceipt) and not event.stopped:
                self._read[session.session_id] = order.documents

    def ask(
        self, session: SessionText, question: str, settings: EngineSettings, *, should_stop: Callable[[], bool]
    ) -> Iterator[EngineEvent]:
        """Answer a question: `RemoteEngine.ask`. What the server has not read it reads first.

        Args:
            session, question, settings, should_stop: as there.
        """
        note = self.note_before(session)
        order = self._order(session)
        if self._read.get(session.session_id) != order.documents:
            receipt = None
            for read in self.read(session, should_stop=should_stop):
                if isinstance(read, ReadReceipt):
                    receipt = read
                else:
                    yield read
            if receipt is None or receipt.stopped:
                return
        changes = {name: value for name, value in asdict(settings).items() if value is not None}
        changes.setdefault("seed", secrets.randbits(31))  # an answer that has to be begun anew is the same one
        body = {"question": question, "changes": changes}
        shown = Shown(self.connection.access.address)
        for event in self._job(session, order, body, should_stop, begun_anew=shown.begin_anew):
            if isinstance(event, WireToken):
                yield from shown.new(event)
            elif isinstance(event, Answer):
                yield self._answer(session, event, note)
            elif isinstance(event, ReadProgress | PromptProgress):
                yield event

    def close(self) -> None:
        """Close the connections. What the server does goes on, and its state stays."""
        self.connection.close()

    def _job(
        self,
        session: SessionText,
        order: StreamOrder,
        body: dict[str, Any],
        should_stop: Callable[[], bool],
        *,
        begun_anew: Callable[[], None] = lambda: None,
    ) -> Iterator[WireEvent]:
        """Have a job done, and follow its events; what the server lacks is sent first.

        Args:
            session: whose documents are sent.
            order: what the server is to hold of it.
            body: what is asked; {} for a reading.
            should_stop: ends the job when it returns True.
            begun_anew: called when the job's events begin anew, because the server was started again.
        """
        address = self.connection.access.address
        assert self._info is not None
        self.kept.set_model(
            address, session.session_id, KnownModel(name=self._info.model, fingerprint=self._fingerprint)
        )
        sent = {
            "session": session.session_id,
            "fingerprint": self._fingerprint,
            "stream": order.to_json(),
            **body,
        }
        following = Following(self.connection, should_stop, patience_s=self._patience_s)
        for _ in range(_ATTEMPTS):
            job_id = new_id()
            try:
                self.connection.call("PUT", f"/jobs/{job_id}", body=sent, should_stop=should_stop)
            except DocumentsMissingError as error:
                self._read.pop(session.session_id, None)
                yield from self._send(session, error.names, should_stop)
                if should_stop():
                    return
                continue
            end = yield from following.events(job_id)
            if end.status == "failed":
                raise failed(end.error, end.kind, address)
            if end.status != "interrupted":
                return
            begun_anew()  # the server was started again: what it has read it has kept, the rest is asked for once more
        raise EngineUnreachableError(f"{address} was interrupted {_ATTEMPTS} times; look at it there, and ask again")

    def _send(self, session: SessionText, names: list[str], should_stop: Callable[[], bool]) -> Iterator[ReadProgress]:
        documents = {self._parcel_of(document): document for document in session.documents}

        def packed(name: str) -> tuple[str, bytes]:
            document = load(documents[name])
            return document.name, pack(document)

        unknown = [name for name in names if name not in documents]
        if unknown:
            raise EngineFailedError(f"{self.connection.access.address} asks for documents that this session has not")
        yield from Sender(self.connection, packed).send(names, should_stop=should_stop)

    def _order(self, session: SessionText) -> StreamOrder:
        known = len(session.documents)
        names = dict.fromkeys(self._parcel_of(document) for document in session.documents)
        if known:
            self.kept.save()
        turns = (OrderedTurn(question=turn.question, answer=turn.answer) for turn in session.turns)
        return StreamOrder(documents=tuple(names), turns=tuple(turn for turn in turns if turn.question and turn.answer))

    def _parcel_of(self, document: TextDocument) -> str:
        """The hash of a document's parcel, which is computed once."""
        name = self.kept.parcel(document.id)
        if name is None:
            name = parcel_hash(pack(load(document)))
            self.kept.set_parcel(document.id, name)
        return name

    def _answer(self, session: SessionText, answer: Answer, note: str) -> EngineAnswer:
        by_id = {document.id: document for document in session.documents}
        ids = {document.content_hash: document.id for document in session.documents}
        answer, lost = LocalPlaces(ids, lambda name: load(by_id[name])).answer(answer)
        warnings = [note] if note else []
        if lost:
            warnings.append(f"{lost} places of the answer do not stand in the documents here, and are not shown.")
        assert self._info is not None
        return EngineAnswer(
            finish_reason=answer.finish_reason,
            written_by=WrittenBy(
                engine=answer.model or self._info.model,
                address=self.connection.access.address,
                basis="state",
                tokens_again=answer.tokens_read,
                tokens_reused=answer.tokens_reused,
            ),
            evidence=answer.evidence,
            quotations=answer.quotations,
            tokens_generated=answer.tokens_generated,
            seconds_prefill=answer.seconds_prefill,
            seconds_decode=answer.seconds_decode,
            warnings=(*warnings, *answer.warnings),
            confidence=answer.confidence,
        )


def wait_until_ready(connection: Connection) -> dict[str, Any]:
    """What the server says of itself, once its model is loaded, or cannot be, or _LOADING_S have passed."""
    end = time.monotonic() + _LOADING_S
    while True:
        found = connection.call("GET", "/")
        if found.get("status") != "loading" or time.monotonic() > end:
            return found
        time.sleep(_LOOK_S)


def load(document: TextDocument) -> Document:
    """A session's document, whole. Raises EngineFailedError where its text is lost here."""
    whole = document.load() if document.load is not None else None
    if whole is not None:
        return whole
    text = document.text()
    if not text:
        raise EngineFailedError(f"the text of {document.name} is lost here; read the file again")
    content_hash = Document.hash_of(document.name, text)
    return Document(
        name=document.name, media_type="text/plain", num_bytes=len(text.encode()), text=text, content_hash=content_hash
    )
