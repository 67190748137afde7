"""Train a SALA hybrid from scratch or from a dense checkpoint: every stage of arXiv:2602.11761, resumable."""
