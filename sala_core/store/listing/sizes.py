"""How much of the disk the states of each session take."""

from sala_core.store.base import LibraryBase


class Sizes(LibraryBase):
    """The part of the library that measures sessions."""

    def session_sizes(self) -> dict[str, int]:
        """Session id -> bytes of the state files on the chain to its head, including shared ones; of all sessions."""
        with self.database.read() as conn:
            rows = conn.execute("SELECT name, parent, segment_bytes + snapshot_bytes FROM checkpoints").fetchall()
            heads = conn.execute("SELECT id, head FROM sessions").fetchall()
        parents, own = {row[0]: row[1] for row in rows}, {row[0]: int(row[2]) for row in rows}
        known: dict[str, int] = {}
        for head in heads:
            chain, name = [], head["head"]
            while name in own and name not in known:
                chain.append(name)
                name = parents[name]
            total = known.get(name, 0)
            for each in reversed(chain):
                total += own[each]
                known[each] = total
        return {head["id"]: known.get(head["head"], 0) for head in heads}
