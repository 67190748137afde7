"""The routes of “Settings”. The guard lets only the page itself use them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.page.settings.form import (
    save_answers,
    save_at_rest,
    save_library,
    save_prompt,
    save_quota,
    save_theme,
    settings_object,
)
from app.page.settings.stored import load_program, save_program
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace

MAX_CHARS = 20_000


class SettingsBody(BaseModel):
    """Fields that the user has changed; the others stay as they are."""

    theme: str | None = Field(default=None, max_length=20)
    answers: dict[str, str] | None = Field(default=None, max_length=20)
    quota: str | None = Field(default=None, max_length=40)
    library: str | None = Field(default=None, max_length=4096)
    device: str | None = Field(default=None, max_length=20)
    kv: str | None = Field(default=None, max_length=20)
    at_rest: str | None = Field(default=None, max_length=20)
    session: str = Field(default="", max_length=64)
    prompt: str | None = Field(default=None, max_length=MAX_CHARS)
    tour: str | None = Field(default=None, max_length=20)


def settings_router(workspace: Workspace) -> APIRouter:
    """Return the routes under /api/settings: show and save; /api/sessions/ID/reread."""
    router = APIRouter(prefix="/api")

    @router.get("/settings")
    def show(session: str = "") -> dict[str, Any]:
        return settings_object(workspace, session)

    @router.get("/program")
    def program() -> dict[str, str]:
        """Return what a window needs at its start."""
        kept = load_program(workspace.library.folder)
        return {"theme": kept.theme, "tour": kept.tour}

    @router.post("/settings")
    def save(body: SettingsBody) -> Any:
        try:
            notes = _save(workspace, body)
        except SalaError as error:
            return {"refused": str(error)}
        return {"notes": [note for note in notes if note]}

    @router.post("/sessions/{session_id}/reread")
    def reread(session_id: str) -> Any:
        try:
            return {"job": workspace.submit_reread(session_id)}
        except SalaError as error:
            return {"refused": str(error)}

    return router


def _save(workspace: Workspace, body: SettingsBody) -> list[str]:
    """Save the fields, those that can be refused first; return what the user should know. Raises SalaError."""
    notes = []
    if body.answers is not None:
        notes.append(save_answers(workspace, body.answers))
    if body.quota is not None:
        notes.append(save_quota(workspace, body.quota))
    if body.library is not None:
        notes.append(save_library(workspace, body.library))
    if body.prompt is not None and body.session:
        notes.append(save_prompt(workspace, body.session, body.prompt))
    if body.at_rest is not None:
        notes.append(save_at_rest(workspace, body.at_rest))
    if body.theme is not None:
        notes.append(save_theme(workspace, body.theme))
    if body.tour is not None:
        folder = workspace.library.folder
        save_program(folder, replace(load_program(folder), tour=body.tour))
    if body.device is not None or body.kv is not None:
        notes.append(_save_computing(workspace, body))
    return notes


def _save_computing(workspace: Workspace, body: SettingsBody) -> str:
    """Keep device and number format, and load the model again with them."""
    from sala_core.session.workspace import ModelChoice

    folder = workspace.library.folder
    before = load_program(folder)
    after = replace(before, device=body.device or before.device, kv=body.kv or before.kv)
    if after == before:
        return ""
    save_program(folder, after)
    name = workspace.model_info().name
    workspace.switch_model(ModelChoice(model=name, device=after.device, kv=after.kv_kind))
    return "The model is loaded again with this device and number format, after the work under way."
