"""The same work by llama.cpp: reading, decoding, saving and restoring a state. See `run.py`."""

from sala_core.bench.peers.plot import draw_peers
from sala_core.bench.peers.records import PeerRow, read_peer_rows
from sala_core.bench.peers.run import PeerPlan, bench_peers

__all__ = ["PeerPlan", "PeerRow", "bench_peers", "draw_peers", "read_peer_rows"]
