"""What the form of “Settings” shows and what its fields do, as JSON types."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app import wording
from app.grammar.library import quota_bytes
from app.grammar.parser import DEVICES
from app.grammar.values import KV_AT_REST, KV_KINDS
from app.page.answer_settings import (
    AnswerSettings,
    load_settings,
    placeholders,
    quotation_choices,
    save_settings,
    thinking_choices,
)
from app.page.settings.stored import THEMES, choose_library, chosen_library, load_program, save_program
from app.page.view import find_session
from sala_core.errors import SettingsError

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace

ANSWERS = ("temperature", "top-p", "max-tokens", "seed", "thinking-budget")
_DEVICE_WORDS = {"auto": "Choose by itself", "cpu": "CPU", "cuda": "NVIDIA card"}
_KV_WORDS = {
    "auto": "Choose by itself",
    "bf16": "bf16, as the model has it",
    "int8": "int8, half the memory",
    "fp8": "fp8, half the memory",
}
_AT_REST_WORDS = {"same": "As in memory", "int8": "int8, half the space of bf16"}
_AT_REST_HINT = "For sessions that are read for the first time from now on; the others stay as they are."
_THEME_WORDS = {"system": "System", "light": "Light", "dark": "Dark"}


def settings_object(workspace: Workspace, session_id: str) -> dict[str, Any]:
    """Everything that the form shows. session_id: the open session; "" for none."""
    folder, info = workspace.library.folder, workspace.model_info()
    program, texts = load_program(folder), load_settings(folder).texts()
    limit = workspace.library.quota()
    row = find_session(workspace, session_id)
    return {
        "theme": program.theme,
        "themes": [[name, _THEME_WORDS[name]] for name in THEMES],
        "model": info.name,
        "device": program.device,
        "devices": [[name, _DEVICE_WORDS[name]] for name in DEVICES],
        "kv": program.kv,
        "kvs": [[name, _KV_WORDS[name]] for name in KV_KINDS],
        "at_rest": program.kv_at_rest,
        "at_rests": [[name, _AT_REST_WORDS[name]] for name in KV_AT_REST],
        "at_rest_hint": _AT_REST_HINT,
        "answers": dict(zip((*ANSWERS, "quotations", "thinking"), texts, strict=True)),
        "placeholders": dict(zip(ANSWERS, placeholders(info.sampling), strict=True)),
        "quotations": quotation_choices(info.sampling),
        "thinking": thinking_choices(info.thinks_by_default),
        "thinks": info.thinks_by_default is not None,
        "quota": "" if limit is None else wording.size(limit),
        "used": wording.size(workspace.library.usage().states_bytes),
        "library": str(folder),
        "chosen_library": str(chosen_library() or ""),
        "session": None if row is None else {"id": row.id, "name": row.name, "prompt": row.system_prompt},
    }


def save_theme(workspace: Workspace, theme: str) -> str:
    """Keep the theme. Raises SettingsError, LibraryError."""
    folder = workspace.library.folder
    save_program(folder, replace(load_program(folder), theme=theme))
    return ""


def save_at_rest(workspace: Workspace, kv_at_rest: str) -> str:
    """Keep how new sessions store keys and values. Raises SettingsError, LibraryError."""
    folder = workspace.library.folder
    settings = replace(load_program(folder), kv_at_rest=kv_at_rest)
    save_program(folder, settings)
    workspace.store_kv(settings.at_rest_kind)
    return "Sessions that are read for the first time from now on are stored in the other format."


def save_answers(workspace: Workspace, texts: Mapping[str, str]) -> str:
    """Keep the answer settings. texts: of the fields by name. Raises SettingsError, LibraryError."""
    temperature, top_p, max_tokens, seed, budget = (texts.get(name, "") for name in ANSWERS)
    quotations, thinking = texts.get("quotations", ""), texts.get("thinking", "")
    settings = AnswerSettings.from_texts(temperature, top_p, max_tokens, seed, budget, quotations, thinking)
    if settings == load_settings(workspace.library.folder):
        return ""
    save_settings(workspace.library.folder, settings)
    return "What concerns answers applies from the next question on."


def save_quota(workspace: Workspace, text: str) -> str:
    """Keep the quota for saved states, and make room at once. text: such as "20 GB"; "" for none.

    Raises SettingsError, LibraryError.
    """
    limit = None
    if text.strip():
        limit = read_size(text)
    if limit == workspace.library.quota():
        return ""
    before = workspace.library.usage().states_bytes
    workspace.library.set_quota(limit)
    if limit is None:
        return "Saved states have no limit."
    workspace.library.make_room(limit)
    freed = before - workspace.library.usage().states_bytes
    return f"Saved states are kept to {wording.size(limit)}" + (f"; {wording.size(freed)} freed." if freed > 0 else ".")


def read_size(text: str) -> int:
    """Bytes of a size as people write it. Raises SettingsError."""
    problem = f"The limit must be a size such as 20 GB or 500 MB, or nothing; “{text[:40]}” is none."
    try:
        limit = quota_bytes(text.strip())
    except ArgumentTypeError:
        raise SettingsError(problem) from None
    if limit is None:
        raise SettingsError(problem)
    return limit


def save_library(workspace: Workspace, text: str) -> str:
    """Keep another folder for the library. text: its path; "" for the usual one. Raises SettingsError, LibraryError."""
    wanted = Path(text.strip()).expanduser() if text.strip() else None
    if wanted == chosen_library():
        return ""
    if wanted is not None and not wanted.is_absolute():
        raise SettingsError(f"“{text[:80]}” is not a full path; it should begin with / or ~ or a drive.")
    if wanted is not None and wanted.exists() and not wanted.is_dir():
        raise SettingsError(f"“{text[:80]}” is a file; choose a folder.")
    choose_library(wanted)
    return "The other library folder is used after a restart; what is in this one stays where it is."


def save_prompt(workspace: Workspace, session_id: str, text: str) -> str:
    """Keep a session's system prompt. Raises SessionNotFoundError, LibraryError."""
    row = workspace.library.session(session_id)
    if text.strip() == row.system_prompt:
        return ""
    row = workspace.library.set_system_prompt(session_id, text)
    if not row.num_documents and not row.num_messages:
        return ""
    return f"“{row.name}” begins with the new system prompt once it is read again."
