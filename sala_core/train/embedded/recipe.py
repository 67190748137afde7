"""The embedded model's shape and its curriculum."""

from __future__ import annotations

from sala_core.train.embedded.data import Phase
from sala_core.train.embedded.network import embedded_config

_SPARSE, _LINEAR = "minicpm4", "lightning-attn"

NETWORK = embedded_config(mixer_types=(_LINEAR, _LINEAR, _LINEAR, _SPARSE, _LINEAR, _SPARSE))

PHASES = (
    Phase(
        name="copy",
        steps=100,
        length=256,
        rows=32,
        mix={"random_copy": 4, "text_copy": 4, "plain_text": 2, "conversation": 2},
        rates=(1.0, 1.0),
        memory_loss=0.3,
    ),
    Phase(
        name="short",
        steps=900,
        length=512,
        rows=16,
        mix={"random_copy": 0.3, "text_copy": 0.7, "plain_text": 1.0, "conversation": 8},
        rates=(1.0, 1.0),
        block_loss=0.1,
        memory_loss=0.3,
    ),
    Phase(
        name="medium",
        steps=700,
        length=1024,
        rows=8,
        mix={"text_copy": 0.4, "plain_text": 0.8, "conversation": 9},
        rates=(1.0, 0.8),
        block_loss=0.2,
        memory_loss=0.2,
    ),
    Phase(
        name="long",
        steps=700,
        length=2048,
        rows=4,
        mix={"plain_text": 0.6, "conversation": 9},
        rates=(0.8, 0.3),
        block_loss=0.3,
        memory_loss=0.1,
    ),
    Phase(
        name="longer",
        steps=600,
        length=4096,
        rows=2,
        mix={"plain_text": 0.4, "conversation": 9},
        rates=(0.3, 0.0),
        block_loss=0.3,
        memory_loss=0.05,
    ),
)

AVERAGED_PHASES = ("long", "longer")
"""The shipped weights are the mean of those at the ends of these phases: better than either on held-out text."""
