"""One of two processes that train two recipes. The first run is interrupted once between two checkpoints."""

import sys
from pathlib import Path

from sala_core.train.events import StepDone
from sala_core.train.run import train

replicated, first, sharded, second = map(Path, sys.argv[1:])
events = train(replicated, first, device="cpu")
for event in events:
    if isinstance(event, StepDone) and event.step == 3:
        break
events.close()
for _ in (*train(replicated, first, device="cpu"), *train(sharded, second, device="cpu")):
    pass
