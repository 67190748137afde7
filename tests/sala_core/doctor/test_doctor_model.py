"""What is wrong with a model's files or with what it computes is found, and named."""

import hashlib
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from sala_core.assets import ASSETS
from sala_core.doctor.checks.answers import Answers
from sala_core.doctor.checks.answers import answers as answers_of
from sala_core.doctor.checks.checkpoint import checkpoint
from sala_core.doctor.checks.models import examined_model, reason_not_to_run
from sala_core.doctor.checks.tokenizer import TEXTS, tokenizer
from sala_core.engine.engine import Engine
from sala_core.errors import ModelError
from sala_core.model import hub_cache, packing
from sala_core.model.checkpoint import load_config_json, resolve_model, weight_bytes
from sala_core.model.config import SalaConfig
from sala_core.model.known_models import KNOWN_MODELS


@pytest.fixture
def model(random_model, tmp_path):
    """A model that a test may damage."""
    return shutil.copytree(random_model, tmp_path / "model")


@pytest.fixture
def check(examination, model):
    """check(function, **changes) runs a check of one outcome on the model."""

    def run(function, **changes):
        (outcome,) = function(replace(examination, model=str(model), **changes))
        return outcome

    return run


def test_a_whole_checkpoint_is_right(check, model):
    outcome = check(checkpoint, quick=False)
    assert outcome.status == "ok"
    assert outcome.figures["tensors"] == len(load_file(model / "model.safetensors"))
    assert outcome.figures["model"] == "<model>"
    assert "0 of them with the checksum of the hub" in outcome.figures["files read whole"]


def test_the_packed_weights_of_the_embedded_model_are_right(examination):
    (outcome,) = checkpoint(examination)
    assert outcome.status == "ok"


def change(model, edit):
    """Change the tensors of a model."""
    tensors = load_file(model / "model.safetensors")
    edit(tensors)
    save_file(tensors, model / "model.safetensors")


def test_missing_wrong_and_unknown_tensors_are_named(check, model):
    def edit(tensors):
        del tensors["model.layers.1.mlp.up_proj.weight"]
        tensors["model.norm.weight"] = torch.ones(65)
        tensors["model.layers.0.mlp.extra.weight"] = torch.ones(2)

    change(model, edit)
    outcome = check(checkpoint)
    assert outcome.status == "failed"
    for part in (
        "model.layers.1.mlp.up_proj.weight is missing",
        "model.norm.weight has shape [65], the config asks for [64]",
        "model.layers.0.mlp.extra.weight is not a tensor",
    ):
        assert part in outcome.reason
    assert "get or make the checkpoint again" in outcome.advice


def test_a_packed_matrix_of_another_shape_is_found(examination, tmp_path):
    model = shutil.copytree(ASSETS / "embedded", tmp_path / "packed")

    def edit(tensors):
        name = next(name for name in tensors if name.endswith(".qweight"))
        tensors[name] = tensors[name][:-1].contiguous()

    change(model, edit)
    (outcome,) = checkpoint(replace(examination, model=str(model)))
    assert ".qweight has shape" in outcome.reason


def test_a_file_that_is_cut_short_is_found(check, model):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    outcome = check(checkpoint)
    assert outcome.status == "failed"
    assert "model.safetensors is damaged or cut short" in outcome.reason


def test_a_changed_byte_is_found_where_the_hub_left_a_checksum(check, model):
    file = model / "model.safetensors"
    content = file.read_bytes()
    metadata = model / ".cache" / "huggingface" / "download" / "model.safetensors.metadata"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"{'0' * 40}\n{hashlib.sha256(content).hexdigest()}\n1700000000.0\n")
    whole = check(checkpoint, quick=False)
    assert whole.status == "ok"
    assert "1 of them with the checksum of the hub" in whole.figures["files read whole"]
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "model.safetensors: its bytes are not the published ones" in check(checkpoint, quick=False).reason
    assert check(checkpoint).status == "ok", "a quick examination does not read whole files"


def test_a_model_that_is_not_there_is_an_error_with_advice(examination):
    with pytest.raises(ModelError, match="py download"):
        list(checkpoint(replace(examination, model="openbmb/none")))


def test_every_difficult_text_comes_back(check):
    outcome = check(tokenizer)
    assert outcome.status == "ok"
    assert outcome.figures["texts"] == len(TEXTS)


def test_a_tokenizer_that_changes_texts_is_found(check, model):
    file = model / "tokenizer.json"
    description = json.loads(file.read_text(encoding="utf-8"))
    description["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(description), encoding="utf-8")
    outcome = check(tokenizer)
    assert outcome.status == "failed"
    assert "English: character 0: 'The carr' became 'the carr'" in outcome.reason
    assert "emoji" not in outcome.reason


def test_a_model_too_large_for_the_memory_of_a_cpu_needs_a_card(examination):
    config = KNOWN_MODELS[0].config
    huge = replace(config, num_hidden_layers=3200, mixer_types=config.mixer_types * 100)
    assert "needs a card" in reason_not_to_run(huge, examination)


def test_int4_weights_that_stay_packed_count_packed(examination, random_model, monkeypatch):
    """A model whose plain weights do not fit, and whose packed ones do."""
    folder = resolve_model("embedded")
    config = SalaConfig.from_dict(load_config_json(folder))
    needed = weight_bytes(folder, config, dtype=torch.bfloat16, packed="cpu")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=needed * 5 // 4 + 10))
    assert "needs a card" in reason_not_to_run(config, examination, folder)
    monkeypatch.setattr(packing, "MIN_PACKED_PARAMETERS", 0)
    assert reason_not_to_run(config, examination, folder) == ""
    assert "needs a card" in reason_not_to_run(config, examination)


@pytest.fixture
def downloaded(random_model, tmp_path, monkeypatch):
    """The folder of the published model in the hub's cache, with other files under its name."""
    repository = tmp_path / "hub" / "models--openbmb--MiniCPM-SALA"
    folder = shutil.copytree(random_model, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr(hub_cache, "cache_root", lambda: tmp_path / "hub")
    return folder


def test_a_downloaded_model_is_examined_without_being_asked_for(examination, downloaded):
    (outcome,) = checkpoint(examination)
    assert outcome.figures["model"] == KNOWN_MODELS[0].name
    assert outcome.figures["parameters by the config"] < 10_000_000
    assert examined_model(replace(examination, model="acme/other")) == "acme/other"
    (downloaded / "config.json").unlink()
    assert examined_model(examination) == "embedded", "a part of a download is no model"


def test_where_a_model_needs_a_card_the_embedded_one_answers_unless_it_was_asked_for(examination, downloaded):
    file = downloaded / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"hidden_size": 1 << 17, "intermediate_size": 1 << 20, "dim_model_base": 1 << 17}
    file.write_text(json.dumps(config), encoding="utf-8")
    outcomes = list(answers_of(replace(examination, model=KNOWN_MODELS[0].name)))
    assert [(outcome.name, outcome.status) for outcome in outcomes] == [
        ("perplexity", "not possible here"),
        ("greedy tokens", "not possible here"),
        ("needle", "not possible here"),
    ]
    assert "needs a card" in outcomes[0].reason
    outcomes = list(answers_of(examination))
    assert [outcome.status for outcome in outcomes] == ["ok"] * 3
    assert all(outcome.figures["model"] == "embedded" for outcome in outcomes)
    assert "with the embedded model; openbmb/MiniCPM-SALA needs a card" in outcomes[0].reason


@pytest.fixture(scope="module")
def answers(random_model):
    """The checks of a model with random weights."""
    return Answers(Engine.load(random_model, device="cpu"), quick=True)


def test_weights_that_belong_to_nothing_are_found_by_perplexity_and_needle(answers):
    perplexity = answers.perplexity()
    assert perplexity.status == "failed"
    assert "no better than guessing" in perplexity.reason
    needle = answers.needle()
    assert needle.status == "failed"
    assert "planted number" in needle.reason


def test_greedy_tokens_are_thirty_and_the_same_twice(answers):
    outcome = answers.greedy_tokens()
    assert outcome.status == "ok"
    assert outcome.figures["tokens"].count(",") == 29
    assert outcome.text


def test_weights_with_nan_are_found(model):
    change(model, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"].fill_(float("nan")))
    answers = Answers(Engine.load(model, device="cpu"), quick=True)
    for outcome in (answers.perplexity(), answers.greedy_tokens()):
        assert (outcome.status, outcome.reason) == ("failed", "logits are not finite")
