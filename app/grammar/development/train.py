"""The command line of `train` and `convert`. Standard library only, like `app.grammar.parser`."""

import argparse
from dataclasses import dataclass
from pathlib import Path

STAGES = ("all", "backbone", "align", "select", "distill", "stable", "decay", "long", "sft")
_TRAIN_EPILOG = """Every stage writes a model to DIR/STAGE/model, which all other commands accept, its training curve to
log.csv and log.png, and checkpoints. Run the same command again to resume a run that was stopped or killed, exactly
where it was. Several processes: torchrun --nproc-per-node N launch.py train ..."""
_CONVERT_EPILOG = """DST is a backbone: a recipe with start = "DST" and without [model] converts it to a hybrid, from
the stage align on. Weights are not rounded or rearranged: DST computes the same as SRC."""


@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """The options of `train`. Their meaning is in the help text of the command."""

    recipe: Path
    stage: str
    out: Path | None
    """None: the folder runs/NAME, with the recipe's name."""

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "TrainArguments":
        """Take the values that argparse has parsed."""
        return cls(recipe=namespace.recipe, stage=namespace.stage, out=namespace.out)


@dataclass(frozen=True, kw_only=True)
class ConvertArguments:
    """The options of `convert`. Their meaning is in the help text of the command."""

    source: str
    target: Path

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "ConvertArguments":
        """Take the values that argparse has parsed."""
        return cls(source=namespace.source, target=namespace.target)


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train` to its parser."""
    parser.epilog = _TRAIN_EPILOG
    parser.add_argument("--recipe", type=Path, required=True, metavar="FILE", help="the recipe, a TOML file")
    parser.add_argument(
        "--stage",
        choices=STAGES,
        default="all",
        metavar="NAME",
        help=f"stage to run (default: all): {', '.join(STAGES)}",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: runs/NAME_OF_THE_RECIPE)")


def add_convert_options(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument and options of `convert` to its parser."""
    parser.epilog = _CONVERT_EPILOG
    parser.add_argument(
        "source", metavar="SRC", help="dense Llama, Qwen3 or MiniCPM model in Hugging Face layout: a folder or a name"
    )
    parser.add_argument(
        "--to", dest="target", type=Path, required=True, metavar="DST", help="new folder for the backbone"
    )
