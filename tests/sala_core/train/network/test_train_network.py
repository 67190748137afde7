"""The trained network computes the same as the engine, in every architecture."""

from dataclasses import replace

import pytest
import torch

from sala_core.engine.engine import Engine
from sala_core.model.checkpoint import EMBEDDED, resolve_model
from sala_core.model.config import SalaConfig, SparseConfig
from sala_core.model.forward import SalaModel
from sala_core.train.network.network import Network
from sala_core.train.network.structure import DENSE, convert_tensors, hybrid_config, place_layers
from sala_core.train.recipe import Hybrid
from sala_core.train.run import load_network

SPARSE = SparseConfig(kernel_size=8, kernel_stride=4, block_size=8, window_size=16, init_blocks=1, topk=3)
HYBRID = SalaConfig(
    vocab_size=120, hidden_size=48, intermediate_size=64, num_hidden_layers=4, num_attention_heads=6,
    num_key_value_heads=2, head_dim=8, lightning_nh=6, lightning_nkv=6, lightning_head_dim=8, dim_model_base=24,
    mixer_types=("minicpm4", "lightning-attn", "lightning-attn", "minicpm4"), sparse_config=SPARSE,
)  # fmt: skip
BACKBONE = replace(
    HYBRID, mixer_types=("minicpm4",) * 4, attn_use_rope=True, attn_use_output_gate=False, sparse_config=DENSE
)
VARIANTS = {
    "hybrid": HYBRID,
    "backbone": BACKBONE,
    "backbone with norms on q and k": replace(BACKBONE, attn_qk_norm=True),
    "hybrid with norms on all q and k": replace(HYBRID, attn_qk_norm=True),
    "rotary everywhere": replace(HYBRID, attn_use_rope=True),
    "rotary nowhere": replace(HYBRID, lightning_use_rope=False),
    "without gates": replace(HYBRID, attn_use_output_gate=False, use_output_gate=False),
    "without norms": replace(HYBRID, qk_norm=False, use_output_norm=False),
    "shared lightning heads, tied": replace(HYBRID, lightning_nkv=3, tie_word_embeddings=True),
    "lightning heads of another size": replace(HYBRID, lightning_nh=4, lightning_nkv=4, lightning_head_dim=6),
    "lightning alone": replace(HYBRID, mixer_types=("lightning-attn",) * 4),
}


def random_network(config, seed=0):
    network = Network(config)
    network.initialize(torch.Generator().manual_seed(seed), std=0.3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return network


def engine_of(network):
    weights = {name: weight.detach() for name, weight in network.state_dict().items()}
    return Engine(SalaModel(network.config, weights), name="trained")


@pytest.mark.parametrize("name", VARIANTS)
def test_engine_and_network_agree(name):
    network = random_network(VARIANTS[name])
    network.sparse = True
    ids = torch.randint(120, (150,), generator=torch.Generator().manual_seed(1))
    engine = engine_of(network)
    with torch.no_grad():
        logits = network.logits(ids[None])[0]
    torch.testing.assert_close(engine.forward(engine.new_state(), ids), logits, rtol=1e-3, atol=1e-3)
    if "minicpm4" in network.config.mixer_types and network.config.sparse_config is SPARSE:
        network.sparse = False
        with torch.no_grad():
            dense = network.logits(ids[None])[0]
        assert (dense[:40] - logits[:40]).abs().max() < 1e-3
        assert (dense[80:] - logits[80:]).abs().max() > 1e-3  # blocks were selected


def test_the_network_of_the_embedded_model_computes_the_same_as_the_engine():
    network, engine = load_network(resolve_model(EMBEDDED)), Engine.load(EMBEDDED, dtype="float32")
    ids = engine.tokenizer.encode_content("It was the best of times, it was the worst of times. " * 12)
    ids = torch.as_tensor(ids[: len(ids) // 64 * 64])
    with torch.no_grad():
        logits = network.logits(ids.long()[None])[0]
    torch.testing.assert_close(engine.forward(engine.new_state(), ids), logits, rtol=1e-3, atol=1e-3)


def test_recomputing_activations_changes_no_gradient():
    network, ids = random_network(HYBRID), torch.randint(120, (2, 70))
    gradients = []
    for network.recompute in (False, True):
        network.zero_grad()
        network.logits(ids).square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_mup_scales_only_the_matrices_of_layers():
    network = Network(replace(HYBRID, hidden_size=96, dim_model_base=24))
    network.initialize(torch.Generator().manual_seed(0), std=0.1)
    std = {name: p.std().item() for name, p in network.named_parameters() if p.ndim == 2}
    assert std["model.embed_tokens.weight"] == pytest.approx(0.1, rel=0.05)
    assert std["lm_head.weight"] == pytest.approx(0.1, rel=0.05)
    assert std["model.layers.1.mlp.up_proj.weight"] == pytest.approx(0.05, rel=0.05)


def test_a_converted_softmax_layer_computes_the_same():
    """New gates halve the output and the output matrix is doubled. With rotary everywhere nothing else changes."""
    backbone = random_network(BACKBONE)
    config = hybrid_config(BACKBONE, Hybrid(rotary="everywhere", sparse_config=SPARSE), range(4))
    hybrid = Network(config)
    hybrid.load_state_dict(convert_tensors(backbone.state_dict(), config))
    assert "model.layers.0.self_attn.o_gate.weight" in hybrid.state_dict()
    ids = torch.randint(120, (1, 60))
    with torch.no_grad():
        torch.testing.assert_close(hybrid.logits(ids), backbone.logits(ids), rtol=1e-4, atol=1e-5)


def test_lightning_mixers_start_from_the_softmax_matrices():
    backbone = random_network(replace(BACKBONE, attn_qk_norm=True)).state_dict()
    config = hybrid_config(replace(BACKBONE, attn_qk_norm=True), Hybrid(sparse_config=SPARSE), ())
    hybrid, prefix = convert_tensors(backbone, config), "model.layers.2.self_attn."
    assert set(hybrid) == set(Network(config).state_dict())
    assert torch.equal(hybrid[prefix + "q_proj.weight"], backbone[prefix + "q_proj.weight"])
    assert torch.equal(hybrid[prefix + "q_norm.weight"], backbone[prefix + "q_norm.weight"])
    k = backbone[prefix + "k_proj.weight"].view(2, 8, 48)
    for head, part in enumerate(hybrid[prefix + "k_proj.weight"].view(6, 8, 48)):
        assert torch.equal(part, k[head // 3])


def test_hype_keeps_rotary_only_in_the_lightning_layers():
    config = hybrid_config(BACKBONE, Hybrid(sparse_config=SPARSE), (0, 3))
    assert (config.attn_use_rope, config.lightning_use_rope) == (False, True)
    assert config.mixer_types == HYBRID.mixer_types


@pytest.mark.parametrize(
    ("placement", "scores", "layers"),
    [
        ("importance", [9, 1, 5, 2, 7, 0, 3, 8], (0, 4, 7)),
        ("worst", [9, 1, 5, 2, 7, 0, 3, 8], (0, 5, 7)),
        ("even", None, (0, 4, 7)),
        ((3, 1), None, (1, 3)),
    ],
)
def test_each_placement_gives_the_expected_layers(placement, scores, layers):
    assert place_layers(Hybrid(placement=placement, softmax_share=0.375), 8, scores) == layers
