"""The layer in steps computes the same as the model's layer."""

import pytest
import torch

from sala_core.quantize.layer import Layer, dense_tokens
from sala_core.quantize.plan import layer_prefix


def test_layers_in_steps_equal_the_model(engine, ids):
    """For every model variant (heads, gates, rotary, norms, decay, scales), on a batch of texts."""
    config, model = engine.config, engine.model
    length = min(dense_tokens(config), 96)
    texts = ids[: 2 * length].view(2, length)
    h = model.weights["model.embed_tokens.weight"][texts] * config.scale_emb
    for index in range(config.num_hidden_layers):
        prefix = layer_prefix(index)
        weights = {name.removeprefix(prefix): w for name, w in model.weights.items() if name.startswith(prefix)}
        layer = Layer(config, index, weights)
        after = layer.forward(h)
        mixed = layer.add_mixed(h, layer.mix(layer.mixer_input(h)))
        assert torch.equal(layer.add_mlp(mixed, layer.mlp_hidden(layer.mlp_input(mixed))), after)
        h = after
    for text, found in zip(texts, h, strict=True):
        torch.testing.assert_close(found, model.prefill(model.new_state(), text), rtol=2e-4, atol=2e-4)


def test_dense_tokens_is_the_longest_length_without_block_selection(small_engine):
    model, longest = small_engine.model, dense_tokens(small_engine.config)
    for length, chosen in ((longest, 0), (longest + 1, 2)):
        choices = {}
        model.prefill(model.new_state(), torch.arange(length) % 97, choices=choices)
        assert len(choices) == chosen


def test_a_layer_uses_weights_that_are_replaced_between_steps(small_engine):
    model = small_engine.model
    prefix = layer_prefix(0)
    weights = {name.removeprefix(prefix): w for name, w in model.weights.items() if name.startswith(prefix)}
    layer = Layer(small_engine.config, 0, dict(weights))
    h = torch.randn(1, 8, small_engine.config.hidden_size)
    before = layer.forward(h)
    layer.weights["mlp.down_proj.weight"] = torch.zeros_like(weights["mlp.down_proj.weight"])
    assert torch.equal(layer.forward(h), layer.add_mixed(h, layer.mix(layer.mixer_input(h))))
    assert not torch.equal(before, layer.forward(h))


@pytest.mark.parametrize("length", [1, 2, 63, 65])
def test_any_length_works(small_engine, length):
    model = small_engine.model
    prefix = layer_prefix(1)
    weights = {name.removeprefix(prefix): w for name, w in model.weights.items() if name.startswith(prefix)}
    out = Layer(small_engine.config, 1, weights).forward(torch.randn(3, length, small_engine.config.hidden_size))
    assert out.shape == (3, length, small_engine.config.hidden_size)
    assert torch.isfinite(out).all()
