"""Recipes are checked when they are read, and errors name the key."""

from dataclasses import replace

import pytest

from sala_core.errors import TrainError
from sala_core.model.checkpoint import EMBEDDED, load_config_json, resolve_model
from sala_core.model.config import SalaConfig
from sala_core.train.network.structure import scratch_config
from sala_core.train.optimizers import rate_at
from sala_core.train.recipe import STAGES, Hybrid, Phase, read_recipe


def test_the_toy_recipe_has_every_stage(toy):
    recipe = read_recipe(toy)
    assert recipe.stages == STAGES
    assert [phase.length for phase in recipe.phases["long"]] == [96, 160]
    assert recipe.tokenizer.is_absolute()
    assert recipe.is_sparse("long", recipe.phases["long"][0])
    assert not recipe.is_sparse("decay", recipe.phases["decay"][0])


def test_every_recipe_of_the_program_can_be_read(toy):
    for file in sorted(toy.parent.glob("*.toml")):
        assert read_recipe(file).stages


def test_the_recipe_of_the_paper_has_its_numbers_of_tokens(toy):
    recipe = read_recipe(toy.parent / "paper.toml")
    tokens = {
        stage: [phase.steps * phase.step_tokens / 1e9 for phase in recipe.phases[stage]] for stage in recipe.phases
    }
    expected = {
        "align": [1.3],
        "stable": [314.6],
        "decay": [1006.6],
        "long": [102.2, 62.9, 50.6],
        "sft": [204.5, 213.3],
    }
    for stage, amounts in expected.items():
        assert tokens[stage] == pytest.approx(amounts, rel=0.01), stage


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("seed = 0", "sede = 0", "sede"),
        ("hidden_size = 32", "hidden = 32", "'hidden'"),
        ('optimizer = "muon"', 'optimizer = "sgd"', "'adamw', 'muon'"),
        ("warmup_steps = 1", 'warmup_steps = "1"', "warmup_steps must be int"),
        ("softmax_share = 0.5", "softmax_share = 2", "softmax_share"),
        ("learning_rate = 4e-3", "learning_rate = -1", "learning_rate must be positive"),
        ("topk = 3", "topk = 3, blocks = 1", "'blocks'"),
        ("\n[data]", "\n[date]", "date"),
        ("[backbone]", "[backbones]", "backbones"),
        ("[backbone]\nsteps = 4", "[backbone]", "lacks the key 'steps'"),
        ("seed = 0", "seed = 0 0", "not valid TOML"),
        ("seed = 0", 'seed = 0\nstart = "."', "either"),
        ("softmax_share = 0.5", 'softmax_share = 0.5\nbegin = "copying"', "without a backbone"),
        ("[align]\nsteps = 3", "[align]\nsteps = 3\nmemory_loss = 0.1", "align. does not learn the next token"),
        ("[stable]\nsteps = 2", "[stable]\nsteps = 2\nblock_loss = -0.1", "block_loss must not be negative"),
        ("save_every = 2", "save_every = 2\ntarget_share = 0.0", "target_share must be in"),
    ],
)
def test_errors_name_the_wrong_key(write_recipe, old, new, word):
    with pytest.raises(TrainError, match=word):
        read_recipe(write_recipe((old, new)))


def test_select_needs_align(write_recipe):
    with pytest.raises(TrainError, match="align"):
        read_recipe(write_recipe(stages=("backbone", "select")))


def test_an_identity_depends_on_what_is_computed_not_on_how_and_where(write_recipe, tmp_path):
    plain = read_recipe(write_recipe(name="a")).identity("stable")
    other = read_recipe(write_recipe(("save_every = 2", "save_every = 9"), name="b")).identity("stable")
    longer = read_recipe(write_recipe(("[stable]\nsteps = 2", "[stable]\nsteps = 3"), name="c"))
    assert plain == other
    assert longer.identity("stable") != plain
    moved = write_recipe(name="d").read_text().replace('texts = ["/', 'texts = ["/elsewhere/')
    (tmp_path / "e.toml").write_text(moved)
    assert read_recipe(tmp_path / "e.toml").identity("stable") == plain
    assert longer.identity("decay") == read_recipe(write_recipe(name="a")).identity("decay")


def test_settings_at_their_default_are_no_part_of_an_identity(write_recipe):
    plain = read_recipe(write_recipe(name="a"))
    for name in ("begin", "block_loss", "memory_loss", "target_share", "python_library"):
        assert name not in plain.identity("stable")
    used = read_recipe(write_recipe(("[stable]\nsteps = 2", "[stable]\nsteps = 2\nblock_loss = 0.1"), name="b"))
    assert used.identity("stable") != plain.identity("stable")
    assert used.identity("decay") == plain.identity("decay")
    library = read_recipe(write_recipe(("[data]", "[data]\npython_library = true"), name="c"))
    assert library.identity("stable") != plain.identity("stable")


def test_keys_of_model_override_the_hybrid_of_a_backbone(toy):
    config = scratch_config(read_recipe(toy.parent / "embedded.toml"))
    assert config.mixer_types == ("lightning-attn",) * 3 + ("minicpm4", "lightning-attn", "minicpm4")
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 64)
    assert (config.lightning_nh, config.lightning_nkv, config.lightning_head_dim) == (8, 8, 32)
    assert config.attn_qk_norm
    assert config.max_position_embeddings == 2097152
    shipped = SalaConfig.from_dict(load_config_json(resolve_model(EMBEDDED)))
    assert config.sparse_config.num_selected_blocks == 12
    assert config.sparse_config == shipped.sparse_config
    assert (config.attn_use_rope, config.lightning_use_rope) == (False, True)
    plain = scratch_config(replace(read_recipe(toy), hybrid=Hybrid(placement="even")))
    assert (plain.lightning_nh, plain.lightning_head_dim) == (2, 16)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "exponential"])
def test_learning_rates_warm_up_and_end_at_the_final_rate(schedule):
    phase = Phase(
        steps=11, length=1, rows=1, learning_rate=1e-2, final_learning_rate=1e-4, schedule=schedule, warmup_steps=4
    )
    rates = [rate_at(phase, step) for step in range(11)]
    assert rates[0] == pytest.approx(2e-3)
    assert max(rates) == pytest.approx(1e-2) == rates[4]
    assert rates[-1] == pytest.approx(1e-4)
    assert rates[4:] == sorted(rates[4:], reverse=True)
