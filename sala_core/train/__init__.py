"""From nothing, or from a dense checkpoint, to a SALA hybrid: every stage of arXiv:2602.11761, resumable."""
