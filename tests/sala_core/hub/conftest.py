"""A hub on 127.0.0.1 with one small model, and a cache of its own for huggingface_hub."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent))

from local_hub import MODEL, Hub, running


@pytest.fixture(scope="session")
def small_model(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, and beside it files that this program does not need."""
    folder = tmp_path_factory.mktemp("served") / "model"
    shutil.copytree(root / "assets" / "embedded", folder)
    (folder / "LICENSE").write_text("Apache License 2.0\n")
    (folder / "modeling_minicpm_sala.py").write_text("raise SystemExit('never run')\n")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.json").write_text("{}")
    return folder


@pytest.fixture
def hub(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub that the library in this process talks to, with a cache in the test's folder."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    monkeypatch.delenv("HF_TOKEN", raising=False)
    with running() as hub:
        hub.add(MODEL, small_model)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        yield hub
        close_session()
