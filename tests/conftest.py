"""Fixtures that every package's tests share."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--kills N`: how often each test of crash safety kills its writer; `--flips N`: how many bits are flipped;
    `--steps N`: how many random operations are compared with a model."""
    parser.addoption("--kills", type=int, default=20, metavar="N", help="kills in each kill -9 loop (20)")
    parser.addoption("--flips", type=int, default=36, metavar="N", help="flipped bits in a library's files (36)")
    parser.addoption("--steps", type=int, default=80, metavar="N", help="random operations on a library (80)")


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep records of weight files, and what is measured, out of the user's cache folder."""
    from sala_core.model import weight_digests
    from sala_core.session.planning import measured

    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_digests, "cache_folder", lambda: folder)
        patch.setattr(measured, "cache_folder", lambda: folder / "measured")
        yield folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden checkpoints, free text and sample documents beside the repository."""
    folder = ROOT.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the folder ../shared with golden checkpoints and documents is not here")
    return folder


_RANDOM_MODEL = {
    "model_type": "minicpm_sala",
    "vocab_size": 8192,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "lightning_nh": 2,
    "lightning_nkv": 2,
    "lightning_head_dim": 32,
    "mixer_types": ["minicpm4", "lightning-attn", "minicpm4"],
    "eos_token_id": [2, 0],
    "tie_word_embeddings": False,
    "dim_model_base": 64,
    "sparse_config": {
        "kernel_size": 32,
        "kernel_stride": 16,
        "init_blocks": 1,
        "block_size": 64,
        "window_size": 128,
        "topk": 4,
    },
}
"""Attention is block-sparse from the 385th token on."""


def write_random_model(folder: Path, seed: int) -> Path:
    """Write a model with random float32 weights and the embedded model's tokenizer. Return its folder."""
    import torch
    from safetensors.torch import save_file

    from sala_core.model.checkpoint import expected_shapes
    from sala_core.model.config import SalaConfig

    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(ROOT / "assets" / "embedded" / name, folder)
    (folder / "config.json").write_text(json.dumps(_RANDOM_MODEL))
    random = torch.Generator().manual_seed(seed)
    shapes = expected_shapes(SalaConfig.from_dict(_RANDOM_MODEL))
    weights = {
        name: torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=random) * 0.1
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def lossy_model(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model with a tokenizer that lacks the bytes 0x00 to 0x07, as some published ones do."""
    folder = tmp_path_factory.mktemp("models") / "lossy"
    shutil.copytree(random_model, folder)
    description = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model, gone = description["model"], {chr(0x100 + byte) for byte in range(8)}  # GPT-2's letters for these bytes
    model["vocab"] = {text: i for text, i in model["vocab"].items() if not gone & set(text)}
    model["merges"] = [merge for merge in model["merges"] if not gone & set("".join(merge))]
    (folder / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that reads thousands of tokens a second and answers nonsense."""
    return write_random_model(tmp_path_factory.mktemp("models") / "random", seed=0)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture and tokenizer, other weights."""
    return write_random_model(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture
def environment(root: Path) -> dict[str, str]:
    """Environment variables of a Python subprocess that imports the packages."""
    path = os.pathsep.join([str(root), str(root / "kernels")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
