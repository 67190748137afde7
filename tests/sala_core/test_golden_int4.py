"""The golden GPTQ checkpoint with its matrices left packed, through the Triton kernels."""

import os
from functools import partial

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: it decides when a kernel is defined

from safetensors.torch import load_file
from sala_kernels import Int4Matrix, int4_linear, int4_swiglu
from sala_kernels.backend import has_triton
from sala_kernels.int4_linear import kernels_decode

import sala_core.model as model_module
from sala_core import Engine
from sala_core.checkpoint import load_config_json, load_weights
from sala_core.config import SalaConfig
from sala_core.model import SalaModel

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not has_triton(), reason="Triton is not installed on this platform"),
]


SPLIT = [1, 6, 270, 23]
"""One row, one tile, more rows than are unpacked in the kernel, several tiles; no block is chosen yet."""


def test_packed_matrices_give_the_golden_logits(shared, monkeypatch):
    """Of a sparse and a lightning layer: all eight would take the interpreter a minute."""
    folder = shared / "golden" / "tiny-sala-gptq"
    monkeypatch.setattr(model_module, "int4_linear", partial(int4_linear, backend="triton"))
    monkeypatch.setattr(model_module, "int4_swiglu", partial(int4_swiglu, backend="triton"))
    monkeypatch.setattr(kernels_decode, "_FEW_OUTPUTS", 0)
    config = SalaConfig.from_dict(load_config_json(folder))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    load = partial(load_weights, folder, config, dtype=torch.float32, device=device)
    packed, plain = load(packed=True), load(packed=False)
    layers = ("model.layers.0.", "model.layers.1.")
    mixed = {name: (packed if name.startswith(layers) else plain)[name] for name in plain}
    assert sum(isinstance(weight, Int4Matrix) for weight in mixed.values()) == 16
    model = Engine(SalaModel(config, mixed), name="packed")
    expected = load_file(folder / "expected.safetensors")
    ids = expected["ids"][: sum(SPLIT)]
    state = model.new_state()
    logits = torch.cat([model.forward(state, piece) for piece in ids.split(SPLIT)])
    reference = Engine(SalaModel(config, plain), name="plain")
    torch.testing.assert_close(logits, reference.forward(reference.new_state(), ids), rtol=0, atol=1e-4)
    assert torch.equal(logits.argmax(-1).cpu(), expected["argmax"][: len(ids)])
