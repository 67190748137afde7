"""The grammar of `quantize`. Standard library only, as `app.grammar.parser`."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from app.grammar.values import number_above, whole_number

BITS = (2, 4, 8)
GROUP_SIZES = (-1, 16, 32, 64, 128, 256, 512, 1024)
INCLUDABLE = ("o_gate", "z_proj", "lm_head")
FORMATS = ("gptq", "gptq_v2")
LAYOUTS = ("gptqmodel", "autogptq")
_EPILOG = """The same command again continues a run that was stopped or killed. DST gets config.json last: until then it
is no model. Beside the model, quantize_report.json holds every figure that was printed."""


@dataclass(frozen=True, kw_only=True)
class QuantizeArguments:
    """The options of `quantize`; their meaning is in its help."""

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
    """Empty: the program's own text."""
    held_out: tuple[Path, ...]
    """Empty: the program's own other text."""
    samples: int
    tokens: int
    format: str | None
    """None: what the readers of the layout take."""
    layout: str
    restart: bool
    json: bool

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "QuantizeArguments":
        """What the parser found."""
        values = {field.name: getattr(namespace, field.name) for field in fields(cls)}
        lists = {name: tuple(values[name]) for name in ("include", "calibration", "held_out")}
        return cls(**{**values, **lists})


def add_quantize_options(parser: argparse.ArgumentParser) -> None:
    """Add positionals and options to the command's parser."""
    parser.epilog = _EPILOG
    parser.add_argument("source", metavar="SRC", help="model to quantize: embedded, a folder, or a downloaded model")
    parser.add_argument("target", type=Path, metavar="DST", help="new folder for the result")
    _add_number_options(parser.add_argument_group("numbers"))
    _add_text_options(parser.add_argument_group("calibration"))
    files = parser.add_argument_group("files")
    files.add_argument(
        "--format",
        choices=FORMATS,
        help="how zero points are stored (default: gptq, version one, read everywhere; with --asymmetric "
        "gptq_v2, the only one that GPTQModel then reads)",
    )
    files.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="gptqmodel",
        help="file names and fields as GPTQModel or as AutoGPTQ 0.7 writes them; GPTQModel itself no longer reads "
        "AutoGPTQ's settings (default: gptqmodel)",
    )
    files.add_argument("--restart", action="store_true", help="throw away what an unfinished run left in DST")
    files.add_argument("--json", action="store_true", help="print only the report, as one JSON object")


def _add_number_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--bits", type=int, choices=BITS, default=4, help="bits a weight (default: 4)")
    group.add_argument(
        "--group-size",
        type=int,
        choices=GROUP_SIZES,
        default=128,
        metavar="N",
        help="inputs that share a scale: 16, 32, 64 ... 1024, or -1 for all (default: 128; smaller is exacter, larger)",
    )
    group.add_argument("--asymmetric", action="store_true", help="a zero point for each group instead of a fixed one")
    group.add_argument(
        "--act-order",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="round the most active inputs first; groups stay as they lie, so it costs no speed (default: yes)",
    )
    group.add_argument(
        "--desc-act",
        action="store_true",
        help="groups follow that order too; stored as g_idx, slower to run, seldom better",
    )
    group.add_argument(
        "--scale-search",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="choose each group's scale by least error, instead of by its largest weight (default: yes)",
    )
    group.add_argument(
        "--damping",
        type=number_above(0, 1),
        default=0.01,
        metavar="X",
        help="share of the mean diagonal added (default: 0.01)",
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
        help="files and folders of text that the model sees meanwhile (default: the program's own text)",
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
        help="tokens of each, at most what the sparse layers attend to densely (default: 2048)",
    )


def _kinds(text: str) -> list[str]:
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    for kind in kinds:
        if "embed" in kind:
            raise argparse.ArgumentTypeError(
                "embeddings cannot be quantized by GPTQ: they are looked up, not multiplied"
            )
        if kind not in INCLUDABLE:
            raise argparse.ArgumentTypeError(f"{kind!r} is not one of {', '.join(INCLUDABLE)}")
    return kinds
