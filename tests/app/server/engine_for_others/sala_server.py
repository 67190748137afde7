"""A Sala that serves others, as a process of its own for tests; SIGUSR1 fills its disk, SIGUSR2 empties it.

python sala_server.py LIBRARY PORT
"""

import errno
import os
import signal
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]


class SalaServer:
    """A server's process, which can be killed and started again."""

    def __init__(self, library: Path, port: int) -> None:
        self.library, self.port = library, port
        self._process: subprocess.Popen | None = None

    @property
    def key(self) -> str:
        return (self.library / "page" / "engine-key").read_text().strip()

    def start(self, *options: str) -> None:
        """Start it. options: of the command; with any, `launch.py serve` itself is started."""
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}",
            "SALA_DESKTOP_ENVIRONMENT": sys.prefix,
        }
        command = [sys.executable, __file__, str(self.library), str(self.port)]
        if options:
            command = [sys.executable, str(ROOT / "launch.py"), "--library", str(self.library), "serve"]
            command += ["--engine-for-others", "--port", str(self.port), *options]
        self._process = subprocess.Popen(command, env=environment, cwd=ROOT)

    def wait(self, certificate: Path | None = None) -> None:
        """Wait until it listens. certificate: of a server with TLS."""
        assert self._process is not None
        scheme = "http" if certificate is None else "https"
        trusted = ssl.create_default_context(cafile=certificate) if certificate is not None else None
        for _ in range(1200):
            try:
                url = f"{scheme}://127.0.0.1:{self.port}/engine/v1/"
                urllib.request.urlopen(url, timeout=5, context=trusted)
            except urllib.error.HTTPError:
                return
            except OSError:
                assert self._process.poll() is None, "the server has ended"
                time.sleep(0.1)
        raise AssertionError("the server does not listen")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without a warning."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self.signal(signal.SIGINT)
        self._process.wait(30)


def _fill_disk(*_: object) -> None:
    os.write = _write_on_full_disk


def _empty_disk(*_: object) -> None:
    os.write = _WRITE


def _write_on_full_disk(descriptor: int, data: bytes) -> int:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return _WRITE(descriptor, data)


_WRITE = os.write


def main() -> None:
    import uvicorn
    from fastapi import FastAPI

    from app.server.engine_for_others.access import engine_key
    from app.server.engine_for_others.routes import engine_router
    from sala_core.session.workspace import Workspace

    library, port = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGUSR1, _fill_disk)
    signal.signal(signal.SIGUSR2, _empty_disk)
    workspace = Workspace(library, "embedded", "cpu")
    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    application.include_router(engine_router(workspace, engine_key(library)))
    try:
        uvicorn.run(application, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=1)
    finally:
        workspace.close()


if __name__ == "__main__":
    main()
