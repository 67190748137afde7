"""The golden checkpoints with every operation computed by its Triton kernel, also with packed matrices."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: it decides when a kernel is defined

from safetensors.torch import load_file
from sala_kernels import Int4Matrix, has_triton

from sala_core.model.checkpoint import load_config_json, load_weights
from sala_core.model.config import SalaConfig
from sala_core.model.forward import AttentionTrace, SalaModel

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(not has_triton(), reason="Triton is not installed on this platform"),
]
SPLIT = [29, 1, 2]
"""Pieces of the last 32 of 1,500 tokens, all of which choose blocks: over the edge of a block, one token, two."""
PACKED = ("model.layers.0.", "model.layers.1.")
"""A sparse and a lightning layer. Packed matrices in all eight layers would take the interpreter minutes."""


@pytest.mark.parametrize("name", ["tiny-sala", "tiny-sala-gptq"])
def test_the_kernels_continue_a_golden_state_as_the_reference_does(shared, name):
    """`test_golden` compares the reference itself with the golden logits, choices and states."""
    folder = shared / "golden" / name
    config = SalaConfig.from_dict(load_config_json(folder))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    weights = {
        packed: load_weights(folder, config, dtype=torch.float32, device=device, packed=packed)
        for packed in (False, True)
    }
    partly_packed = {**weights[False], **{key: weights[True][key] for key in weights[True] if key.startswith(PACKED)}}
    assert any(isinstance(weight, Int4Matrix) for weight in partly_packed.values()) == name.endswith("gptq")
    models = {
        "reference": SalaModel(config, weights[False], backend="reference"),
        "triton": SalaModel(config, partly_packed, backend="triton"),
    }
    ids = load_file(folder / "expected.safetensors")["ids"].to(device)
    start = models["reference"].new_state()
    models["reference"].prefill(start, ids[: -sum(SPLIT)])
    found = {}
    for kind, model in models.items():
        state, trace, logits, chosen = start.clone(), AttentionTrace(), [], []
        for piece in ids[-sum(SPLIT) :].split(SPLIT):
            choices = {}
            logits.append(model.logits(model.prefill(state, piece, choices=choices, trace=trace)))
            chosen += [blocks.sort(-1).values for _, blocks in sorted(choices.items())]
        logits.append(model.logits(model.prefill(state, ids[:5], last_only=True)))
        found[kind] = (torch.cat(logits), chosen, state, trace)

    (logits, chosen, state, trace), (expected, blocks, end, mass) = found["triton"], found["reference"]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(chosen, blocks, strict=True))
    for layer in config.lightning_layers:
        torch.testing.assert_close(state.linear[layer], end.linear[layer], rtol=1e-4, atol=1e-4)
    for layer in config.sparse_layers:
        torch.testing.assert_close(state.sparse[layer].keys, end.sparse[layer].keys, rtol=0, atol=1e-4)
        torch.testing.assert_close(trace.mass[layer], mass.mass[layer], rtol=1e-3, atol=1e-3)
