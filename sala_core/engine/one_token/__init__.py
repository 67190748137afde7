"""Decoding of one token by a small model on a CPU, in a few large operations. See `step.py`."""

from sala_core.engine.one_token.step import OneTokenPass

__all__ = ["OneTokenPass"]
