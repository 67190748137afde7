"""Small random models, and fixtures for the tests of sessions and of the workspace."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sala_core import Engine
from sala_core.events import ReadReceipt
from sala_core.model.checkpoint import EMBEDDED, expected_shapes, resolve_model
from sala_core.model.config import SalaConfig
from sala_core.session import stream
from sala_core.session.session import Session
from sala_core.store import Library

sys.path.append(str(Path(__file__).resolve().parent))

from reading_helpers import SEGMENT_TOKENS, last, text_of
from scripted_model import QWEN
from small_models import SMALL, VARIANTS

MakeModel = Callable[..., Path]


def random_weights(config: SalaConfig, seed: int) -> dict[str, torch.Tensor]:
    """Weights that keep activations near 1, so that block scores differ by clear margins."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in expected_shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        weights[name] = 1 + 0.1 * noise if len(shape) == 1 else noise * shape[1] ** -0.5
    weights["model.embed_tokens.weight"] *= config.hidden_size**0.5 / config.scale_emb
    return weights


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """make_model(seed=0, tokenizer=False, **changes_of_SMALL) writes a model folder and returns its path."""

    def make(*, seed: int = 0, tokenizer: bool = False, **changes: object) -> Path:
        folder = tmp_path_factory.mktemp("model")
        raw = SMALL | changes
        if tokenizer:
            for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
                shutil.copy(resolve_model(EMBEDDED) / name, folder)
            raw |= {"vocab_size": 8192}
        (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
        save_file(random_weights(SalaConfig.from_dict(raw), seed), folder / "model.safetensors")
        return folder

    return make


@pytest.fixture(scope="session", params=list(VARIANTS))
def engine(request: pytest.FixtureRequest, make_model: MakeModel) -> Engine:
    """An engine in float32, for each of VARIANTS."""
    return Engine.load(make_model(**VARIANTS[request.param]), dtype="float32")


@pytest.fixture(scope="session")
def small_engine(make_model: MakeModel) -> Engine:
    """One small model in float32, without a tokenizer."""
    return Engine.load(make_model(), dtype="float32")


@pytest.fixture(scope="session")
def talking_engine(make_model: MakeModel) -> Engine:
    """One small model in float32 with the embedded model's tokenizer and template."""
    return Engine.load(make_model(tokenizer=True), dtype="float32")


@pytest.fixture(scope="session")
def ids() -> torch.Tensor:
    """330 tokens in the vocabulary of every small model. Their block scores differ by clear margins."""
    return torch.randint(97, (330,), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def thinker(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The random model with a chat template that knows thinking."""
    folder = tmp_path_factory.mktemp("thinker") / "model"
    shutil.copytree(random_model, folder)
    (folder / "chat_template.jinja").write_text(QWEN)
    return Engine.load(folder, dtype="float32")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Run on one thread: the tensors are so small that a second thread slows them down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def session_engine(random_model: Path) -> Iterator[Engine]:
    """The random model in float32, on one thread because the tests compare states bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine.load(random_model, dtype="float32")
    torch.set_num_threads(threads)


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """One segment per chunk, and a permanent snapshot for every second segment."""
    monkeypatch.setattr(stream, "SEGMENT_TOKENS", SEGMENT_TOKENS)
    monkeypatch.setattr(stream, "SNAPSHOT_TOKENS", 2 * SEGMENT_TOKENS)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """An empty library."""
    with Library.open(tmp_path / "library") as opened:
        yield opened


@pytest.fixture
def open_library(tmp_path: Path) -> Iterator[Callable[..., Library]]:
    """open_library(name) opens a library, also a second time. All are closed after the test."""
    opened: list[Library] = []

    def open_named(name: str, **options: Any) -> Library:
        opened.append(Library.open(tmp_path / name, **options))
        return opened[-1]

    yield open_named
    for each in opened:
        each.close()


@pytest.fixture
def write_book(tmp_path: Path) -> Callable[..., Path]:
    """write_book(name, num_lines, seed) writes a text file. Every seed gives other lines."""

    def write(name: str = "book.txt", num_lines: int = 120, seed: int = 0) -> Path:
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(num_lines, seed), encoding="utf-8")
        return path

    return write


@pytest.fixture
def read(session_engine: Engine) -> Callable[..., ReadReceipt]:
    """read(library, name, *paths) reads files into a session, closes it and returns the receipt."""

    def read_into(library: Library, name: str, *paths: Path) -> ReadReceipt:
        with Session.open(library, session_engine, name, create=True) as session:
            return last(session.read(paths))

    return read_into
