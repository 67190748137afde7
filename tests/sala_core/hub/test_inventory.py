"""What is here, what can be had, and what fits: without a network."""

import json
import shutil
from dataclasses import replace
from math import prod

import pytest
from local_hub import MODEL

from sala_core.errors import DeviceError, HubConnectionError
from sala_core.hub import transfer
from sala_core.hub.download import download
from sala_core.hub.fit import Machine, fit, size_of_config, size_of_folder, this_machine
from sala_core.hub.inventory import available_models, local_models
from sala_core.model.checkpoint import EMBEDDED, expected_shapes, resolve_model
from sala_core.model.config import SalaConfig
from sala_core.model.known_models import KNOWN_MODELS, known_model

WEIGHTS = "model.safetensors"
CPU = Machine(device="cpu", name="CPU", total_bytes=64 << 30, free_bytes=48 << 30, note="")


def card(mebibytes):
    return Machine(device="cuda", name="card", total_bytes=mebibytes << 20, free_bytes=mebibytes << 20, note="")


def quiet(event):
    pass


def listed(*names):
    return {model.name: model for model in local_models(CPU, names, kv="auto")}


def test_the_figures_of_known_models_follow_from_their_configs():
    for model in KNOWN_MODELS:
        count = sum(prod(shape) for shape in expected_shapes(model.config).values())
        assert (model.num_parameters, model.num_bytes) == (count, 2 * count)
    assert known_model("OpenBMB/minicpm-sala") is KNOWN_MODELS[0]
    assert known_model("openbmb/other") is None


@pytest.mark.parametrize(
    ("mebibytes", "kv", "low", "high"),
    [
        (8188, "int8", 84_000, 95_000),
        (12282, "int8", 930_000, 960_000),
        (16376, "int8", 1_600_000, 1_750_000),
        (24564, "bf16", 1_800_000, 1_900_000),
        (32607, "bf16", 2_097_152, 2_097_152),
    ],
)
def test_the_longest_text_of_the_9b_model_in_int4_is_what_the_readme_promises(mebibytes, kv, low, high):
    machine = card(mebibytes)
    found = fit(size_of_config(KNOWN_MODELS[0].config, machine, int4=True), machine)
    assert found.kv == kv
    assert low <= found.max_tokens <= high
    assert found.needed_bytes <= machine.usable_bytes
    assert found.weights_bytes == pytest.approx(6.6e9, rel=0.01)


def test_a_model_that_does_not_fit_says_what_it_would_need():
    found = fit(size_of_config(KNOWN_MODELS[0].config, card(8188), int4=False), card(8188))
    assert found.max_tokens == 0
    assert found.needed_bytes > found.weights_bytes > 18e9


def test_the_size_counted_from_a_config_is_that_of_the_files(make_model):
    folder = make_model()
    config = SalaConfig.from_dict(json.loads((folder / "config.json").read_text()))
    assert size_of_folder(folder, config, "bfloat16", CPU) == size_of_config(config, CPU, int4=False)


@pytest.mark.parametrize(("gibibytes", "low", "high"), [(8, 0, 0), (12, 100_000, 400_000), (16, 500_000, 900_000)])
def test_a_cpu_with_16_gib_reads_with_the_9b_model_in_int4(gibibytes, low, high):
    """A fifth of the memory is taken by the system and other programs."""
    machine = replace(CPU, total_bytes=gibibytes << 30, free_bytes=(gibibytes << 30) * 4 // 5)
    found = fit(size_of_config(KNOWN_MODELS[0].config, machine, int4=True), machine)
    assert low <= found.max_tokens <= high
    assert found.weights_bytes == pytest.approx(6.84e9, rel=0.01)
    assert fit(size_of_config(KNOWN_MODELS[0].config, machine, int4=False), machine).max_tokens == 0


def test_a_cpu_counts_the_int4_weights_of_a_small_model_dequantized_and_a_card_packed():
    folder = resolve_model(EMBEDDED)
    embedded = SalaConfig.from_dict(json.loads((folder / "config.json").read_text()))
    on_card, on_cpu = (size_of_folder(folder, embedded, "bfloat16", machine) for machine in (card(8188), CPU))
    assert on_card.packed
    assert not on_cpu.packed
    assert on_card.weights_bytes < on_cpu.weights_bytes


def test_this_machine_without_a_card_is_its_cpu():
    machine = this_machine("cpu")
    assert (machine.device, machine.note) == ("cpu", "")
    assert 0 < machine.usable_bytes < machine.total_bytes
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        this_machine("tpu")


def test_the_embedded_model_is_always_here():
    (model,) = listed().values()
    assert (model.name, model.status, model.format, model.num_parameters) == (
        "embedded", "complete", "int4 GPTQ", 6_296_320,
    )  # fmt: skip
    assert model.tokenizer == "BPE, 8,192 tokens"
    assert model.num_bytes > 7e6
    assert model.fit.max_tokens > 1e6


def test_downloads_complete_and_cut_are_listed_and_others_in_the_cache_are_not(hub, small_model, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "_WAIT_S", 0.0)
    download(MODEL, report=quiet)
    hub.add("org/cut", small_model)
    hub.cut_after = [4_000_000] + [0] * 10
    with pytest.raises(HubConnectionError):
        download("org/cut", report=quiet)
    foreign = tmp_path / "cache" / "models--org--bert" / "snapshots" / ("0" * 40)
    foreign.mkdir(parents=True)
    (foreign / "config.json").write_text(json.dumps({"model_type": "bert"}))
    hub.requests = []
    found = listed(MODEL)
    assert list(found) == ["embedded", "org/cut", MODEL]
    assert (found[MODEL].status, found[MODEL].source, found[MODEL].problem) == ("complete", "cache", "")
    cut = found["org/cut"]
    assert (cut.status, cut.fit) == ("incomplete", None)
    assert "continue with: python3 launch.py download org/cut" in cut.problem
    assert cut.num_bytes > 3 << 20
    assert hub.requests == []
    (available,) = available_models(CPU, found.values(), kv="auto")
    assert not available.is_here


def test_folders_that_are_incomplete_unusable_or_gone_are_listed_with_the_reason(tmp_path, root):
    whole = tmp_path / "whole"
    shutil.copytree(root / "assets" / "embedded", whole)
    cut, lacking, other, empty = (tmp_path / name for name in ("cut", "lacking", "other", "empty"))
    shutil.copytree(whole, cut)
    (cut / WEIGHTS).write_bytes((cut / WEIGHTS).read_bytes()[:5_000_000])
    shutil.copytree(whole, lacking)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (lacking / WEIGHTS).rename(lacking / "model-1.safetensors")
    (lacking / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    shutil.copytree(whole, other)
    (other / "config.json").write_text(json.dumps({"model_type": "llama"}))
    empty.mkdir()
    names = [str(folder) for folder in (whole, other, cut, lacking, empty, tmp_path / "gone")]
    found = listed(*names, str(whole))
    incomplete = ["incomplete"] * 3
    assert [found[name].status for name in names] == ["complete", "unusable", *incomplete, "missing"]
    assert "lacks the shard model-2" in found[str(lacking)].problem
    assert "damaged or cut short" in found[str(cut)].problem
    assert "'llama'" in found[str(other)].problem
    assert all(model.fit is None for name, model in found.items() if name in names[1:])
