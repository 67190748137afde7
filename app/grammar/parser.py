"""The command line: its options, and the record that a parsed line becomes.

Standard library only, because `--help` must work before anything is installed.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, NoReturn

from app.grammar import asking
from app.grammar import turns as turn_options
from app.grammar.connections.engines import EngineArguments, add_engine_options, add_engines_command, engine_usage_error
from app.grammar.connections.mcp import (
    McpArguments,
    add_mcp_options,
    add_page_allow_option,
    join_allowed,
    mcp_usage_error,
)
from app.grammar.connections.serve import ServeArguments, add_serve_options, serve_usage_error
from app.grammar.development.bench import PARTS, BenchArguments, add_bench_options
from app.grammar.development.eval import EvalArguments, add_eval_options
from app.grammar.development.pytest_arguments import split_pytest_arguments
from app.grammar.development.train import ConvertArguments, TrainArguments, add_convert_options, add_train_options
from app.grammar.doctor import DoctorArguments, add_doctor_options
from app.grammar.download import DownloadArguments, add_download_options
from app.grammar.files import add_file_options, files_usage_error, split_sources
from app.grammar.folders import add_change_options, add_remove_options, read_usage_error
from app.grammar.library import add_quota_options, add_verify_options, verify_usage_error
from app.grammar.listing import add_bin_options, add_delete_options
from app.grammar.portable import add_export_options, add_import_options
from app.grammar.quantize import QuantizeArguments, add_quantize_options
from app.grammar.values import add_format_options, not_blank, whole_number

DEFAULT_PORT = 7863
DEFAULT_MODEL = "embedded"
DEVICES = ("auto", "cpu", "cuda")
CARDS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_120")
_LOADING = {"model": DEFAULT_MODEL, "device": "auto", "kv": "auto", "kv_at_rest": "same", "bos": "auto"}
"""Options that say how the model is loaded -> their values where nothing else is chosen."""
_DESCRIPTION = """Reads whole books, PDFs and code repositories once, keeps the model's state on disk, and answers
questions about them. Without a command it opens the page in a browser."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """One parsed command line. Fields that the command does not use keep their defaults."""

    command: str = "page"
    library: Path | None = None
    """Folder of the library; None means the user's data folder."""
    model: str = DEFAULT_MODEL
    given: frozenset[str] = field(default=frozenset(), compare=False)
    """Which of model, device, kv and bos the command line names; for the others counts what is kept in "Settings"."""
    model_given: bool = False
    """Whether the command line names the model."""
    quota: int | None = 0
    """Bytes that states may take; None for no quota, 0 to leave it as it is."""
    device: str = "auto"
    kv: Literal["auto", "bf16", "int8", "fp8"] = "auto"
    kv_at_rest: Literal["same", "int8"] = "same"
    """How new sessions store keys and values."""
    bos: Literal["auto", "on", "off"] = "auto"
    port: int | None = None
    """None means the default port, or a free port if the default port is in use."""
    browser: bool = True
    window: bool = False
    """Show the page in a native window instead of a browser."""
    session: str = ""
    now: bool = False
    """Delete for good, also what is in the bin."""
    bin: bool = False
    """List the bin."""
    new_session: str = ""
    archive: Path | None = None
    """The file that `export` writes, or `import` reads."""
    with_state: bool = True
    """Whether the model's state is written, or taken, with the session."""
    paths: tuple[Path, ...] = ()
    addresses: tuple[str, ...] = ()
    """What `read` fetches from the network first."""
    everything: bool = False
    """Also read generated, minified and ignored files."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """Patterns of files, as in `.gitignore`."""
    password_stdin: bool = False
    """Take the password of encrypted files from standard input."""
    again: bool = False
    """Read the session's stored texts again, for another model or a newer state format."""
    drop_gone: bool = False
    """Take out the texts of files that are not in their folder any more."""
    watch: bool = False
    """Go on reading what changes until Ctrl-C."""
    documents: tuple[str, ...] = ()
    """Names of documents, or the ends of their names."""
    yes: bool = False
    """Do not ask before much is read again, or something is fetched."""
    question: str = ""
    most: int = 8
    """Passages that `find` prints at most."""
    questions: Path | None = None
    """A file with a list of questions."""
    out_file: Path | None = None
    """Where answers, or a conversation, go."""
    show_as: Literal["text", "json", "md", "html"] = "text"
    """Of what `show` prints."""
    json: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    edit: int | None = None
    regenerate: int | None = None
    at: int | None = None
    """Turns, counted from 1: the one in whose place a question is asked, the one that is answered once more (0 for the
    last), the last one of a copy."""
    turns: turn_options.TurnsArguments | None = None
    think: bool | None = None
    """None means the model's default."""
    thinking_budget: int | None = None
    verbatim: bool | None = None
    """None means the model's default."""
    seed: int | None = None
    operations: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()
    quantize: QuantizeArguments | None = None
    """Set only for the command quantize."""
    bench: BenchArguments | None = None
    """Set only for the command bench."""
    eval: EvalArguments | None = None
    """Set only for the command eval."""
    train: TrainArguments | None = None
    """Set only for the command train."""
    convert: ConvertArguments | None = None
    """Set only for the command convert."""
    doctor: DoctorArguments | None = None
    """Set only for the command doctor."""
    download: DownloadArguments | None = None
    """Set only for the command download."""
    mcp: McpArguments | None = None
    """Set only for the command mcp."""
    page_allow: tuple[Path, ...] = ()
    """Folders that clients of the page's `/mcp` may have read."""
    serve: ServeArguments | None = None
    """Set only for the command serve."""
    engine: EngineArguments = field(default_factory=EngineArguments)
    torch: Literal["auto", "cpu", "cuda"] | None = None
    """The build of torch that `setup` installs; None keeps what was chosen before."""
    pytest_args: tuple[str, ...] = ()

    @property
    def kv_kind(self) -> Literal["auto", "plain", "int8", "fp8"]:
        """`--kv` in the engine's terms: bf16 stands for the model's own number format, even if that is not bfloat16."""
        return "plain" if self.kv == "bf16" else self.kv

    @property
    def bos_choice(self) -> Literal["auto"] | bool:
        """`--bos` in the engine's terms."""
        return "auto" if self.bos == "auto" else self.bos == "on"


_RECORDS: dict[str, Callable[[argparse.Namespace], object]] = {
    "quantize": QuantizeArguments.from_namespace,
    "bench": BenchArguments.from_namespace,
    "eval": EvalArguments.from_namespace,
    "train": TrainArguments.from_namespace,
    "convert": ConvertArguments.from_namespace,
    "doctor": DoctorArguments.from_namespace,
    "download": DownloadArguments.from_namespace,
    "turns": turn_options.TurnsArguments.from_namespace,
    "mcp": McpArguments.from_namespace,
    "serve": ServeArguments.from_namespace,
}
"""Commands with many options -> how they collect them. The field of Arguments has the command's name."""


class _Parser(argparse.ArgumentParser):
    """Reports bad usage in one line on stderr and exits with code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def parse(argv: Sequence[str], program: str = "launch.py") -> Arguments:
    """Parse a command line. Raises SystemExit for `--help` (0) and bad usage (2).

    argv: the command line without the program's name. program: that name, for help and messages.
    """
    own, pytest_args = split_pytest_arguments(list(argv))
    parser = build_parser(program)
    namespace = turn_options.parse_with_question(parser, own)
    namespace.given = frozenset(name for name in _LOADING if getattr(namespace, name) is not None)
    namespace.model_given = "model" in namespace.given
    for name, default in _LOADING.items():
        setattr(namespace, name, default if getattr(namespace, name) is None else getattr(namespace, name))
    if namespace.command in _RECORDS:
        setattr(namespace, namespace.command, _RECORDS[namespace.command](namespace))
    if usage_error := _usage_error(namespace):
        parser.error(usage_error)
    namespace.engine = EngineArguments.from_namespace(namespace)
    join_allowed(namespace)
    split_sources(namespace)
    if namespace.command == "read" and (usage_error := files_usage_error(namespace)):
        parser.error(usage_error)
    if namespace.command is None:
        namespace.command = "page"
    names = [each.name for each in fields(Arguments) if hasattr(namespace, each.name)]
    values = {name: getattr(namespace, name) for name in names}
    for name in ("paths", "addresses", "include", "exclude", "operations", "cards", "documents", "page_allow"):
        values[name] = tuple(values.get(name, ()))
    return Arguments(**{**values, "pytest_args": tuple(pytest_args)})


def _usage_error(namespace: argparse.Namespace) -> str | None:
    """Return what is wrong with options that are valid one by one, if anything."""
    command = namespace.command
    has_port = namespace.port is not None and command != "serve"
    if command is not None and (has_port or not namespace.browser or namespace.window):
        return f"--port, --no-browser and --window belong to the page, not to {command}"
    if namespace.window and not namespace.browser:
        return "--window opens a window and --no-browser opens none; leave one out"
    if reason := engine_usage_error(namespace) or mcp_usage_error(namespace):
        return reason
    if command == "read" and (reason := read_usage_error(namespace)):
        return reason
    if command == "serve":
        return serve_usage_error(namespace.serve)
    if command == "ask":
        return asking.ask_usage_error(namespace)
    if command == "show":
        return asking.show_usage_error(namespace)
    if command == "verify":
        return verify_usage_error(namespace, model_given=namespace.model_given)
    if command == "quantize" and namespace.layout == "autogptq" and namespace.format == "gptq_v2":
        return "--layout autogptq needs --format gptq: AutoGPTQ reads no other format"
    if command == "bench" and namespace.what == "model" and (unknown := sorted(set(namespace.only) - set(PARTS))):
        return f"bench model has no part {unknown[0]!r}; choose from {', '.join(PARTS)}"
    if command == "eval":
        return namespace.eval.usage_error(model_is_default=namespace.model == DEFAULT_MODEL)
    return None


def build_parser(program: str = "launch.py") -> argparse.ArgumentParser:
    """Build the parser of the whole command line, except pytest's own arguments. program: the name in help."""
    parser = _Parser(prog=program, description=_DESCRIPTION, allow_abbrev=False)
    _add_common(parser, suppress=False)
    parser.add_argument(
        "--port",
        type=whole_number(1, 65535),
        metavar="N",
        help=f"port of the page (default: {DEFAULT_PORT}, or a free one)",
    )
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="print the address, open no browser")
    parser.add_argument("--window", action="store_true", help="open a native window, no browser (installs pywebview)")
    add_page_allow_option(parser)
    add_engine_options(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    _add_session_commands(commands)
    _add_model_commands(commands)
    _add_development_commands(commands)
    return parser


def _add_session_commands(commands: "argparse._SubParsersAction[_Parser]") -> None:
    read = _command(commands, "read", "read files and folders into a session, creating it; run it again to continue")
    _add_session(read)
    add_file_options(read)
    read.add_argument("--again", action="store_true", help="read the session's stored texts again with this model")
    add_change_options(read)
    remove = _command(commands, "remove", "take documents out of a session, and read again what stands behind them")
    _add_session(remove)
    add_remove_options(remove)

    ask = _command(commands, "ask", "ask one question, or a list of them; prints the answer and its evidence")
    _add_session(ask)
    ask.add_argument("question", nargs="?", type=not_blank("the question is empty"), metavar="QUESTION")
    asking.add_list_options(ask)
    ask.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    asking.add_sampling_options(ask)
    turn_options.add_version_options(ask)
    add_engine_options(ask, suppress=True)
    turn_options.add_turns_options(_command(commands, "turns", "list the turns, delete one, switch a version"))

    asking.add_find_options(_command(commands, "find", "find the passages of a session that fit a question or words"))
    sessions = _command(commands, "sessions", "list the sessions")
    sessions.add_argument("--json", action="store_true", help="print a JSON list")
    add_bin_options(sessions)
    show = _command(commands, "show", "show a session's sources and conversation")
    _add_session(show)
    asking.add_show_options(show)
    fork = _command(commands, "fork", "copy a session; the copy shares what was read, nothing is read again")
    _add_session(fork)
    fork.add_argument("new_session", metavar="NEW", help="name of the copy")
    turn_options.add_at_option(fork)
    delete = _command(commands, "delete", "move a session to the bin, where it stays for 30 days")
    _add_session(delete)
    add_delete_options(delete)
    _add_session(_command(commands, "restore", "bring a session back from the bin"))
    export = _command(commands, "export", "write a session to one file: texts, conversation, the model's state")
    _add_session(export)
    add_export_options(export)
    add_import_options(_command(commands, "import", "take the session in a file into the library"))
    verify = "check the library, or what one SESSION needs; with --model: all files of that model, by their checksums"
    add_verify_options(_command(commands, "verify", verify))
    _command(commands, "repair", "mend the library; makes its database anew from the files beside it if need be")
    add_quota_options(_command(commands, "quota", "show or limit the disk space of saved states"))
    serve = _command(commands, "serve", "serve other programs by an OpenAI-compatible API and MCP")
    add_serve_options(serve)
    add_page_allow_option(serve, is_serve=True)
    add_mcp_options(_command(commands, "mcp", "serve other programs by MCP on standard input and output"))


def _add_model_commands(commands: "argparse._SubParsersAction[_Parser]") -> None:
    models = _command(commands, "models", "list the models that are here or can be had, and what fits this machine")
    models.add_argument("paths", nargs="*", type=Path, metavar="FOLDER", help="also describe the model in this folder")
    models.add_argument("--json", action="store_true", help="print one JSON object")
    add_download_options(_command(commands, "download", "download a model; continues a download that was stopped"))
    add_engines_command(_command(commands, "engines", "find the engines on this machine that can write answers"))
    kernels = _command(commands, "kernels", "show what each Triton kernel uses on each card, and how exact it is")
    kernels.add_argument("operations", nargs="*", metavar="OPERATION", help="only these (default: all)")
    kernels.add_argument(
        "--card", dest="cards", action="append", default=[], choices=CARDS, help="compile for this one (default: all)"
    )
    kernels.add_argument("--json", action="store_true", help="print one JSON object")
    quantize = _command(commands, "quantize", "give a model int4 weights, in a new folder; continues a stopped run")
    add_quantize_options(quantize)
    bench = _command(commands, "bench", "measure the kernels or the model on this machine; writes a CSV and plots")
    add_bench_options(bench)
    evals = _command(commands, "eval", "evaluate a model, here or behind an endpoint, on long texts")
    add_eval_options(evals)
    doctor = _command(commands, "doctor", "examine machine, card and model; writes a report to attach to a bug report")
    add_doctor_options(doctor)
    train = _command(commands, "train", "train a hybrid model by a recipe, stage by stage; continues a stopped run")
    add_train_options(train)
    add_convert_options(_command(commands, "convert", "convert a dense model to a backbone for train"))


def _add_development_commands(commands: "argparse._SubParsersAction[_Parser]") -> None:
    test = _command(commands, "test", "install what the tests need and run them")
    test.usage = "launch.py test [PYTEST ARGUMENT ...]"
    _command(commands, "check", "run ruff, mypy and the architecture tests, without the test suite (about a minute)")
    setup = _command(commands, "setup", "only create or update the environment")
    setup.add_argument(
        "--torch",
        choices=DEVICES,
        help="build of torch: auto is CUDA if there is an NVIDIA driver (default: as before)",
    )


def _command(commands: "argparse._SubParsersAction[_Parser]", name: str, text: str) -> argparse.ArgumentParser:
    """Add a command with the common options."""
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
    _add_common(parser, suppress=True)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, suppress: bool) -> None:
    """Add the options of every command. With `suppress` they have no default, so that values before the command stay.

    The options may stand before or after the command.
    """
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
        default=argparse.SUPPRESS if suppress else None,
        help="embedded, a folder, or the name of a downloaded model (default: embedded)",
    )
    group.add_argument(
        "--device",
        choices=DEVICES,
        default=argparse.SUPPRESS if suppress else None,
        help="where the model runs (default: auto)",
    )
    add_format_options(group, suppress=suppress)


def _add_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "session", type=not_blank("a session needs a name"), metavar="SESSION", help="name of the session"
    )
