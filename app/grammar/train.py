"""The grammar of `train` and `convert`. Standard library only, as `app.grammar.parser`."""

import argparse
from dataclasses import dataclass
from pathlib import Path

STAGES = ("all", "backbone", "align", "select", "distill", "stable", "decay", "long", "sft")
_TRAIN_EPILOG = """Every stage leaves a model in DIR/STAGE/model that all other commands take, its curve in log.csv and
log.png, and checkpoints. The same command again goes on exactly where it was stopped or killed. Several processes:
torchrun --nproc-per-node N launch.py train ..."""
_CONVERT_EPILOG = """DST is a backbone: a recipe with start = "DST" and no [model] makes a hybrid of it, from the stage
align on. Nothing is rounded or rearranged: DST computes what SRC does."""


@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """The options of `train`."""

    recipe: Path
    stage: str
    out: Path | None
    """None: runs/ and the recipe's name."""

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "TrainArguments":
        """What the parser found."""
        return cls(recipe=namespace.recipe, stage=namespace.stage, out=namespace.out)


@dataclass(frozen=True, kw_only=True)
class ConvertArguments:
    """The options of `convert`."""

    source: str
    target: Path

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "ConvertArguments":
        """What the parser found."""
        return cls(source=namespace.source, target=namespace.target)


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train`."""
    parser.epilog = _TRAIN_EPILOG
    parser.add_argument("--recipe", type=Path, required=True, metavar="FILE", help="what to make, in TOML")
    parser.add_argument(
        "--stage", choices=STAGES, default="all", metavar="NAME", help=f"only this one: {', '.join(STAGES)}"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: runs/NAME OF THE RECIPE)")


def add_convert_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `convert`."""
    parser.epilog = _CONVERT_EPILOG
    parser.add_argument(
        "source", metavar="SRC", help="a dense model in Hugging Face layout: Llama, Qwen3, MiniCPM; folder or name"
    )
    parser.add_argument("--to", dest="target", type=Path, required=True, metavar="DST", help="new folder")
