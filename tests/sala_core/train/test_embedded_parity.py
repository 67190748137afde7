"""The network that is trained is the model that is shipped and run."""

import pytest
import torch
from safetensors.torch import load_file

from sala_core.checkpoint import EMBEDDED, resolve_model
from sala_core.config import SalaConfig
from sala_core.engine import Engine
from sala_core.model import SalaModel
from sala_core.train.embedded.network import EmbeddedNetwork, embedded_config
from sala_core.train.embedded.recipe import NETWORK
from sala_core.train.export import config_json

_TINY = embedded_config(
    vocab_size=300,
    hidden_size=64,
    intermediate_size=96,
    mixer_types=("minicpm4", "lightning-attn", "lightning-attn", "minicpm4"),
    num_attention_heads=4,
    head_dim=32,
    lightning_nh=4,
    lightning_head_dim=16,
    dim_model_base=32,
)


def _engine(network: EmbeddedNetwork) -> Engine:
    weights = {name: weight.detach() for name, weight in network.state_dict().items()}
    return Engine(SalaModel(SalaConfig.from_dict(config_json(network.config)), weights), name="trained")


@pytest.mark.parametrize("length", [64, 320, 1536])
def test_engine_and_network_agree_while_attention_is_dense(length):
    torch.manual_seed(length)
    network = EmbeddedNetwork(_TINY)
    ids = torch.randint(300, (length,))
    engine = _engine(network)
    with torch.no_grad():
        expected = network.logits(ids[None])[0]
    logits = engine.forward(engine.new_state(), ids)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)


def test_embedded_model_is_what_the_recipe_describes():
    network = EmbeddedNetwork(NETWORK)
    weights = load_file(resolve_model(EMBEDDED) / "model.safetensors")
    network.load_state_dict({name: weight.float() for name, weight in weights.items()})
    engine = Engine.load(EMBEDDED, dtype="float32")
    ids = engine.tokenizer.encode_content("It was the best of times, it was the worst of times. " * 12)
    ids = torch.as_tensor(ids[: len(ids) // 64 * 64])
    with torch.no_grad():
        expected = network.logits(ids.long()[None])[0]
    torch.testing.assert_close(engine.forward(engine.new_state(), ids), expected, rtol=1e-3, atol=1e-3)
