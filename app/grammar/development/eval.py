"""The command line of `eval`. Standard library only, like `app.grammar.parser`."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from app.grammar.ranges import EVAL_MAX_TOKENS
from app.grammar.values import THINK_HELP, VERBATIM_HELP, lengths, names, number_above, seed, whole_number

SUITES = ("ruler", "mrcr", "nolima", "quote", "absent", "ppl", "natural")
HALVES = ("open", "untouched")
_EPILOG = """Writes SUITE.jsonl (every sample), SUITE.csv (the means) and SUITE.png into the folder of --out. Run the
same command again to continue a run that was stopped or killed; with more samples or lengths it adds the new ones.
With --endpoint, --model is the name that the server knows the model by. natural asks the finder, with
which a model that only finds answers, beside a plain word search; it needs the folders of its texts (--text)."""


@dataclass(frozen=True, kw_only=True)
class EvalArguments:
    """The options of `eval`. Their meaning is in the help text of the command."""

    suite: str
    lengths: tuple[int, ...]
    samples: int
    seed: int
    tasks: tuple[str, ...]
    """Empty: all tasks of the suite."""
    shared: int
    text: tuple[Path, ...]
    """Empty: the program's own text."""
    half: Literal["open", "untouched"]
    """Of the questions of natural."""
    max_tokens: int | None
    verbatim: bool | None
    think: bool | None
    endpoint: str | None
    tokenizer: str | None
    api_key_variable: str
    timeout: float
    out: Path | None
    restart: bool

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "EvalArguments":
        """Take the values that argparse has parsed."""
        values = {field.name: getattr(namespace, field.name) for field in fields(cls)}
        return cls(**{**values, **{name: tuple(values[name]) for name in ("lengths", "tasks", "text")}})

    def usage_error(self, *, model_is_default: bool) -> str | None:
        """The message for options that contradict each other; None if they are valid."""
        if self.suite == "natural" and (self.endpoint or self.tasks or self.verbatim is not None):
            return "natural takes --text, --half and --out alone: it asks the finder, no model"
        if self.suite == "ppl" and self.endpoint:
            return "ppl needs the probabilities of every token, which a chat endpoint does not give"
        if self.suite == "ppl" and self.tasks:
            return "ppl has no tasks"
        if self.endpoint and model_is_default:
            return "--endpoint needs --model NAME, as the server calls it"
        if self.tokenizer and not self.endpoint:
            return "--tokenizer goes with --endpoint; a local model has its own"
        if self.verbatim is not None and (self.endpoint or self.suite == "ppl"):
            return "--verbatim is for the answers of a local model"
        if self.think is not None and (self.endpoint or self.suite == "ppl"):
            return "--think is for the answers of a local model"
        return None


def add_eval_options(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument and options of `eval` to its parser."""
    parser.epilog = _EPILOG
    parser.add_argument("suite", choices=SUITES, metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument(
        "--lengths",
        type=lengths,
        default=[4096],
        metavar="N[,N]",
        help="tokens of each prompt, as 4K,64K,1M (default: 4K)",
    )
    parser.add_argument(
        "--samples",
        type=whole_number(1, 1 << 20),
        default=20,
        metavar="N",
        help="questions per task and length (default: 20)",
    )
    _add_sample_options(parser)
    parser.add_argument("--verbatim", action=argparse.BooleanOptionalAction, help=VERBATIM_HELP)
    parser.add_argument("--think", action=argparse.BooleanOptionalAction, help=THINK_HELP)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of results (default: eval-results/MODEL)")
    parser.add_argument("--restart", action="store_true", help="delete the suite's samples in that folder first")
    _add_endpoint_options(parser.add_argument_group("a model behind an endpoint"))


def _add_sample_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="S", help="a seed gives the same samples again (default: 0)"
    )
    parser.add_argument(
        "--tasks", type=names, default=[], metavar="NAME[,NAME]", help="only these tasks of the suite (default: all)"
    )
    parser.add_argument(
        "--shared",
        type=whole_number(1, 1 << 20),
        default=5,
        metavar="N",
        help="questions of a task that share one text and its state; 1 reads a text for every question (default: 5)",
    )
    parser.add_argument(
        "--text",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="text files that questions are asked about and needles are planted in (default: the program's own text)",
    )
    parser.add_argument("--half", choices=HALVES, default=HALVES[0], help="of the questions of natural (default: open)")
    parser.add_argument(
        "--max-tokens",
        type=whole_number(*EVAL_MAX_TOKENS),
        metavar="N",
        help="maximum tokens per answer (default: what the task needs; behind an endpoint thinking counts too)",
    )


def _add_endpoint_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--endpoint", metavar="URL", help="address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1"
    )
    group.add_argument(
        "--tokenizer",
        metavar="NAME_OR_PATH",
        help="folder with its tokenizer and chat template, to count tokens (default: that of --model, if it is here)",
    )
    group.add_argument(
        "--api-key-variable",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="environment variable with the API key, if the server needs one (default: OPENAI_API_KEY)",
    )
    group.add_argument(
        "--timeout",
        type=number_above(0, 86_400, "a number of seconds"),
        default=600.0,
        metavar="S",
        help="seconds to wait for an answer (default: 600)",
    )
