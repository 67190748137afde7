"""The copying circuit in the initial weights works before any training."""

from dataclasses import replace

import pytest
import torch

from sala_core.errors import TrainError
from sala_core.train.network.copying import initialize_copying
from sala_core.train.network.network import Network
from sala_core.train.network.structure import scratch_config
from sala_core.train.recipe import read_recipe


@pytest.fixture(scope="module")
def config(toy):
    return scratch_config(read_recipe(toy.parent / "embedded.toml"))


def initialized(config, seed=0):
    network = Network(config)
    initialize_copying(network, torch.Generator().manual_seed(seed))
    return network


def first_and_repeated(network):
    """Mean log-probability and median rank of the target, in the first occurrence of a run and in its repeats."""
    tokens = 64
    ids = torch.randint(5, network.config.vocab_size, (tokens,), generator=torch.Generator().manual_seed(1)).repeat(4)
    with torch.no_grad():
        log_probs = network.logits(ids[None, :-1])[0].log_softmax(-1)
    right = log_probs.gather(1, ids[1:, None])
    ranks = (log_probs > right).sum(1).float()
    return [(right[part].mean(), ranks[part].median()) for part in (slice(0, tokens - 1), slice(tokens + 2, None))]


CHANGES = {
    "as the recipe has it": {},
    "untied, without norms on q and k, one kv head": {
        "tie_word_embeddings": False, "attn_qk_norm": False, "num_key_value_heads": 1,
    },
    "heads of other sizes": {"num_attention_heads": 2, "head_dim": 96, "lightning_nh": 4, "lightning_nkv": 4},
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_repeated_tokens_are_predicted_at_step_0(config, name):
    (first, first_rank), (repeated, repeated_rank) = first_and_repeated(initialized(replace(config, **CHANGES[name])))
    assert first_rank > 2000
    assert repeated_rank < 500
    assert repeated > first + 0.5


def test_the_seed_decides_the_weights(config):
    small = replace(config, hidden_size=64, vocab_size=300)
    a, b, other = (initialized(small, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"mixer_types": ("lightning-attn", *("minicpm4",) * 5)}, "layer 1"),
        ({"mixer_types": ("lightning-attn",) * 6}, "softmax layer after"),
        ({"lightning_nkv": 4}, "its own key"),
        ({"lightning_use_rope": False}, "rotary"),
    ],
)
def test_architectures_that_cannot_hold_the_circuit_are_refused(config, changes, word):
    with pytest.raises(TrainError, match=word):
        initialized(replace(config, **changes))
