"""Jobs: work that outlives the window that started it, and that a later start of the program finds again."""

import json
import os
import sqlite3
import time

import psutil

from sala_core.disk.files import new_id
from sala_core.errors import LibraryError
from sala_core.events import Answer, ReadReceipt, progress_from_json
from sala_core.store.base import LibraryBase, find_session
from sala_core.store.database import insert_row
from sala_core.store.rows import (
    READING_KINDS,
    AskRequest,
    JobProgress,
    JobRequest,
    JobResult,
    JobRow,
    JobStatus,
    ReadRequest,
    RereadRequest,
)

_CLOCK_SLACK_S = 2.0
"""A process's start time is computed from the boot time, which moves a little when the clock is set."""
_NOBODY = 0
_REQUESTS = {record.kind: record for record in (ReadRequest, RereadRequest, AskRequest)}


class Jobs(LibraryBase):
    """The part of the library that keeps jobs."""

    def create_job(self, session_id: str, request: JobRequest, job_id: str | None = None) -> JobRow:
        """Add a queued job that belongs to this process. Raises SessionNotFoundError.

        job_id: a new one, chosen by the caller; None for a random one.
        """
        job_id, now = job_id or new_id(), time.time()
        with self.database.write() as conn:
            values = {
                "id": job_id,
                "session_id": find_session(conn, session_id).id,
                "kind": request.kind,
                "status": "queued",
                "request": json.dumps(request.to_json()),
                "progress": "{}",
                "owner_pid": os.getpid(),
                "owner_started": psutil.Process().create_time(),
                "created_at": now,
                "updated_at": now,
            }
            insert_row(conn, "jobs", values)
            return _find(conn, job_id)

    def update_job(
        self,
        job_id: str,
        *,
        status: JobStatus | None = None,
        progress: JobProgress | None = None,
        result: JobResult | None = None,
        error: str | None = None,
    ) -> JobRow:
        """Change a job, and return it as it is then.

        Each call is one durable commit, which takes milliseconds: too slow to be called for every token.

        Args:
            job_id: which job.
            status, progress, result, error: the new values; None leaves a column as it is.

        Raises LibraryError for an unknown job.
        """
        values: dict[str, object] = {"updated_at": time.time()}
        if status is not None:
            values["status"] = status
        if progress is not None:
            values["progress"] = json.dumps(progress.to_json())
        if result is not None:
            values["result"] = json.dumps(result.to_json())
        if error is not None:
            values["error"] = error
        assignments = ", ".join(f"{column} = :{column}" for column in values)
        with self.database.write() as conn:
            conn.execute(f"UPDATE jobs SET {assignments} WHERE id = :id", values | {"id": job_id})
            return _find(conn, job_id)

    def job(self, job_id: str) -> JobRow:
        """Return one job. Raises LibraryError if it is unknown."""
        with self.database.read() as conn:
            return _find(conn, job_id)

    def jobs(self, session_id: str | None = None, status: JobStatus | None = None) -> list[JobRow]:
        """Return jobs, the oldest first. session_id, status: only jobs of this session or with this status."""
        with self.database.read() as conn:
            rows = conn.execute(
                "SELECT * FROM jobs"
                " WHERE session_id = coalesce(?, session_id) AND status = coalesce(?, status)"
                " ORDER BY created_at, rowid",
                [session_id, status],
            )
            return [_row(row) for row in rows]

    def unfinished_jobs(self, session_id: str) -> list[JobRow]:
        """Return a session's running jobs, then its queued ones, the oldest first of each.

        In one read: between two, a job that begins or goes back into the line would be missed.
        """
        query = (
            "SELECT * FROM jobs WHERE session_id = ? AND status IN ('running', 'queued')"
            " ORDER BY status DESC, created_at, rowid"
        )
        with self.database.read() as conn:
            return [_row(row) for row in conn.execute(query, [session_id])]

    def last_answers(self, limit: int) -> list[Answer]:
        """Return the answers of the jobs that ended last, the oldest first; at most `limit`."""
        query = "SELECT * FROM jobs WHERE kind = 'ask' AND status = 'done' ORDER BY updated_at DESC, rowid DESC LIMIT ?"
        with self.database.read() as conn:
            results = [_row(row).result for row in conn.execute(query, [limit]).fetchall()]
        return [result for result in reversed(results) if isinstance(result, Answer)]

    def release_job(self, job_id: str) -> None:
        """Leave a job without an owner, for `recover_jobs`: this process ends before it. Raises as `update_job`."""
        with self.database.write() as conn:
            conn.execute("UPDATE jobs SET owner_pid = ?, owner_started = 0 WHERE id = ?", [_NOBODY, job_id])
            _find(conn, job_id)

    def is_orphaned(self, job: JobRow) -> bool:
        """Whether a job is not over, and the process that did it has ended."""
        return job.status in ("queued", "running") and not _is_alive(job.owner_pid, job.owner_started)

    def is_answered(self, job: JobRow) -> bool:
        """Whether a question's turn is stored: a process can end between that and the end of the job."""
        if not isinstance(job.request, AskRequest):
            return False
        query = "SELECT 1 FROM messages WHERE session_id = ? AND role = 'user' AND text = ? AND created_at >= ?"
        with self.database.read() as conn:
            return conn.execute(query, [job.session_id, job.request.question, job.created_at]).fetchone() is not None

    def recover_jobs(self) -> list[JobRow]:
        """Mark queued and running jobs whose process has ended as interrupted, and return them."""
        with self.database.write() as conn:
            rows = conn.execute(
                "SELECT * FROM jobs WHERE status IN ('queued', 'running') ORDER BY created_at, rowid"
            ).fetchall()
            gone = [row["id"] for row in rows if not _is_alive(row["owner_pid"], row["owner_started"])]
            conn.executemany(
                "UPDATE jobs SET status = 'interrupted', updated_at = ? WHERE id = ?",
                [(time.time(), job_id) for job_id in gone],
            )
            return [_find(conn, job_id) for job_id in gone]


def _is_alive(pid: int, started: float) -> bool:
    if pid == _NOBODY:
        return False
    try:
        return abs(psutil.Process(pid).create_time() - started) <= _CLOCK_SLACK_S
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _find(conn: sqlite3.Connection, job_id: str) -> JobRow:
    row = conn.execute("SELECT * FROM jobs WHERE id = ?", [job_id]).fetchone()
    if row is None:
        raise LibraryError(f"job {job_id} is not in the library; its session was deleted")
    return _row(row)


def _row(row: sqlite3.Row) -> JobRow:
    kind = row["kind"]
    if kind not in _REQUESTS:
        raise LibraryError(f"job {row['id']} is of the unknown kind {kind!r}; update the program")
    result_type = ReadReceipt if kind in READING_KINDS else Answer
    return JobRow(
        id=row["id"],
        session_id=row["session_id"],
        kind=kind,
        status=row["status"],
        request=_REQUESTS[kind].from_json(json.loads(row["request"])),
        progress=progress_from_json(json.loads(row["progress"])),
        result=None if row["result"] is None else result_type.from_json(json.loads(row["result"])),
        error=row["error"],
        owner_pid=row["owner_pid"],
        owner_started=row["owner_started"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
