"""The command line of `quantize`. Standard library only, like `app.grammar.parser`."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from app.grammar.values import number_above, whole_number

BITS = (2, 4, 8)
GROUP_SIZES = (-1, 16, 32, 64, 128, 256, 512, 1024)
INCLUDABLE = ("o_gate", "z_proj", "lm_head")
FORMATS = ("gptq", "gptq_v2")
LAYOUTS = ("gptqmodel", "autogptq")
_EPILOG = """Run the same command again to continue a run that was stopped or killed. DST gets config.json last; until
then it is not a model. quantize_report.json, beside the model, holds every figure that was printed."""


@dataclass(frozen=True, kw_only=True)
class QuantizeArguments:
    """The options of `quantize`. Their meaning is in the help text of the command."""

    source: str
    target: Path
    bits: int
    group_size: int
    asymmetric: bool
    act_order: bool
    desc_act: bool
    scale_search: bool
    damping: float
    include: tuple[str, ...]
    calibration: tuple[Path, ...]
    """Empty: the program's own calibration text."""
    held_out: tuple[Path, ...]
    """Empty: the program's own held-out text."""
    samples: int
    tokens: int
    format: str | None
    """None: the format that readers of the layout accept."""
    layout: str
    restart: bool
    json: bool

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "QuantizeArguments":
        """Take the values that argparse has parsed."""
        values = {field.name: getattr(namespace, field.name) for field in fields(cls)}
        lists = {name: tuple(values[name]) for name in ("include", "calibration", "held_out")}
        return cls(**{**values, **lists})


def add_quantize_options(parser: argparse.ArgumentParser) -> None:
    """Add the positional arguments and options of `quantize` to its parser."""
    parser.epilog = _EPILOG
    parser.add_argument("source", metavar="SRC", help="model to quantize: embedded, a folder, or a downloaded model")
    parser.add_argument("target", type=Path, metavar="DST", help="new folder for the result")
    numbers = parser.add_argument_group("numbers")
    _add_grid_options(numbers)
    _add_solver_options(numbers)
    _add_text_options(parser.add_argument_group("calibration"))
    files = parser.add_argument_group("files")
    files.add_argument(
        "--format",
        choices=FORMATS,
        help="how zero points are stored (default: gptq, version 1, which every reader accepts; with --asymmetric: "
        "gptq_v2, because GPTQModel accepts no other for asymmetric weights)",
    )
    files.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="gptqmodel",
        help="file names and settings as GPTQModel or as AutoGPTQ 0.7 writes them; GPTQModel no longer reads the "
        "settings of AutoGPTQ (default: gptqmodel)",
    )
    files.add_argument("--restart", action="store_true", help="delete what an unfinished run left in DST")
    files.add_argument("--json", action="store_true", help="print only the final report, as one JSON object")


def _add_grid_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--bits", type=int, choices=BITS, default=4, help="bits per weight (default: 4)")
    group.add_argument(
        "--group-size",
        type=int,
        choices=GROUP_SIZES,
        default=128,
        metavar="N",
        help="inputs that share a scale: 16, 32, 64 ... 1024, or -1 for all (default: 128; smaller groups lose "
        "less and make the model larger)",
    )
    group.add_argument("--asymmetric", action="store_true", help="one zero point per group instead of a fixed one")


def _add_solver_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--act-order",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="quantize the columns with the most active inputs first; groups stay contiguous, so inference is not "
        "slower (default: yes)",
    )
    group.add_argument(
        "--desc-act",
        action="store_true",
        help="form the groups in that order too; stored as g_idx, slower to run, rarely better",
    )
    group.add_argument(
        "--scale-search",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="choose each group's scale by least error, not by its largest weight (default: yes)",
    )
    group.add_argument(
        "--damping",
        type=number_above(0, 1),
        default=0.01,
        metavar="X",
        help="share of the mean diagonal of the Hessian that is added to its diagonal (default: 0.01)",
    )
    group.add_argument(
        "--include",
        type=_kinds,
        action="extend",
        default=[],
        metavar="KIND[,KIND]",
        help=f"also quantize {', '.join(INCLUDABLE)}, which are left alone otherwise (embeddings cannot be quantized)",
    )


def _add_text_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--calibration",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="files and folders of text that the model runs on while it is quantized (default: the program's own text)",
    )
    group.add_argument(
        "--held-out",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="other text, on which perplexity is measured before and after (default: the program's own)",
    )
    group.add_argument(
        "--samples",
        type=whole_number(2, 2**31 - 1),
        default=128,
        metavar="N",
        help="texts used for calibration, at most (default: 128)",
    )
    group.add_argument(
        "--tokens",
        type=whole_number(2, 2**31 - 1),
        default=2048,
        metavar="N",
        help="tokens of each text, at most the length up to which the sparse layers attend densely (default: 2048)",
    )


def _kinds(text: str) -> list[str]:
    """The kinds of matrices in a comma-separated list. Raises ArgumentTypeError."""
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    for kind in kinds:
        if "embed" in kind:
            raise argparse.ArgumentTypeError(
                "embeddings cannot be quantized by GPTQ: they are looked up, not multiplied"
            )
        if kind not in INCLUDABLE:
            raise argparse.ArgumentTypeError(f"{kind!r} is not one of {', '.join(INCLUDABLE)}")
    return kinds
