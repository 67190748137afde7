"""The routes of “Models”. The guard lets only the page itself use them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.page.models.catalog import active_object, download_object, models_object
from app.page.models.engines import engines_router
from app.page.settings.stored import MAX_FOLDERS, load_program, save_program
from sala_core.errors import ModelError, SalaError

if TYPE_CHECKING:
    from sala_core.hub.background import Downloads
    from sala_core.session.workspace import Workspace


class ModelBody(BaseModel):
    """The name or folder of a model."""

    name: str = Field(min_length=1, max_length=4096)


def models_router(workspace: Workspace) -> APIRouter:
    """Return the routes under /api/models: list, use, download, pause, engines. Downloads end with the program."""
    router = APIRouter(prefix="/api/models")
    router.include_router(engines_router(workspace))
    kept: list[Downloads] = []

    def downloads() -> Downloads:
        if not kept:
            from sala_core.hub.background import Downloads

            kept.append(Downloads())
        return kept[0]

    @router.get("")
    def listing() -> dict[str, Any]:
        return {**models_object(workspace), "downloads": [download_object(view) for view in downloads().views()]}

    @router.get("/now")
    def now() -> dict[str, Any]:
        """Return what changes from second to second."""
        return {
            "active": active_object(workspace),
            "downloads": [download_object(view) for view in downloads().views()],
        }

    @router.post("/use")
    def use(body: ModelBody) -> Any:
        try:
            use_model(workspace, body.name.strip())
        except SalaError as error:
            return _refused(error)
        return now()

    @router.post("/download")
    def download(body: ModelBody) -> Any:
        try:
            downloads().start(body.name.strip())
        except SalaError as error:
            return _refused(error)
        return now()

    @router.post("/pause")
    def pause(body: ModelBody) -> Any:
        downloads().pause(body.name.strip())
        return now()

    return router


def use_model(workspace: Workspace, name: str) -> None:
    """Have another model loaded in the place of the present one. Raises ModelError if it cannot be used here.

    name: as `--model` takes it; a folder may begin with ~.
    """
    from sala_core.hub.fit import this_machine
    from sala_core.hub.inventory import local_models
    from sala_core.session.workspace import ModelChoice

    program = load_program(workspace.library.folder)
    path = Path(name).expanduser()
    chosen = str(path) if path.is_absolute() else name
    machine = this_machine(program.device)
    found = [model for model in local_models(machine, [chosen], kv=program.kv_kind) if model.name == chosen]
    if found and found[0].status != "complete":
        raise ModelError(f"{chosen} cannot be used: {found[0].problem}")
    workspace.switch_model(ModelChoice(model=chosen, device=program.device, kv=program.kv_kind))
    if path.is_absolute() and chosen not in program.folders:
        folders = (chosen, *program.folders)[:MAX_FOLDERS]
        save_program(workspace.library.folder, replace(program, folders=folders))


def _refused(error: SalaError) -> dict[str, str]:
    """Return what the page shows. No status of an error: the browser would log it as a fault of the page."""
    return {"refused": str(error)}
