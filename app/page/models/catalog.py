"""The models as the page lists them, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from app import wording
from app.page.settings.stored import load_program

if TYPE_CHECKING:
    from sala_core.hub.background import DownloadView
    from sala_core.hub.fit import Fit, Machine
    from sala_core.hub.inventory import AvailableModel, LocalModel
    from sala_core.session.workspace import Workspace

EMBEDDED_WORDS = (
    "The embedded model comes with the program. It is very small (6.3 million parameters, 7 MB) and was trained for "
    "one thing: to find the sentence of your documents that answers a simple question, and to quote it. It does not "
    "summarize, compare or reason, and it knows nothing else. For real conversations choose a larger model."
)
_STATUS = {"loading": "Loading", "ready": "Active", "failed": "Could not be loaded"}


def active_object(workspace: Workspace) -> dict[str, Any]:
    """The model that answers, and the one that is waited for."""
    info, wanted = workspace.model_info(), workspace.wanted
    detail = f"{info.device} · {info.dtype}" if info.status == "ready" else ""
    if info.kernels is not None:
        detail = wording.compiling(info.kernels.kernels_done, info.kernels.kernels_total)
    return {
        "name": info.name,
        "status": info.status,
        "words": _STATUS[info.status],
        "detail": detail,
        "error": info.error or info.switch_failure,
        "about": EMBEDDED_WORDS if info.is_demonstration else "",
        "wanted": wanted.model if wanted is not None else "",
    }


def models_object(workspace: Workspace) -> dict[str, Any]:
    """The whole list. Needs no network; reads the heads of the models' files."""
    from sala_core.errors import DeviceError
    from sala_core.hub.fit import this_machine
    from sala_core.hub.inventory import available_models, local_models

    program = load_program(workspace.library.folder)
    note = ""
    try:
        machine = this_machine(program.device)
    except DeviceError as error:
        machine, note = this_machine("cpu"), str(error)
    read = {row.model for row in workspace.library.sessions() if row.model}
    named = dict.fromkeys([workspace.model_info().name, *program.folders, *sorted(read)])
    here = local_models(machine, named, kv=program.kv_kind)
    available = available_models(machine, here, kv=program.kv_kind)
    memory = f"{wording.size(machine.total_bytes)} of memory, {wording.size(machine.free_bytes)} free"
    return {
        "active": active_object(workspace),
        "machine": f"This machine: {machine.name}, {memory}. {note or machine.note}".strip(),
        "here": [_local(model, read) for model in here if model.status != "missing" or model.name in read],
        "available": [_available(model, machine) for model in available if not model.is_here],
    }


def _local(model: LocalModel, read: set[str]) -> dict[str, Any]:
    facts = [
        f"{wording.parameters(model.num_parameters)} parameters" if model.num_parameters else "",
        model.format,
        wording.size(model.num_bytes) if model.num_bytes else "",
        "has read sessions of this library" if model.name in read else "",
    ]
    fits = model.fit is not None and model.fit.max_tokens > 0
    return {
        "name": model.name,
        "title": Path(model.name).name if model.source == "folder" else model.name,
        "place": str(model.folder) if model.source == "folder" else "",
        "facts": " · ".join(fact for fact in facts if fact),
        "fit": fit_words(model.fit) if model.fit is not None else "",
        "problem": "" if model.status in ("complete", "incomplete") else model.problem,
        "is_whole": model.status == "complete",
        "can_use": fits,
        "can_resume": model.status == "incomplete" and model.source == "cache",
    }


def _available(model: AvailableModel, machine: Machine) -> dict[str, Any]:
    from sala_core.hub.fit import speed_note

    number = wording.parameters(model.num_parameters)
    facts = (f"{number} parameters", "bf16", wording.size(model.num_bytes), model.license)
    words = fit_words(model.fit)
    if not model.fit.max_tokens:
        words += f" In int4, made of it once: {fit_words(model.fit_int4)}"
    if note := speed_note(machine, model.num_parameters):
        words += f" {note}"
    return {"name": model.name, "facts": " · ".join(facts), "fit": words, "fits": model.fit.max_tokens > 0}


def download_object(view: DownloadView) -> dict[str, Any]:
    """A download as the page shows it."""
    words = view.note or view.error
    if not words and view.bytes_total:
        words = f"{wording.size(view.bytes_done)} of {wording.size(view.bytes_total)}"
        if view.seconds_left is not None:
            words += f", {wording.duration(view.seconds_left)} left"
    return {
        "name": view.name,
        "status": view.status,
        "is_active": view.is_active,
        "done": view.bytes_done,
        "total": view.bytes_total,
        "words": words or ("Asking the hub" if view.is_active else ""),
    }


def fit_words(fit: Fit) -> str:
    """How long a text fits this machine."""
    weights = f"{wording.size(fit.weights_bytes)} of weights"
    if not fit.max_tokens:
        return f"Does not fit this machine: a short text needs {wording.size(fit.needed_bytes)} of memory ({weights})."
    return f"Reads texts of up to {wording.short_count(fit.max_tokens)} tokens on this machine ({weights})."
