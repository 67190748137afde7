"""The options of `ask`: answers and lists of questions, and of `show`: exports. Standard library only."""

import argparse
from pathlib import Path

from app.grammar.ranges import MAX_TOKENS, TEMPERATURE, THINKING_BUDGET, TOP_P
from app.grammar.turns import version_usage_error
from app.grammar.values import THINK_HELP, VERBATIM_HELP, not_blank, number, seed, whole_number

ANSWER_SUFFIXES = (".jsonl", ".csv", ".md")
FORMATS = ("text", "json", "md", "html")


def answers_path(text: str) -> Path:
    """Convert the name of a file for answers; its suffix is its format."""
    path = Path(text)
    if path.suffix.lower() not in ANSWER_SUFFIXES:
        raise argparse.ArgumentTypeError(
            f"{text!r} ends with none of {', '.join(ANSWER_SUFFIXES)}, which are the formats"
        )
    return path


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that change the model's own way of answering."""
    length, budget = whole_number(*MAX_TOKENS), whole_number(*THINKING_BUDGET)
    parser.add_argument("--max-tokens", type=length, metavar="N", help="longest answer in tokens, without thinking")
    parser.add_argument("--think", action=argparse.BooleanOptionalAction, help=THINK_HELP)
    parser.add_argument(
        "--thinking-budget", type=budget, metavar="N", help="longest thinking, in tokens; the answer follows"
    )
    parser.add_argument(
        "--temperature", type=number(*TEMPERATURE), metavar="T", help="0 is greedy: always the most likely token"
    )
    parser.add_argument("--top-p", type=number(*TOP_P), metavar="P", help="sample from the likeliest tokens up to P")
    parser.add_argument("--verbatim", action=argparse.BooleanOptionalAction, help=VERBATIM_HELP)
    parser.add_argument("--seed", type=seed, metavar="S", help="the same seed gives the same text on the same machine")


def add_list_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that ask many questions instead of one."""
    group = parser.add_argument_group("many questions")
    group.add_argument(
        "--questions",
        type=Path,
        metavar="FILE",
        help="ask every line of a text file, or the column 'question' of a .csv file, each from the same read state",
    )
    group.add_argument(
        "--out",
        dest="out_file",
        type=answers_path,
        metavar="FILE",
        help="where the answers go: .jsonl, .csv or .md; run it again to continue",
    )


def ask_usage_error(namespace: argparse.Namespace) -> str | None:
    """Return what is wrong with the options of `ask`, if anything. A question that is not there becomes ""."""
    namespace.question = namespace.question or ""
    if reason := version_usage_error(namespace):
        return reason
    if namespace.regenerate is not None:
        return None
    if bool(namespace.question) == bool(namespace.questions):
        return "ask takes a QUESTION, or a list of them by --questions FILE"
    if bool(namespace.questions) != bool(namespace.out_file):
        return "--questions FILE and --out FILE belong together"
    if namespace.questions and namespace.json:
        return "--json prints one answer; with --questions the suffix of --out is the format"
    return None


def add_show_options(parser: argparse.ArgumentParser) -> None:
    """Add the format of `show`, and where its output goes."""
    parser.add_argument("--json", action="store_true", help="print one JSON object; the same as --format json")
    parser.add_argument(
        "--format",
        dest="show_as",
        choices=FORMATS,
        default=None,
        help="md and html are the conversation with its evidence and places, html as one file (default: text)",
    )
    parser.add_argument(
        "--out", dest="out_file", type=Path, metavar="FILE", help="write to a new file instead of the terminal"
    )


def show_usage_error(namespace: argparse.Namespace) -> str | None:
    """Return what is wrong with the options of `show`, if anything. `--json` becomes the format."""
    if namespace.json and namespace.show_as not in (None, "json"):
        return f"--json and --format {namespace.show_as} are two formats; choose one"
    namespace.show_as = namespace.show_as or ("json" if namespace.json else "text")
    return None


def add_find_options(parser: argparse.ArgumentParser) -> None:
    """Add all arguments of `find`."""
    parser.add_argument("session", type=not_blank("a session needs a name"), metavar="SESSION", help="its name")
    text = not_blank("there is nothing to find")
    parser.add_argument("question", type=text, metavar="WORDS", help="a question, or some words")
    most = whole_number(1, 100)
    parser.add_argument("--most", type=most, default=8, metavar="N", help="print at most N passages (default: 8)")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
