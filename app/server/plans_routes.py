"""The routes on which reading_plan.js shows what will be read. The guard lets only the page itself use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from app.page.reading_plan.words import estimate_json, file_json, plan_json
from sala_core.errors import PlanGoneError, SalaError
from sala_core.ingest.fetch.web import FetchLimits

if TYPE_CHECKING:
    from app.page.reading_plan.plans import Plans
    from sala_core.session.workspace import Workspace

MAX_NAMES = 200_000
_Name = Annotated[str, Field(max_length=8192)]


class ChoiceBody(BaseModel):
    """Names of the files that are not wanted."""

    left_out: list[_Name] = Field(default=[], max_length=MAX_NAMES)


class PasswordBody(BaseModel):
    """The password of one file."""

    name: _Name
    password: str = Field(max_length=1024)


def plans_router(workspace: Workspace, plans: Plans) -> APIRouter:
    """Return the routes under /api/plans: list, look, estimate, fetch, unlock, read, drop."""
    router = APIRouter(prefix="/api/plans")
    max_bytes = FetchLimits().max_bytes

    @router.get("")
    def undecided() -> list[dict[str, str]]:
        return [{"id": plan.id, "name": plan.name} for plan in plans.open()]

    @router.get("/{plan_id}")
    def look(plan_id: str, since: Annotated[int, Query(ge=0)] = 0) -> Any:
        try:
            return plan_json(plans.find(plan_id), since, max_bytes)
        except PlanGoneError as error:  # not a fault: another window has decided
            return {"status": "gone", "error": str(error)}

    @router.post("/{plan_id}/estimate")
    def estimate(plan_id: str, body: ChoiceBody) -> Any:
        try:
            return estimate_json(plans.estimate(plan_id, body.left_out), workspace.model_info().max_tokens)
        except SalaError as error:
            return _error_response(error)

    @router.post("/{plan_id}/fetch")
    def fetch(plan_id: str) -> Any:
        try:
            plans.fetch(plan_id)
        except SalaError as error:
            return _error_response(error)
        return {"status": "ok"}

    @router.post("/{plan_id}/password")
    def unlock(plan_id: str, body: PasswordBody) -> Any:
        try:
            return file_json(plans.unlock(plan_id, body.name, body.password))
        except SalaError as error:
            return _error_response(error)

    @router.post("/{plan_id}/read")
    def read(plan_id: str, body: ChoiceBody) -> Any:
        try:
            return {"session": plans.read(plan_id, body.left_out).read_in}
        except SalaError as error:
            return _error_response(error)

    @router.delete("/{plan_id}")
    def drop(plan_id: str) -> dict[str, str]:
        plans.cancel(plan_id)
        return {"status": "ok"}

    return router


def _error_response(error: SalaError) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=410 if isinstance(error, PlanGoneError) else 400)
