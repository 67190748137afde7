"""Sends documents to another Sala: those that it does not have, each from the byte on that it does not have."""

from collections.abc import Callable, Iterator, Sequence

from sala_core.errors import EngineFailedError, UploadOffsetError
from sala_core.events import ReadProgress
from sala_core.remote.sala.connection import Connection
from sala_core.remote.sala.parcel import MAX_PARCEL_BYTES, compress, parcel_hash

PIECE_BYTES = 1 << 20
_MAX_TURNS = 1000
_ASKED_AT_ONCE = 10_000


class Sender:
    """Sends what an order names."""

    def __init__(self, connection: Connection, pack: Callable[[str], tuple[str, bytes]]) -> None:
        """connection: to the server. pack: hash -> (name, parcel) of a document; raises EngineError."""
        self._connection, self._pack = connection, pack

    def send(self, names: Sequence[str], *, should_stop: Callable[[], bool]) -> Iterator[ReadProgress]:
        """Bring the server to have these documents. Ends early when `should_stop()` is true.

        names: hashes of the parcels. Raises EngineError.
        """
        missing: dict[str, int] = {}
        for start in range(0, len(names), _ASKED_AT_ONCE):
            asked = list(names[start : start + _ASKED_AT_ONCE])
            reply = self._connection.call(
                "POST", "/documents/missing", body={"documents": asked}, should_stop=should_stop
            )
            missing |= {name: int(reply["missing"][name]) for name in asked if name in reply.get("missing", {})}
        for done, (name, received) in enumerate(missing.items()):
            for shown, part in self._send_one(name, received, should_stop):
                yield _progress(shown, done + part, len(missing))
            if should_stop():
                return

    def _send_one(self, name: str, received: int, should_stop: Callable[[], bool]) -> Iterator[tuple[str, float]]:
        """Send one document; yield (its name, how much of it is sent) after each piece."""
        shown, parcel = self._pack(name)
        if len(parcel) > MAX_PARCEL_BYTES:
            raise EngineFailedError(f"{shown} is too long to be sent: {len(parcel):,} bytes; split it")
        if parcel_hash(parcel) != name:
            raise EngineFailedError(f"the text of {shown} has changed since it was read here; read it again")
        data = compress(parcel)
        for _ in range(_MAX_TURNS + len(data) // PIECE_BYTES):
            if should_stop():
                return
            piece = data[received : received + PIECE_BYTES]
            taken = self._put(name, received, piece, len(data), should_stop)
            received = self._where(name, should_stop) if taken is None else taken
            if received < 0:
                return
            yield shown, received / len(data)
            if received == len(data) and taken is not None:
                return
        raise EngineFailedError(f"{self._connection.access.address} does not take {shown}; try again later")

    def _put(self, name: str, offset: int, piece: bytes, total: int, should_stop: Callable[[], bool]) -> int | None:
        """Send a piece; return how many bytes are there then. None if the server has another number of them than
        `offset`: some of a cut request have arrived."""
        try:
            reply = self._connection.call(
                "PUT",
                f"/documents/{name}",
                content=piece,
                query={"offset": offset, "total": total},
                should_stop=should_stop,
            )
        except UploadOffsetError:
            return None
        return int(reply["received"])

    def _where(self, name: str, should_stop: Callable[[], bool]) -> int:
        """From which byte on the server wants the document; -1 if it is whole there."""
        reply = self._connection.call("POST", "/documents/missing", body={"documents": [name]}, should_stop=should_stop)
        return int(reply["missing"].get(name, -1))


def _progress(name: str, done: float, total: int) -> ReadProgress:
    return ReadProgress(
        phase="preparing",
        file=f"{name} (sending)",
        files_done=int(done),
        files_total=total,
        tokens_done=0,
        tokens_total=0,
        tokens_per_s=0.0,
        seconds_left=None,
    )
