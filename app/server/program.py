"""What one process serves: the page, and the applications that other programs use with a key."""

from __future__ import annotations

import ssl
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from app.server.api.key import api_key
from app.server.api.routes import PATHS, api_mount
from app.server.engine_for_others.access import engine_key
from app.server.engine_for_others.mount import engine_mount
from app.server.entrance import HOST, running_port
from app.server.key import existing_key
from app.server.mounts import Mounts
from app.server.security_headers import local_names
from app.wording import plural
from sala_core.errors import SalaError
from sala_core.remote.sala.wire import PREFIX

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from app.grammar.parser import Arguments
    from sala_core.session.workspace import Workspace


def mounts_of(workspace: Workspace, library: Path, arguments: Arguments, port: int) -> dict[str, ASGIApp]:
    """By path, the applications for other programs. Raises LibraryError if a key cannot be kept.

    Args:
        workspace: answers.
        library: its folder.
        arguments: the command line.
        port: of the server.
    """
    serve = arguments.serve
    origins = serve.origins if serve is not None else ()
    api = api_mount(workspace, library, hosts=own_names(arguments, port), origins=origins)
    mounts = dict.fromkeys(PATHS, api)
    if serve is not None and serve.engine_for_others:
        mounts[PREFIX] = engine_mount(workspace, library)
    return mounts


def listening_host(arguments: Arguments) -> str:
    """The address to listen at."""
    serve = arguments.serve
    return HOST if serve is None or serve.is_local else serve.host


def is_page_served(arguments: Arguments) -> bool:
    """Whether the page is there too: it is for this computer alone."""
    is_secured = arguments.serve is not None and arguments.serve.certificate is not None
    return listening_host(arguments) == HOST and not is_secured


def tls_options(arguments: Arguments) -> dict[str, str]:
    """What uvicorn takes for TLS; {} without a certificate. Raises SalaError for files that are no such pair."""
    serve = arguments.serve
    if serve is None or serve.certificate is None or serve.certificate_key is None:
        return {}
    certificate, key = str(serve.certificate), str(serve.certificate_key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise SalaError(
            f"TLS cannot be served with {certificate} and {key} ({error}); give a certificate and its private key in "
            "PEM files, without a password"
        ) from error
    return {"ssl_certfile": certificate, "ssl_keyfile": key}


def _no_password() -> str:
    raise ValueError("the key has a password")


def without_page(mounts: dict[str, ASGIApp]) -> FastAPI:
    """An application without the page. mounts: by path, the applications that it has instead."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/", Mounts(PlainTextResponse("There is nothing here.", status_code=404), mounts))
    return app


def own_names(arguments: Arguments, port: int) -> set[str]:
    """The `Host` headers of this program: of this computer, and of the address that `serve --host` names."""
    names = local_names(port)
    serve = arguments.serve
    if serve is not None and not serve.is_local:
        host = f"[{serve.host}]" if ":" in serve.host else serve.host
        names |= {f"{name}:{port}".lower() for name in (host, *_machine_names(serve.host))}
    return names


def answer_at_once(arguments: Arguments, library: Path) -> int | None:
    """What `serve` does without a model: show the key, forget what was sent, name the program that serves already.

    Returns the exit code, or None if there is something to serve. Raises LibraryError.
    """
    serve = arguments.serve
    assert serve is not None
    if serve.show_key:
        print(engine_key(library) if serve.engine_for_others else api_key(library), flush=True)
        return 0
    if serve.forget:
        return _forget(library)
    key = existing_key(library)
    port = running_port(arguments, library, key) if key is not None else None
    if port is None:
        return None
    if serve.engine_for_others:
        raise SalaError(
            f"Sala runs already at http://{HOST}:{port}/; stop it there with Ctrl-C, then start this again, or give "
            "this one a library of its own with --library"
        )
    print(f"Sala runs already, and serves at http://{HOST}:{port}/v1", flush=True)
    _print_how_to(library)
    return 0


def announce(library: Path, arguments: Arguments, port: int) -> None:
    """Say where the API is, and how its key is shown. The key itself is not printed.

    Args:
        library: its folder.
        arguments: the command line.
        port: of the server.
    """
    host = listening_host(arguments)
    scheme = "https" if tls_options(arguments) else "http"
    start = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"The API is at {start}/v1 (OpenAI-compatible); Ctrl-C stops it.", flush=True)
    _print_how_to(library)
    if arguments.serve is not None and arguments.serve.engine_for_others:
        engine_key(library)
        print(f"Other Salas use this one with: --engine {start} --engine-key-file FILE", flush=True)
        print("Their key: python3 launch.py serve --engine-for-others --show-key", flush=True)


def _print_how_to(library: Path) -> None:
    api_key(library)
    print("Its key: python3 launch.py serve --show-key", flush=True)


def _forget(library: Path) -> int:
    from sala_core.errors import SessionBusyError
    from sala_core.session.hosting.client import forget_received
    from sala_core.store.library import Library

    busy, freed, count = 0, 0, 0
    with closing(Library.open(library)) as opened:
        for row in opened.sessions_of_others():
            try:
                freed += opened.delete_session(row.id)
                count += 1
            except SessionBusyError:
                busy += 1
    if not busy:
        freed += forget_received(library)
    what = plural(count, "conversation")
    print(f"Deleted {what} of other programs; {freed / 2**20:,.1f} MiB are free again.", flush=True)
    if busy:
        print(f"{busy:,} are in use, and stay.", flush=True)
    return 1 if busy else 0


def _machine_names(host: str) -> list[str]:
    """The names by which clients may reach a server that listens at all addresses."""
    import socket

    if host not in ("0.0.0.0", "::"):
        return []
    name = socket.gethostname()
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
    except OSError:
        addresses = set()
    return [name, f"{name}.local", *(f"[{each}]" if ":" in each else each for each in addresses)]
