"""The uploads of browsers. Each has a private folder, until a plan takes the folder over."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app import wording
from app.server.upload_tree import FILES, Listing, check_room, files_to_send, lay_out, parts_of
from sala_core.errors import UploadError, UploadGoneError
from sala_core.ingest import Limits

if TYPE_CHECKING:
    from app.page.reading_plan.plan import Plan
    from app.page.reading_plan.plans import Plans
    from sala_core.session.workspace import Workspace

MAX_UPLOADS = 16
IDLE_S = 900.0
LOST_S = 60.0
"""Seconds that an upload waits for its browser: IDLE_S between two requests, LOST_S after one that broke off."""


@dataclass(kw_only=True, eq=False)
class Upload:
    """One upload."""

    id: str
    session_id: str
    area: Path
    listing: Listing
    missing: set[int]
    """Indices of the listing's files that the browser still has to send."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    timer: threading.Timer | None = None

    @property
    def missing_bytes(self) -> int:
        """Bytes that the browser still has to send."""
        return sum(self.listing.files[index][1] for index in self.missing)

    def target(self, index: int) -> Path:
        """Return the place of a file of the listing."""
        return self.area.joinpath(FILES, *parts_of(self.listing.files[index][0]))


class Uploads:
    """The uploads of one running program. Safe to call from any thread."""

    def __init__(self, workspace: Workspace, plans: Plans) -> None:
        self._workspace, self._plans = workspace, plans
        self._open: dict[str, Upload] = {}

    def begin(self, session_id: str, listing: Listing) -> Upload:
        """Lay out a listing and find the files that the browser has to send (`missing`).

        session_id: session to read into; '' for a new one. Raises UploadError, DiskFullError or LibraryError, and
        keeps nothing then.
        """
        if len(self._open) >= MAX_UPLOADS:
            raise UploadError("too many uploads at once; wait until the others are done")
        area, limits = self._workspace.new_upload_folder(), Limits()
        try:
            lay_out(listing, area, limits)
            missing = files_to_send(listing, area, limits)
            upload = Upload(id=area.name, session_id=session_id, area=area, listing=listing, missing=missing)
            check_room(area, upload.missing_bytes)
        except BaseException:
            shutil.rmtree(area, ignore_errors=True)
            raise
        self._open[upload.id] = upload
        self.wait(upload, IDLE_S)
        return upload

    def find(self, upload_id: str) -> Upload:
        """Return the upload with this id. Raises UploadGoneError."""
        try:
            return self._open[upload_id]
        except KeyError:
            raise UploadGoneError("this upload was given up; drop the files again") from None

    def wait(self, upload: Upload, seconds: float | None) -> None:
        """Drop the upload after `seconds` without a request. None: do not drop it, the browser is sending."""
        if upload.timer is not None:
            upload.timer.cancel()
        if seconds is not None and upload.id in self._open:
            upload.timer = threading.Timer(seconds, self.drop, [upload.id])
            upload.timer.daemon = True
            upload.timer.start()

    def drop(self, upload_id: str) -> None:
        """Drop an upload and remove its files. An unknown id changes nothing."""
        upload = self._forget(upload_id)
        if upload is not None:
            shutil.rmtree(upload.area, ignore_errors=True)

    def plan(self, upload: Upload, unreadable: Sequence[int] = ()) -> Plan:
        """Plan a reading of the received files. The plan owns the folder from then on.

        unreadable: indices of the files that the browser could not open. Raises UploadError if a file is missing.
        """
        self._mark_unreadable(upload, unreadable)
        if upload.missing:
            raise UploadError(f"{wording.plural(len(upload.missing), 'file')} did not arrive; drop them again")
        paths = [upload.area / FILES / name for name in upload.listing.tops]
        plan = self._plans.of_upload(upload.session_id, upload.area, paths)
        self._forget(upload.id)
        return plan

    def _mark_unreadable(self, upload: Upload, indices: Sequence[int]) -> None:
        for index in upload.missing.intersection(indices):
            upload.target(index).chmod(0)
            upload.missing.discard(index)

    def _forget(self, upload_id: str) -> Upload | None:
        upload = self._open.pop(upload_id, None)
        if upload is not None and upload.timer is not None:
            upload.timer.cancel()
        return upload
