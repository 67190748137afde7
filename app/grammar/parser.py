"""The command line's grammar. Standard library only: `--help` must answer before anything is installed."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, NoReturn

from app.grammar.bench import PARTS, BenchArguments, add_bench_options
from app.grammar.eval import EvalArguments, add_eval_options
from app.grammar.quantize import QuantizeArguments, add_quantize_options
from app.grammar.train import ConvertArguments, TrainArguments, add_convert_options, add_train_options
from app.grammar.values import VERBATIM_HELP, not_blank, number, seed, whole_number

DEFAULT_PORT = 7863
DEFAULT_MODEL = "embedded"
DEVICES = ("auto", "cpu", "cuda")
KV_KINDS = ("auto", "bf16", "int8", "fp8")
CARDS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_120")
_COMMON_OPTIONS = ("--library", "--model", "--device", "--kv")
_DESCRIPTION = """Reads whole books, PDFs and code repositories once, keeps what the model understood on disk,
and answers questions about them. Without a command it opens the page in a browser."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """One parsed command line. Fields that the command does not take keep their defaults."""

    command: str = "page"
    library: Path | None = None
    """Folder of the library; None means the user's data folder."""
    model: str = DEFAULT_MODEL
    device: str = "auto"
    kv: Literal["auto", "bf16", "int8", "fp8"] = "auto"
    port: int | None = None
    """None means the default port, or a free one where that is taken."""
    browser: bool = True
    session: str = ""
    new_session: str = ""
    paths: tuple[Path, ...] = ()
    again: bool = False
    """Read the session's stored texts again, after the model or the program's state format has changed."""
    question: str = ""
    json: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    verbatim: bool | None = None
    """None leaves it to the model."""
    seed: int | None = None
    operations: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()
    quantize: QuantizeArguments | None = None
    """Set for the command quantize alone."""
    bench: BenchArguments | None = None
    """Set for the command bench alone."""
    eval: EvalArguments | None = None
    """Set for the command eval alone."""
    train: TrainArguments | None = None
    """Set for the command train alone."""
    convert: ConvertArguments | None = None
    """Set for the command convert alone."""
    pytest_args: tuple[str, ...] = ()

    @property
    def kv_kind(self) -> Literal["auto", "plain", "int8", "fp8"]:
        """`--kv` as the engine calls it: bf16 stands for the model's own number format, whichever it is."""
        return "plain" if self.kv == "bf16" else self.kv


class _Parser(argparse.ArgumentParser):
    """Bad usage is one line on stderr and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def parse(argv: Sequence[str]) -> Arguments:
    """Parse a command line without the program's name. SystemExit for `--help` (0) and bad usage (2)."""
    ours, pytest_args = _split_pytest_arguments(list(argv))
    parser = build_parser()
    namespace = parser.parse_args(ours)
    if namespace.command is None:
        namespace.command = "page"
    elif namespace.port is not None or not namespace.browser:
        parser.error(f"--port and --no-browser belong to the page, not to {namespace.command}")
    if namespace.command == "read" and not namespace.paths and not namespace.again:
        parser.error("read needs a PATH, or --again")
    if namespace.command == "quantize":
        namespace.quantize = QuantizeArguments.from_namespace(namespace)
        if namespace.layout == "autogptq" and namespace.format == "gptq_v2":
            parser.error("--layout autogptq needs --format gptq: AutoGPTQ reads no other")
    if namespace.command == "bench":
        namespace.bench = BenchArguments.from_namespace(namespace)
        unknown = sorted(set(namespace.only) - set(PARTS)) if namespace.what == "model" else []
        if unknown:
            parser.error(f"bench model has no part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    if namespace.command == "eval":
        namespace.eval = EvalArguments.from_namespace(namespace)
        usage_error = namespace.eval.usage_error(model_is_default=namespace.model == DEFAULT_MODEL)
        if usage_error:
            parser.error(usage_error)
    if namespace.command == "train":
        namespace.train = TrainArguments.from_namespace(namespace)
    if namespace.command == "convert":
        namespace.convert = ConvertArguments.from_namespace(namespace)
    names = [field.name for field in fields(Arguments) if hasattr(namespace, field.name)]
    values = {name: getattr(namespace, name) for name in names}
    for name in ("paths", "operations", "cards"):
        values[name] = tuple(values.get(name, ()))
    return Arguments(**{**values, "pytest_args": tuple(pytest_args)})


def build_parser() -> argparse.ArgumentParser:
    """The parser of everything but pytest's own arguments."""
    parser = _Parser(prog="launch.py", description=_DESCRIPTION, allow_abbrev=False)
    _add_common(parser, suppress=False)
    parser.add_argument(
        "--port",
        type=whole_number(1, 65535),
        metavar="N",
        help=f"port of the page (default: {DEFAULT_PORT}, or a free one)",
    )
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="print the address, open no browser")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)

    read = _command(commands, "read", "read files and folders into a session, creating it; run it again to continue")
    _add_session(read)
    read.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="a file or a folder")
    read.add_argument("--again", action="store_true", help="have this model read anew what the session holds already")

    ask = _command(commands, "ask", "ask one question; prints the answer and the places it rests on")
    _add_session(ask)
    ask.add_argument("question", type=not_blank("the question is empty"), metavar="QUESTION")
    ask.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    ask.add_argument("--max-tokens", type=whole_number(1, 2**31 - 1), metavar="N", help="longest answer, in tokens")
    ask.add_argument("--temperature", type=number(0, 100), metavar="T", help="0 takes the likeliest token every time")
    ask.add_argument("--verbatim", action=argparse.BooleanOptionalAction, help=VERBATIM_HELP)
    ask.add_argument("--seed", type=seed, metavar="S", help="the same seed gives the same text")

    sessions = _command(commands, "sessions", "list the sessions")
    sessions.add_argument("--json", action="store_true", help="print a JSON list")
    show = _command(commands, "show", "show a session's sources and conversation")
    _add_session(show)
    show.add_argument("--json", action="store_true", help="print one JSON object")
    fork = _command(commands, "fork", "copy a session; what was read is shared, not read again")
    _add_session(fork)
    fork.add_argument("new_session", metavar="NEW", help="name of the copy")
    _add_session(_command(commands, "delete", "delete a session and what no other session uses"))
    kernels = _command(commands, "kernels", "what the Triton kernels take of each card, and how exact they are")
    kernels.add_argument("operations", nargs="*", metavar="OPERATION", help="only these (default: all)")
    kernels.add_argument(
        "--card", dest="cards", action="append", default=[], choices=CARDS, help="compile for this one (default: all)"
    )
    kernels.add_argument("--json", action="store_true", help="print one JSON object")
    quantize = _command(commands, "quantize", "give a model int4 weights, in a new folder; continues what was stopped")
    add_quantize_options(quantize)
    bench = _command(commands, "bench", "measure the kernels or the model on this machine; writes a CSV and plots")
    add_bench_options(bench)
    evals = _command(commands, "eval", "measure a model, here or behind an endpoint, on long texts")
    add_eval_options(evals)
    add_train_options(_command(commands, "train", "make a hybrid by a recipe, stage by stage; continues what stopped"))
    add_convert_options(_command(commands, "convert", "make a backbone for train of a dense model"))
    test = _command(commands, "test", "install what the tests need and run them")
    test.usage = "launch.py test [PYTEST ARGUMENT ...]"
    _command(commands, "setup", "only make or update the environment")
    return parser


def _command(commands: "argparse._SubParsersAction[_Parser]", name: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text.capitalize() + ".", allow_abbrev=False)
    _add_common(parser, suppress=True)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, suppress: bool) -> None:
    """The options of every command, before or after its name; `suppress` keeps those given before it."""
    group = parser.add_argument_group("options of every command")
    group.add_argument(
        "--library",
        type=Path,
        metavar="DIR",
        default=argparse.SUPPRESS if suppress else None,
        help="folder of sessions and states (default: the user's data folder)",
    )
    group.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        default=argparse.SUPPRESS if suppress else DEFAULT_MODEL,
        help="embedded, a folder, or the name of a downloaded model (default: embedded)",
    )
    group.add_argument(
        "--device",
        choices=DEVICES,
        default=argparse.SUPPRESS if suppress else "auto",
        help="where the model runs (default: auto)",
    )
    group.add_argument(
        "--kv",
        choices=KV_KINDS,
        default=argparse.SUPPRESS if suppress else "auto",
        help="how keys and values are kept, in memory and on disk: bf16 is the model's own format, int8 and fp8 take "
        "half the space; what was read in one is read again for another (default: auto, bf16 if a million tokens fit)",
    )


def _add_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "session", type=not_blank("a session needs a name"), metavar="SESSION", help="name of the session"
    )


def _split_pytest_arguments(argv: list[str]) -> tuple[list[str], list[str]]:
    """(our arguments, pytest's): after `test` all but the common options and a lone `--help` is pytest's."""
    start = _index_of_command(argv)
    if start is None or argv[start] != "test":
        return argv, []
    ours, theirs = argv[: start + 1], []
    rest = iter(argv[start + 1 :])
    if argv[start + 1 :] in (["--help"], ["-h"]):
        return argv, []
    for argument in rest:
        if argument in _COMMON_OPTIONS:
            ours += [argument, *([value] if (value := next(rest, None)) is not None else [])]
        elif argument.startswith(tuple(f"{option}=" for option in _COMMON_OPTIONS)):
            ours.append(argument)
        else:
            theirs.append(argument)
    return ours, theirs


def _index_of_command(argv: list[str]) -> int | None:
    index = 0
    while index < len(argv):
        if not argv[index].startswith("-"):
            return index
        index += 2 if argv[index] in (*_COMMON_OPTIONS, "--port") else 1
    return None
