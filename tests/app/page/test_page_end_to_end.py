"""The whole program as a person meets it: started in a process of its own, used in headless Chromium, killed."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

import torch
from page_driver import Served, Watch, Window, wait_for
from playwright.sync_api import expect
from safetensors.torch import save_file

from sala_core.model.checkpoint import expected_shapes
from sala_core.model.config import SalaConfig
from sala_core.store import Library

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

_PROGRAM = (
    "import sys; from app.grammar.parser import parse; from app.cli import run; sys.exit(run(parse(sys.argv[1:])))"
)
_WORDS = (
    "the",
    "prince",
    "came",
    "over",
    "river",
    "and",
    "said",
    "nothing",
    "to",
    "general",
    "of",
    "army",
    "snow",
    "fell",
)
_NUM_LIGHTNING_LAYERS = 6
_PATIENCE_S = 90
_RANDOM = random.Random(5)


@pytest.fixture(scope="module")
def model(random_model, tmp_path_factory):
    """Random weights, deep enough that a reading and an answer take seconds; it never ends an answer by itself."""
    folder = tmp_path_factory.mktemp("models") / "talkative"
    shutil.copytree(random_model, folder)
    raw = json.loads((folder / "config.json").read_text())
    raw["mixer_types"] = ["minicpm4", *["lightning-attn"] * _NUM_LIGHTNING_LAYERS, "minicpm4"]
    raw["num_hidden_layers"] = len(raw["mixer_types"])
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.2}))
    generator = torch.Generator().manual_seed(7)
    weights = {
        name: torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=generator) * 0.1
        for name, shape in expected_shapes(SalaConfig.from_dict(raw)).items()
    }
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    weights["lm_head.weight"][[token["id"] for token in tokenizer["added_tokens"]]] = 0
    save_file(weights, folder / "model.safetensors")
    return folder


class Program:
    """`launch.py --no-browser` on one library, started again and again at the same port."""

    def __init__(self, library, model, environment):
        self.library, self._environment = library, environment | {"PYTHONUNBUFFERED": "1"}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._line = ["--library", library, "--model", model, "--device", "cpu", "--port", self.port, "--no-browser"]

    @contextmanager
    def running(self):
        """Yields (process, what it serves), the token taken from what it prints; killed at the end."""
        log = self.library.parent / "program.log"
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *map(str, self._line)],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            shown = process.stdout.readline()
            found = re.fullmatch(rf"Open http://127\.0\.0\.1:{self.port}/\?token=(\S+)\n", shown)
            assert found, (shown, log.read_text())
            yield process, Served(port=self.port, token=found[1])
        finally:
            process.kill()
            process.communicate(timeout=20)
            assert "Traceback" not in log.read_text()

    def session(self, name):
        """The session's row, straight from the library."""
        with Library.open(self.library) as library:
            return library.session(name)


@pytest.fixture
def program(tmp_path, model, environment):
    return Program(tmp_path / "library", model, environment)


def write_book(path, num_chapters, num_lines=30):
    """A text of numbered chapters, about 16 tokens a line."""
    lines = []
    for chapter in range(1, num_chapters + 1):
        lines.append(f"Chapter {chapter}.")
        lines += [f"{' '.join(_RANDOM.choices(_WORDS, k=12)).capitalize()}." for _ in range(num_lines)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def write_pdf(path):
    pymupdf = pytest.importorskip("pymupdf")
    document = pymupdf.open()
    for number in range(1, 4):
        document.new_page().insert_text((72, 72), f"The report, page {number}: the bridge was closed.")
    document.save(path)
    return path


def write_code(folder):
    (folder / "src").mkdir(parents=True)
    (folder / ".gitignore").write_text("build/\n")
    (folder / "src" / "main.py").write_text("def main() -> None:\n    print('hello')\n")
    (folder / "build").mkdir()
    (folder / "build" / "out.py").write_text("pass\n")
    (folder / ".env").write_text("PASSWORD=1\n")
    return folder


def receipt(window, head):
    """Wait for a receipt that says `head`; its whole text, what is folded away included."""
    window.show("sources")
    shown = window.page.locator("#receipt .receipt", has_text=head)
    expect(shown).to_be_visible(timeout=_PATIENCE_S * 1000)
    return shown.text_content()


def number_before(words, text):
    """The number that stands before `words`."""
    found = re.search(rf"([\d,]+) {words}", text)
    assert found, text
    return int(found[1].replace(",", ""))


def read_stop_and_continue(window, tmp_path):
    """A book with a file that cannot be read: watched, stopped, continued, finished."""
    junk = tmp_path / "photo.bin"
    junk.write_bytes(bytes(range(256)) * 20)
    window.upload(write_book(tmp_path / "novel.txt", 180), junk)
    window.agree(is_asked=True)
    window.wait_reading()
    assert "tokens/s" in window.page.locator("#progress .progress-facts").inner_text()
    window.stop_reading()
    receipt(window, "Stopped; what was read is kept")
    expect(window.page.locator("#notice")).to_contain_text("tokens wait to be read")

    window.page.locator("#continue").click()
    shown = receipt(window, "Reading finished")
    assert re.search(r"1 file skipped.*photo\.bin.*binary", shown, re.DOTALL), shown
    assert window.documents() == ["novel.txt"]
    assert window.title == "novel"
    expect(window.page.locator("#continue")).to_be_hidden()


def read_more(window, tmp_path):
    """A PDF dropped, a folder of code by its path."""
    window.upload(write_pdf(tmp_path / "report.pdf"))
    assert "3 pages" in receipt(window, "1 file · 3 pages")
    window.read_path(str(write_code(tmp_path / "project")))
    window.agree(is_asked=True)
    expect(window.page.locator("#documents li")).to_have_count(5, timeout=_PATIENCE_S * 1000)
    shown = receipt(window, "2 files ·")
    assert "project/.env" in shown
    assert "project/build" in shown
    code = ["project (files)", "project/src/main.py", "project/.gitignore"]
    assert window.documents() == ["novel.txt", "report.pdf", *code]


def ask_and_see_evidence(window):
    """A whole answer, streamed, and the places it rests on."""
    window.ask("What did the prince say to the old general?")
    early = window.wait_streaming(10)
    wait_for(lambda: len(window.live_text()) > len(early), "more of the answer")
    window.wait_answers(1, _PATIENCE_S)
    assert window.evidence()
    assert all(re.search(r"novel\.txt|report\.pdf|project[/ ]", place) for place in window.evidence())
    assert any(re.search(r"lines? \d+", place) for place in window.evidence())


def stop_an_answer(window):
    """What was written until Stop is kept, in the library too."""
    window.ask("And then?")
    window.wait_streaming(30)
    window.stop()
    answer = window.wait_answers(2, _PATIENCE_S)[-1]
    assert answer.endswith("Stopped here.")
    assert len(answer) > 30
    assert window.reload().answers().count() == 2
    assert window.questions()[-1] == "And then?"


def follow_in_two_windows(window, second):
    """An answer goes on through a reload, and another window sees it too."""
    window.ask("Who came over the river?")
    early = window.wait_streaming(10)
    window.reload()
    assert len(window.wait_streaming(len(early))) >= len(early)
    second.wait_streaming(10)
    assert window.wait_answers(3, _PATIENCE_S) == second.wait_answers(3, _PATIENCE_S)
    assert window.questions() == second.questions()
    assert window.evidence() == second.evidence()


@contextmanager
def windows(browser, program):
    """Yields a browser context of its own, and what was wrong in it so far."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    watch = Watch(f"http://127.0.0.1:{program.port}/")
    watch.on(context)
    try:
        yield context, watch.faults
    finally:
        context.close()


def test_read_ask_stop_reload_kill_restart_and_resume(program, browser, tmp_path):
    with program.running() as (process, served), windows(browser, program) as (context, faults):
        window = Window(context.new_page(), served).open(token=True)
        read_stop_and_continue(window, tmp_path)
        read_more(window, tmp_path)
        ask_and_see_evidence(window)
        stop_an_answer(window)
        second = Window(context.new_page(), served).open("novel")
        follow_in_two_windows(window, second)
        second.page.close()
        before = program.session("novel")
        assert before.position == before.num_tokens

        window.upload(write_book(tmp_path / "sequel.txt", 120))
        wait_for(lambda: program.session("novel").position > before.position, "the first part to be saved", _PATIENCE_S)
        assert faults == []
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=20)

    cut = program.session("novel")
    assert before.position < cut.position < cut.num_tokens
    with program.running() as (process, served), windows(browser, program) as (context, faults):
        window = Window(context.new_page(), served).open("novel", token=True)
        assert window.answers().count() == 3
        expect(window.page.locator("#notice")).to_contain_text("The reading was interrupted")
        window.page.locator("#continue").click()
        shown = receipt(window, "Reading finished")
        assert 0 < number_before("tokens read", shown) <= cut.num_tokens - cut.position
        assert number_before("known already", shown) >= cut.position
        assert window.documents()[-1] == "sequel.txt"

        window.ask("What fell?")
        window.wait_streaming(10)
        window.stop()
        window.wait_answers(4, _PATIENCE_S)
        cost = window.page.locator("#cost").inner_text()
        assert number_before("remembered", cost) == cut.num_tokens
        assert number_before("read", cost) < 64
        assert faults == []
