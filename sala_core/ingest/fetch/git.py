"""Fetch a git repository: its latest files, without its history, hooks, filters, submodules or large-file contents."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from sala_core.errors import FetchError
from sala_core.ingest.fetch.address import Address
from sala_core.ingest.fetch.guard import names_local_host, resolve
from sala_core.ingest.fetch.web import Fetched, FetchLimits
from sala_core.stopping import never

_POLL_S = 0.1
_SETTINGS = (
    "core.hooksPath=" + os.devnull,
    "core.fsmonitor=false",
    "credential.helper=",
    "filter.lfs.smudge=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
    "http.followRedirects=false",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "submodule.recurse=false",
    "gc.auto=0",
)


def fetch_repository(
    address: Address, folder: Path, limits: FetchLimits, should_stop: Callable[[], bool] = never
) -> Fetched:
    """Clone the latest commit of a repository.

    Args:
        address: of kind "git".
        folder: an empty one, in which the repository is put.
        limits: bounds; `max_wait_s` and `max_redirects` do not count: redirects are not followed.
        should_stop: ends the fetch with FetchError.

    Raises FetchError: git is missing or fails, the host must not be connected to, or a limit is exceeded.
    """
    git = shutil.which("git")
    if git is None:
        raise FetchError(f"{address.url}: git is needed to fetch a repository; install it, or download its archive")
    url = httpx.URL(address.url)
    port = url.port or (443 if url.scheme == "https" else 80)
    addresses = resolve(url.host, port, allow_local=names_local_host(url.host))
    target = folder.joinpath(*address.folders)
    target.parent.mkdir(parents=True, exist_ok=True)
    pinned = ",".join(f"[{found}]" if ":" in found else found for found in addresses)
    settings = [*_SETTINGS, f"http.curloptResolve={url.host}:{port}:{pinned}"]
    if url.scheme == "http":
        settings.append("protocol.http.allow=always")
    options = [part for setting in settings for part in ("-c", setting)]
    clone = [git, *options, "clone", "--quiet", "--no-tags", "--single-branch", "--template="]
    message = _run([*clone, "--depth=1", "--", address.url, str(target)], folder, limits, should_stop)
    if "dumb http transport" in message:  # a server that only hands out files cannot leave out the history
        shutil.rmtree(target, ignore_errors=True)
        message = _run([*clone, "--", address.url, str(target)], folder, limits, should_stop)
    if message:
        raise FetchError(f"{address.url} cannot be fetched: {message}")
    sizes = _file_sizes(target)
    return Fetched(root=folder / address.folders[0], url=address.url, num_files=len(sizes), num_bytes=sum(sizes))


def _run(command: list[str], folder: Path, limits: FetchLimits, should_stop: Callable[[], bool]) -> str:
    """Run git; return "", or its complaint if it fails. Raises FetchError at a limit or a stop."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "HOME": str(folder),
        "LC_ALL": "C",
    }
    log = folder / "git.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        deadline = time.monotonic() + limits.max_s
        try:
            while process.poll() is None:
                if should_stop():
                    raise FetchError("stopped")
                if time.monotonic() > deadline:
                    raise FetchError(f"fetching it took more than {limits.max_s:g} s")
                _check_size(folder, limits)
                time.sleep(_POLL_S)
        finally:
            _end(process)
    _check_size(folder, limits)
    message = " ".join(log.read_text(encoding="utf-8", errors="replace").split())[:500]
    log.unlink()
    if process.returncode == 0:
        return ""
    return message.removeprefix("fatal: ") or f"git ends with status {process.returncode}"


def _check_size(folder: Path, limits: FetchLimits) -> None:
    if sum(_file_sizes(folder, with_git=True)) > limits.max_bytes:
        raise FetchError(f"over the limit of {limits.max_bytes / 2**20:,.0f} MiB for what is fetched")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git and the processes that it has started."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()


def _file_sizes(folder: Path, *, with_git: bool = False) -> list[int]:
    """Sizes of the files below a folder, in bytes. One that is gone again counts as nothing."""
    sizes = []
    for place, folders, names in os.walk(folder):
        if not with_git and ".git" in folders:
            folders.remove(".git")
        for name in names:
            try:
                sizes.append(os.lstat(os.path.join(place, name)).st_size)
            except OSError:
                continue
    return sizes
