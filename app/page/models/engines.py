"""Engines elsewhere in “Models”: those found on this machine, any address, and which of them writes the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.remote.words import context_words
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from sala_core.remote.access import Access
    from sala_core.remote.choice import EngineChoice
    from sala_core.remote.engine import EngineInfo
    from sala_core.remote.found import FoundServer
    from sala_core.session.workspace import Workspace


class AddressBody(BaseModel):
    """The address of a server, and the key for it; "" for the key that is kept for it, or none."""

    url: str = Field(min_length=1, max_length=2048)
    key: str = Field(default="", max_length=8192)


class ChoiceBody(AddressBody):
    """An engine that is to write the answers."""

    model: str = Field(min_length=1, max_length=2048)
    context: int | None = Field(default=None, ge=512, le=100_000_000)
    sends: Literal["auto", "passages", "text"] = "auto"


def engines_router(workspace: Workspace) -> APIRouter:
    """Return the routes under /engines: list, look at an address, use, leave. Each refusal is told as an object."""
    router = APIRouter(prefix="/engines")

    @router.get("")
    def listing() -> dict[str, Any]:
        """Ask the well-known ports of this machine."""
        from sala_core.remote.found import PORTS, engines_here

        return {
            "chosen": chosen_object(workspace),
            "servers": [server_object(server) for server in engines_here()],
            "asked": ", ".join(f"{name} ({port})" for port, name in PORTS.items()),
        }

    @router.post("/look")
    def look(body: AddressBody) -> dict[str, Any]:
        """List what one server has."""
        from contextlib import closing

        from sala_core.remote.describe import served
        from sala_core.remote.found import FoundServer
        from sala_core.remote.server import Server

        try:
            access = _access(workspace, body)
            with closing(Server(access)) as server:
                found = FoundServer(url=access.url, expected=access.address, engines=served(server))
        except SalaError as error:
            return {"refused": str(error)}
        return {"servers": [server_object(found)]}

    @router.post("/use")
    def use(body: ChoiceBody) -> dict[str, Any]:
        """Choose an engine that answers."""
        from sala_core.remote.choice import EngineChoice

        try:
            access = _access(workspace, body)
            choice = EngineChoice(access=access, model=body.model, context_tokens=body.context, sends=body.sends)
            workspace.engines.info = _checked(workspace, choice)
        except SalaError as error:
            return {"refused": str(error)}
        return {"chosen": chosen_object(workspace)}

    @router.post("/leave")
    def leave() -> dict[str, Any]:
        """Have the model here answer again."""
        try:
            workspace.engines.choose(None)
        except SalaError as error:
            return {"refused": str(error)}
        return {"chosen": None}

    return router


def _checked(workspace: Workspace, choice: EngineChoice) -> EngineInfo:
    info = workspace.engines.check(choice)
    workspace.engines.choose(choice)
    return info


def _access(workspace: Workspace, body: AddressBody) -> Access:
    from sala_core.remote.access import Access

    access = Access.of(body.url, body.key.strip())
    return access if access.key else Access(url=access.url, key=workspace.engines.key_for(access))


def chosen_object(workspace: Workspace) -> dict[str, Any] | None:
    """The engine that writes the answers, in words; None for the model here."""
    choice, info = workspace.engines.choice, workspace.engines.info
    if choice is None:
        return None
    return {
        "url": choice.access.url,
        "model": choice.model,
        "sends": choice.sends,
        "context": choice.context_tokens,
        "facts": f"at {choice.access.address}" + (f" · {context_words(info)}" if info is not None else ""),
        "privacy": privacy_words(choice.access),
    }


def server_object(server: FoundServer) -> dict[str, Any]:
    """One server as the page lists it."""
    from sala_core.remote.access import Access
    from sala_core.remote.found import KIND_NAMES

    name = KIND_NAMES[server.engines[0].kind] if server.engines else server.expected
    return {
        "url": server.url,
        "name": name,
        "problem": server.problem or ("" if server.engines else "No model is loaded or installed there."),
        "privacy": privacy_words(Access.of(server.url)),
        "engines": [
            {
                "url": info.url,
                "model": info.model,
                "title": info.name,
                "facts": f"{name} at {server.url} · {context_words(info)}",
            }
            for info in server.engines
        ],
    }


def privacy_words(access: Access) -> str:
    """What leaves this machine; "" for nothing."""
    if access.is_here:
        return ""
    words = f"Questions, earlier turns, and the passages or the text are sent to {access.address}."
    return f"{words} The line is not encrypted: others in the network can read it." if access.is_open_line else words
