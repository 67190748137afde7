"""A TCP proxy that cuts every connection at an exact byte, once, and passes everything on from then on."""

import socket
import threading
from contextlib import suppress

_PIECE = 1 << 16


class CuttingProxy:
    """Stands in front of a server on this machine. Bytes are counted from the last call of `cut_after` on."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.num_up = self.num_down = 0
        """Bytes that were passed on to the server, and from it."""
        self.num_cuts = 0
        self._limits: dict[str, int | None] = {"up": None, "down": None}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, *, up: int | None = None, down: int | None = None) -> None:
        """Cut all connections as soon as this many more bytes have gone up to the server, or come down from it."""
        with self._lock:
            self._limits = {"up": up, "down": down}

    def close(self) -> None:
        self._listener.close()
        self._close_all()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    self._open |= {client, server}
                for source, target, way in ((client, server, "up"), (server, client, "down")):
                    threading.Thread(target=self._pass_on, args=(source, target, way), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE):
                with self._lock:
                    limit = self._limits[way]
                    allowed = data if limit is None else data[:limit]
                    if limit is not None:
                        self._limits[way] = limit - len(allowed)
                    is_cut = limit is not None and limit <= len(data)
                    if is_cut:
                        self._limits = {"up": None, "down": None}
                        self.num_cuts += 1
                    if way == "up":
                        self.num_up += len(allowed)
                    else:
                        self.num_down += len(allowed)
                target.sendall(allowed)
                if is_cut:
                    self._close_all()
                    return
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _close_all(self) -> None:
        with self._lock:
            gone, self._open = self._open, set()
        for each in gone:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
