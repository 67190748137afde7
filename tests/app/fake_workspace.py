"""A workspace without a model: the page's view of the program, with jobs that follow a script."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fake_aside import fake_lists
from fake_planner import FakePlanner, FakeReadings

from sala_core import SamplingParams
from sala_core.errors import LibraryError, SessionBusyError, SessionExistsError, SessionNotFoundError
from sala_core.events import (
    Answer,
    AnswerStats,
    Evidence,
    KernelProgress,
    PromptProgress,
    Quotation,
    ReadProgress,
    ReadReceipt,
)
from sala_core.ingest import SkippedFile
from sala_core.session.folders.staleness import DiskStates
from sala_core.session.planning.offered import Offers
from sala_core.session.planning.usage import TokenUse
from sala_core.session.queue.waiting import Waiting
from sala_core.store import AskRequest, JobProgress, JobRequest, JobResult, ReadRequest, RereadRequest, SourceRow
from sala_core.store.listing.hits import Hit
from sala_core.store.rows import READING_KINDS, Usage
from sala_core.store.turns.operations import TurnRow

NOVEL = "\n".join(
    f"Line {number} of the novel: the carriage waited in the rain while nobody spoke." for number in range(1, 4001)
)


@dataclass(kw_only=True)
class FakeSession:
    id: str
    name: str
    model: str = "embedded"
    fingerprint: str = "f00d"
    head: str | None = None
    position: int = 0
    num_tokens: int = 0
    num_documents: int = 0
    num_messages: int = 0
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    bytes_written: int = 0
    pinned: bool = False
    binned_at: float | None = None
    system_prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class FakeDocument:
    id: str
    name: str
    media_type: str
    num_bytes: int
    num_tokens: int
    num_pages: int = 0
    text: str = NOVEL
    page_starts: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    content_hash: str = ""


@dataclass(frozen=True, kw_only=True)
class FakeEncoded:
    document: FakeDocument


@dataclass(frozen=True, kw_only=True)
class FakePart:
    ordinal: int
    kind: str
    start: int
    end: int
    document_id: str | None


@dataclass(frozen=True, kw_only=True)
class FakeMessage:
    id: str
    role: str
    text: str
    thinking: str = ""
    status: str = "done"
    evidence: tuple[Evidence, ...] = ()
    stats: AnswerStats | None = None
    created_at: float = field(default_factory=time.time)


@dataclass(kw_only=True)
class FakeJob:
    id: str
    session_id: str
    kind: str
    status: str = "queued"
    request: JobRequest = field(default_factory=ReadRequest)
    progress: JobProgress | None = None
    text: str = ""
    thinking: str = ""
    thinking_s: float | None = None
    is_thinking: bool = False
    error: str | None = None
    result: JobResult | None = None
    created_at: float = field(default_factory=time.time)
    is_own: bool = True
    waiting: Waiting | None = None


@dataclass(frozen=True, kw_only=True)
class FakeModelInfo:
    name: str = "embedded"
    status: str = "ready"
    is_demonstration: bool = True
    device: str = "cpu"
    dtype: str = "bfloat16"
    max_tokens: int = 1_048_576
    sampling: Any = field(default_factory=lambda: SamplingParams(temperature=0.0))
    error: str | None = None
    device_note: str = ""
    kernels: KernelProgress | None = None
    thinks_by_default: bool | None = None
    switch_failure: str = ""
    writer: str = ""


@dataclass(frozen=True, kw_only=True)
class FakeMeter:
    tokens_read: int
    tokens_pending: int
    tokens_free: int
    state_bytes: int
    library_bytes: int
    process_bytes: int
    used: TokenUse = field(default_factory=lambda: TokenUse(documents=47_000, conversation=900, thinking=100))
    saved_s: float = 0.0


@dataclass(kw_only=True)
class Script:
    """What the next jobs do. A test changes it before it presses a button."""

    answer: str = 'The novel says "the carriage waited in the rain" and then goes **silent**.\n\nNothing more is told.'
    thinking: str = ""
    thinking_end: str = "model"
    finish_reason: str = "stop"
    token_s: float = 0.03
    reading_s: float = 2.0
    read_error: str | None = None
    ask_error: str | None = None
    skipped: tuple[SkippedFile, ...] = ()
    evidence: tuple[Evidence, ...] = (
        Evidence(
            document="novel.txt",
            document_id="novel",
            page=None,
            line_start=120,
            line_end=122,
            text="\n".join(NOVEL.split("\n")[119:122]),
            score=0.91,
        ),
        Evidence(
            document="novel.txt",
            document_id="novel",
            page=None,
            line_start=40,
            line_end=40,
            text=NOVEL.split("\n")[39],
            score=0.37,
        ),
    )


class FakeLibrary:
    """Sessions, messages, documents and jobs in memory, with the interface of Library."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sala-library-"))
        self.left_over_bytes = self.shared_bytes = 0
        self.rows: dict[str, FakeSession] = {}
        self.bin: dict[str, FakeSession] = {}
        self.facts: dict[str, str] = {}
        self.max_bytes: int | None = None
        self.talk: dict[str, list[FakeMessage]] = {}
        self.stream: dict[str, list[FakePart]] = {}
        self.texts: dict[str, FakeDocument] = {}
        self.work: dict[str, FakeJob] = {}
        self.files: dict[str, list[SourceRow]] = {}
        self.ids = itertools.count(1)

    def session(self, name_or_id: str) -> FakeSession:
        for row in self.rows.values():
            if name_or_id in (row.id, row.name):
                return row
        raise SessionNotFoundError(f"no session is called {name_or_id!r}")

    def sessions(self, search: str | None = None) -> list[FakeSession]:
        listed = (row for row in self.rows.values() if not row.name.startswith("api: "))
        rows = sorted(listed, key=lambda row: (not row.pinned, -row.updated_at))
        if not search:
            return rows
        wanted = search.lower()
        return [
            row
            for row in rows
            if wanted in row.name.lower() or any(wanted in m.text.lower() for m in self.talk.get(row.id, []))
        ]

    def sessions_of_others(self) -> list[FakeSession]:
        return [row for row in self.rows.values() if row.name.startswith("api: ")]

    def check_name(self, name: str, own_id: str = "") -> None:
        if any(row.name == name and row.id != own_id for row in self.rows.values()):
            raise SessionExistsError(f"a session called {name!r} is already here; choose another name")

    def rename_session(self, session_id: str, name: str) -> FakeSession:
        self.check_name(name, session_id)
        self.session(session_id).name = name
        return self.session(session_id)

    def fork_session(self, session_id: str, new_name: str) -> FakeSession:
        self.check_name(new_name)
        original = self.session(session_id)
        copy = replace(original, id=f"s{next(self.ids)}", name=new_name, updated_at=time.time())
        self.rows[copy.id] = copy
        self.talk[copy.id] = list(self.talk.get(original.id, []))
        self.stream[copy.id] = list(self.stream.get(original.id, []))
        return copy

    def bin_session(self, session_id: str) -> FakeSession:
        row = self.rows.pop(self.session(session_id).id)
        row.binned_at = time.time()
        self.bin[row.id] = row
        return row

    def sessions_in_bin(self) -> list[FakeSession]:
        return list(self.bin.values())

    def restore_session(self, session_id: str) -> FakeSession:
        row = self.bin.pop(session_id)
        row.binned_at = None
        self.rows[row.id] = row
        return row

    def pin_session(self, session_id: str, *, pinned: bool) -> FakeSession:
        self.session(session_id).pinned = pinned
        return self.session(session_id)

    def set_system_prompt(self, session_id: str, text: str) -> FakeSession:
        self.session(session_id).system_prompt = text.strip()
        return self.session(session_id)

    def search_hits(self, search: str) -> list[Hit]:
        wanted = search.lower()
        return [
            Hit(
                session_id=row.id,
                session=row.name,
                kind="message",
                item=message.id,
                role=message.role,
                before=message.text[:at],
                found=message.text[at : at + len(wanted)],
                after=message.text[at + len(wanted) :],
            )
            for row in self.rows.values()
            for message in self.talk.get(row.id, [])
            if (at := message.text.lower().find(wanted)) >= 0
        ]

    def session_sizes(self) -> dict[str, int]:
        return {row.id: self.session_state_bytes(row.id) for row in self.rows.values()}

    def fact(self, key: str) -> str | None:
        return self.facts.get(key)

    def quota(self) -> int | None:
        return self.max_bytes

    def set_quota(self, max_bytes: int | None) -> None:
        self.max_bytes = max_bytes

    def make_room(self, max_bytes: int) -> int:
        return 0

    def usage(self) -> Usage:
        whole = sum(row.position * 8512 for row in self.rows.values())
        return Usage(segments_bytes=whole, snapshots_bytes=0, documents_bytes=0, database_bytes=0, stray_bytes=0)

    def delete_session(self, session_id: str, *, only_in_bin: bool = False) -> int:
        if only_in_bin:
            del self.bin[session_id]
            return 0
        del self.rows[self.session(session_id).id]
        return 0

    def delete_if_blank(self, session_id: str) -> bool:
        return self.rows.pop(session_id, None) is not None

    def session_state_bytes(self, session_id: str) -> int:
        return self.session(session_id).position * 8512 + self.shared_bytes

    def droppable_bytes(self, session_ids: list[str]) -> int:
        return sum(row.position * 8512 for row in self.rows.values() if row.id in session_ids)

    def garbage_bytes(self) -> int:
        return self.left_over_bytes

    def collect_garbage(self) -> int:
        freed, self.left_over_bytes = self.left_over_bytes, 0
        return freed

    def drop_state(self, session_id: str) -> int:
        freed = self.droppable_bytes([session_id])
        self.session(session_id).position = 0
        return freed

    def turns(self, session_id: str) -> list[TurnRow]:
        talk = self.talk.get(session_id, [])
        return [
            TurnRow(
                id=question.id,
                answer_id=answer.id,
                number=number,
                versions=(question.id,),
                start=0,
                end=0,
                document_tokens_behind=0,
            )
            for number, (question, answer) in enumerate(zip(talk[::2], talk[1::2], strict=False), start=1)
        ]

    def messages(self, session_id: str) -> list[FakeMessage]:
        return list(self.talk.get(session_id, []))

    def parts(self, session_id: str) -> list[FakePart]:
        return list(self.stream.get(session_id, []))

    def document(self, document_id: str) -> FakeDocument:
        return self.texts[document_id]

    def documents(self, session_id: str) -> list[FakeDocument]:
        return [self.texts[part.document_id] for part in self.parts(session_id) if part.document_id is not None]

    def outdated_answers(self, session_id: str) -> dict[str, tuple[str, ...]]:
        return {}

    def sources(self, session_id: str) -> list[SourceRow]:
        return self.files.get(session_id, [])

    def load_document(self, document_id: str) -> FakeEncoded:
        if document_id == "novel":
            return FakeEncoded(
                document=FakeDocument(id="novel", name="novel.txt", media_type="", num_bytes=0, num_tokens=0)
            )
        return FakeEncoded(document=self.texts[document_id])

    def job(self, job_id: str) -> FakeJob:
        return self.work[job_id]

    def is_answered(self, job: FakeJob) -> bool:
        asked = job.request.question if isinstance(job.request, AskRequest) else ""
        return any(each.text == asked for each in self.messages(job.session_id))

    def jobs(self, session_id: str | None = None, status: str | None = None) -> list[FakeJob]:
        return [
            job
            for job in self.work.values()
            if (session_id is None or job.session_id == session_id) and (status is None or job.status == status)
        ]


class FakeWatchers:
    """Folders that can be watched, by session, and what is."""

    def __init__(self) -> None:
        self.watchable: dict[str, list[str]] = {}
        self.watched: set[str] = set()

    def folders(self, session_id: str) -> list[str]:
        return self.watchable.get(session_id, [])

    def is_on(self, session_id: str) -> bool:
        return session_id in self.watched

    def note(self, session_id: str) -> str:
        return ""

    def switch(self, session_id: str, *, on: bool) -> None:
        (self.watched.add if on else self.watched.discard)(session_id)


class FakeQuestions:
    """The interface of Questions: questions of a session are answered one after the other."""

    def __init__(self, workspace: FakeWorkspace) -> None:
        self._library = workspace.library

    def waiting(self, session_id: str) -> list[FakeJob]:
        queued = [job for job in self._library.jobs(session_id, "queued") if isinstance(job.request, AskRequest)]
        return [replace(job, waiting=Waiting(place=place, seconds=40.0)) for place, job in enumerate(queued, 1)]

    def cancel(self, job_id: str) -> None:
        if self._library.work[job_id].status == "queued":
            self._library.work[job_id].status = "stopped"


class FakeWorkspace:
    """The interface of Workspace. Its jobs follow `script`, each in its own thread."""

    def __init__(self, script: Script | None = None) -> None:
        self.library = FakeLibrary()
        self.watchers = FakeWatchers()
        self.script = script or Script()
        self.info = FakeModelInfo()
        self.wanted: Any = None
        self.stops: set[str] = set()
        self.refusals: dict[str, str] = {}
        self.calls: list[tuple[str, Any]] = []
        self.planner = FakePlanner()
        self.readings = FakeReadings(self)
        self.questions = FakeQuestions(self)
        self.on_disk = DiskStates(self.library)  # type: ignore[arg-type]
        self.offers = Offers(self.library.folder / "uploads")
        self.lists = fake_lists(self)

    def model_info(self) -> FakeModelInfo:
        return self.info

    def new_session(self, name: str) -> FakeSession:
        self.library.check_name(name)
        row = FakeSession(id=f"s{next(self.library.ids)}", name=name)
        self.library.rows[row.id] = row
        return row

    def switch_model(self, choice: Any) -> None:
        self.calls.append(("switch", choice))
        self.info = replace(self.info, name=choice.model, is_demonstration=False)

    def refusal(self, session_id: str) -> str | None:
        return self.refusals.get(session_id)

    def submit_read(
        self,
        session_id: str,
        paths: list[Path],
        *,
        owned_folder: Path | None = None,
        left_out: Any = None,
        passwords: Any = None,
    ) -> str:
        self.calls.append(("read", [str(path) for path in paths]))
        for path in paths:
            if not Path(path).exists():
                raise LibraryError(f"{path} is not on this disk; check the spelling")
        if left_out is not None or passwords is not None:
            self.calls.append(("chosen", (left_out, passwords)))
        if owned_folder is not None:
            home = Path(tempfile.mkdtemp(prefix="sala-read-"))
            shutil.move(owned_folder, home / "taken")
            paths = [home / "taken" / path.relative_to(owned_folder) for path in paths]
            self.calls[-1 - (self.calls[-1][0] == "chosen")] = ("read", [str(path) for path in paths])
        request = ReadRequest(paths=tuple(map(str, paths)), left_out=None if left_out is None else tuple(left_out))
        return self._start(session_id, request, self._read)

    def new_upload_folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="sala-upload-"))

    def submit_remove(self, session_id: str, document_ids: list[str]) -> str:
        self.calls.append(("remove", document_ids))
        self.library.stream[session_id] = [
            part for part in self.library.parts(session_id) if part.document_id not in document_ids
        ]
        return self._start(session_id, ReadRequest(remove=tuple(document_ids)), self._read)

    def removal_cost(self, session_id: str, document_id: str) -> int:
        return 38_100

    def submit_reread(self, session_id: str) -> str:
        self.refusals.pop(session_id, None)
        return self._start(session_id, RereadRequest(), self._read)

    def submit_ask(
        self,
        session_id: str,
        question: str,
        sampling: Any = None,
        *,
        changes: Any = None,
        instead_of: str | None = None,
    ) -> str:
        self.calls.append(("ask", changes))
        active = self.active_job(session_id)
        if instead_of is not None and active is not None and active.kind not in READING_KINDS:
            raise SessionBusyError("a question is being answered here; wait for it, or press Stop")
        return self._start(session_id, AskRequest(question=question, instead_of=instead_of), self._ask)

    def active_reading(self, session_id: str) -> FakeJob | None:
        jobs = [job for job in self.library.jobs(session_id) if job.kind in READING_KINDS]
        return next((replace(job) for job in jobs if job.status in ("queued", "running")), None)

    def stop(self, job_id: str) -> None:
        self.stops.add(job_id)

    def job(self, job_id: str) -> FakeJob:
        return replace(self.library.work[job_id])

    def active_job(self, session_id: str) -> FakeJob | None:
        jobs = [job for job in self.library.jobs(session_id) if job.status in ("queued", "running")]
        return next((replace(job) for job in sorted(jobs, key=lambda job: job.kind in READING_KINDS)), None)

    def meter(self, session_id: str) -> FakeMeter:
        tokens = sum(part.end - part.start for part in self.library.parts(session_id))
        free = self.info.max_tokens - tokens
        return FakeMeter(
            tokens_read=tokens,
            tokens_pending=0,
            tokens_free=free,
            state_bytes=tokens * 8512,
            library_bytes=3_200_000_000,
            process_bytes=1_240_000_000,
        )

    def close(self) -> None:
        for job in self.library.work.values():
            self.stops.add(job.id)

    def _start(self, session_id: str, request: JobRequest, target: Any) -> str:
        is_queued = isinstance(request, ReadRequest) and bool(request.paths)
        is_queued = is_queued or isinstance(request, AskRequest)
        if self.active_job(session_id) is not None and not is_queued:
            raise SessionBusyError("this session is still at work; wait for it or press Stop")
        job = FakeJob(id=f"j{next(self.library.ids)}", session_id=session_id, kind=request.kind, request=request)
        self.library.work[job.id] = job
        threading.Thread(target=target, args=(job,), daemon=True).start()
        return job.id

    def _read(self, job: FakeJob) -> None:
        while any(other.status == "running" for other in self.library.jobs(job.session_id)):
            time.sleep(0.05)
        if job.status != "queued":
            return
        job.status = "running"
        paths = job.request.paths if isinstance(job.request, ReadRequest) else ()
        names = [Path(path).name for path in paths] or ["novel.txt"]
        total, steps = 48_000 * len(names), 40
        for step in range(steps + 1):
            job.progress = ReadProgress(
                phase="preparing" if step < 6 else "reading",
                file=names[min(len(names) - 1, step * len(names) // steps)],
                files_done=step * len(names) // steps,
                files_total=len(names),
                tokens_done=total * step // steps,
                tokens_total=total,
                tokens_per_s=total / self.script.reading_s,
                seconds_left=self.script.reading_s * (1 - step / steps),
            )
            if job.id in self.stops:
                break
            if self.script.read_error and step == steps // 2:
                job.error, job.status = self.script.read_error, "failed"
                return
            time.sleep(self.script.reading_s / steps)
        stopped = job.id in self.stops
        for name in names:
            self._add_document(job.session_id, name)
        job.result = ReadReceipt(
            files=len(names),
            pages=0,
            tokens=total,
            tokens_read=total,
            tokens_reused=0,
            seconds=self.script.reading_s,
            skipped=self.script.skipped,
            warnings=(),
            stopped=stopped,
        )
        job.status = "stopped" if stopped else "done"

    def _add_document(self, session_id: str, name: str) -> None:
        document = FakeDocument(
            id=f"d{next(self.library.ids)}",
            name=name,
            media_type="text/plain",
            num_bytes=len(NOVEL),
            num_tokens=48_000,
        )
        self.library.texts[document.id] = document
        parts = self.library.stream.setdefault(session_id, [])
        start = parts[-1].end if parts else 0
        parts.append(
            FakePart(ordinal=len(parts), kind="document", start=start, end=start + 48_000, document_id=document.id)
        )
        row = self.library.session(session_id)
        row.position = row.num_tokens = start + 48_000
        row.num_documents += 1
        row.updated_at = time.time()

    def _ask(self, job: FakeJob) -> None:
        while any(self.library.work[each.id].status in ("queued", "running") for each in self._before(job)):
            time.sleep(0.02)
        if job.status == "stopped":
            return
        job.status, job.waiting = "running", None
        job.progress = PromptProgress(tokens_done=0, tokens_total=12)
        time.sleep(0.3)
        if self.script.ask_error:
            job.error, job.status = self.script.ask_error, "failed"
            return
        for attribute, text in (("thinking", self.script.thinking), ("text", self.script.answer)):
            words = text.split(" ") if text else []
            began = time.monotonic()
            job.is_thinking = attribute == "thinking" and bool(words)
            for number in range(len(words)):
                if job.id in self.stops:
                    break
                setattr(job, attribute, " ".join(words[: number + 1]))
                job.thinking_s = time.monotonic() - began if job.is_thinking else job.thinking_s
                time.sleep(self.script.token_s)
        self._commit_turn(job)

    def _before(self, job: FakeJob) -> list[FakeJob]:
        asked = [each for each in self.library.jobs(job.session_id) if isinstance(each.request, AskRequest)]
        return asked[: [each.id for each in asked].index(job.id)]

    def _commit_turn(self, job: FakeJob) -> None:
        assert isinstance(job.request, AskRequest)
        quotation = Quotation(
            text="the carriage waited in the rain",
            document="novel.txt",
            document_id="novel",
            page=None,
            line_start=1,
            line_end=1,
        )
        answer = Answer(
            text=job.text,
            thinking=job.thinking,
            evidence=self.script.evidence,
            quotations=(quotation,),
            tokens_reused=48_000,
            tokens_read=12,
            tokens_generated=len(job.text.split()),
            seconds_load=0.2,
            seconds_prefill=0.4,
            seconds_decode=2.1,
            finish_reason="stopped" if job.id in self.stops else self.script.finish_reason,
            model="embedded",
            tokens_thinking=len(job.thinking.split()),
            seconds_thinking=job.thinking_s,
            thinking_end=self.script.thinking_end if job.thinking else "",
        )
        talk = self.library.talk.setdefault(job.session_id, [])
        number = next(self.library.ids)
        talk.append(FakeMessage(id=f"m{number}q", role="user", text=job.request.question))
        talk.append(
            FakeMessage(
                id=f"m{number}a",
                role="assistant",
                text=answer.text,
                thinking=answer.thinking,
                evidence=answer.evidence,
                stats=answer.stats,
            )
        )
        job.result = answer
        row = self.library.session(job.session_id)
        row.num_messages, row.updated_at = len(talk), time.time()
        job.status = "stopped" if job.id in self.stops else "done"
