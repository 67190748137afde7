"""`python -m sala_core.train.embedded.export RUN TARGET`: a finished run as a model folder."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from sala_core.train.embedded.loop import phase_file
from sala_core.train.embedded.recipe import AVERAGED_PHASES, NETWORK
from sala_core.train.export import write_model


def average(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of state dicts of one network, tensor by tensor, in float32."""
    return {name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[0]}


def main() -> None:
    """Average the phases that the recipe names, and export."""
    parser = argparse.ArgumentParser(prog="sala_core.train.embedded.export", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("target", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with the tokenizer's files")
    arguments = parser.parse_args()
    files = [arguments.run / phase_file(name) for name in AVERAGED_PHASES]
    weights = average([torch.load(file, weights_only=True) for file in files])
    write_model(arguments.target, NETWORK, weights, tokenizer=arguments.tokenizer, dtype="bfloat16")


if __name__ == "__main__":
    main()
