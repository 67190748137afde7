"""One of two processes that train two recipes. The first run is interrupted once between two checkpoints."""

import os
import sys
from pathlib import Path

from sala_core.train.events import StepDone
from sala_core.train.run import train

replicated, first, sharded, second = map(Path, sys.argv[1:])


def on_the_next_port(recipe, out):
    """Start a run. A group on the port of the one before could still meet its store."""
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    return train(recipe, out, device="cpu")


events = on_the_next_port(replicated, first)
for event in events:
    if isinstance(event, StepDone) and event.step == 3:
        break
events.close()
for recipe, out in ((replicated, first), (sharded, second)):
    for _ in on_the_next_port(recipe, out):
        pass
