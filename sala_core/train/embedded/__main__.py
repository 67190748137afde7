"""`python -m sala_core.train.embedded run`: train the embedded model; starting it again continues where it stopped."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tokenizers import Tokenizer

from sala_core.train.embedded.data import Phase, make_batch
from sala_core.train.embedded.loop import Trainer
from sala_core.train.embedded.recipe import NETWORK, PHASES
from sala_core.train.embedded.texts import read_corpus, read_held_out
from sala_core.train.tasks import TaskMaker


def main() -> None:
    parser = argparse.ArgumentParser(prog="sala_core.train.embedded", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the run (checkpoint, log)")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop, with a checkpoint, after this long")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer / "tokenizer.json"))
    maker = TaskMaker(tokenizer, list(read_corpus(arguments.corpus)))
    unseen = TaskMaker(tokenizer, read_held_out(arguments.corpus))
    unseen.frequency = maker.frequency
    probes = [
        make_batch(
            unseen,
            Phase(name="probe", steps=1, length=length, rows=rows, mix={"conversation": 1.0}, rates=(0, 0)),
            arguments.seed,
            -1,
        )
        for length, rows in ((512, 16), (2048, 6))
    ]
    trainer = Trainer(arguments.folder, NETWORK, maker, list(PHASES), arguments.seed)
    trainer.run(until=time.time() + 60 * arguments.minutes, probes=probes, save_every=100, probe_every=100)


if __name__ == "__main__":
    main()
