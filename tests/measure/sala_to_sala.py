"""Measures what it costs to have a book read by another Sala on this machine, beside reading it here.

`python tests/measure/sala_to_sala.py BOOK` reads it here, then has a second process read it, with the embedded model.
Times of the processor are those of the process that reads; on a machine with other work only they compare.
"""

import argparse
import secrets
import socket
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil

sys.path.append(str(Path(__file__).resolve().parents[1] / "app/server/engine_for_others"))

from client_texts import Text, ask, read, text_document
from sala_server import SalaServer

from sala_core import Engine
from sala_core.remote.access import Access
from sala_core.remote.sala.engine import SalaEngine
from sala_core.session.session import Session
from sala_core.store import Library

QUESTIONS = ("Who is Mr. Bingley?", "What did Mr. Collins propose?", "Where does Lady Catherine live?")


def read_here(folder: Path, book: Path, questions: tuple[str, ...]) -> tuple[int, float, float, list[float]]:
    """Tokens, seconds, seconds of the processor, and seconds of each question."""
    engine = Engine.load("embedded", "cpu")
    with Library.open(folder / "here") as library, Session.open(library, engine, "s", create=True) as session:
        began, cpu = time.monotonic(), time.process_time()
        receipt = list(session.read([book]))[-1]
        took = time.monotonic() - began, time.process_time() - cpu
        asked = []
        for question in questions:
            began = time.monotonic()
            list(session.ask(question))
            asked.append(time.monotonic() - began)
    return receipt.tokens_read, *took, asked


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("book", type=Path)
    book = parser.parse_args().book
    folder = Path(tempfile.mkdtemp())
    tokens, seconds, cpu, asked = read_here(folder, book, QUESTIONS)
    print(f"here: {tokens:,} tokens, {seconds:.1f} s, {cpu:.1f} s of the processor; questions {_shown(asked)}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        server = SalaServer(folder / "server", free.getsockname()[1])
    server.start()
    server.wait()
    try:
        with closing(SalaEngine(Access.of(f"127.0.0.1:{server.port}", server.key), folder / "client")) as engine:
            engine.connect()
            process = psutil.Process(server.pid)
            text = Text(documents=[text_document(book.name, book.read_text(encoding="utf-8"))])
            for name, each in (("first time", text), ("second time", replace(text, session_id=secrets.token_hex(16)))):
                before, sent = sum(process.cpu_times()[:2]), engine.connection.bytes_sent
                began, own = time.monotonic(), time.process_time()
                receipt = read(engine, each)
                took, own = time.monotonic() - began, time.process_time() - own
                spent = sum(process.cpu_times()[:2]) - before
                print(
                    f"{name}: {receipt.tokens_read:,} tokens read, {engine.connection.bytes_sent - sent:,} bytes sent, "
                    f"{took:.1f} s ({receipt.seconds:.1f} s of it the server's reading); of the processor "
                    f"{spent:.1f} s there, {own:.2f} s here"
                )
            times = []
            for question in QUESTIONS:
                began = time.monotonic()
                ask(engine, text, question)
                times.append(time.monotonic() - began)
            print(f"questions there: {_shown(times)}")
    finally:
        server.end()


def _shown(seconds: list[float]) -> str:
    return ", ".join(f"{each:.2f} s" for each in seconds)


if __name__ == "__main__":
    main()
