"""Loading of weights from folders: the tensors, and the reason for every refusal."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from sala_kernels import Int4Matrix, int4_dequantize

from sala_core.errors import CheckpointError, ConfigError, ModelError
from sala_core.model.checkpoint import (
    expected_shapes,
    load_config_json,
    load_gptq_config,
    load_weights,
    resolve_model,
)
from sala_core.model.config import SalaConfig
from sala_core.model.gptq import GPTQConfig, dequantize, pack

RAW = {
    "model_type": "minicpm_sala", "vocab_size": 24, "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "lightning_nh": 2, "lightning_nkv": 2, "lightning_head_dim": 8,
    "mixer_types": ["minicpm4", "lightning-attn"],
}  # fmt: skip


def write_model(folder, *, file="model.safetensors", raw=RAW, seed=0):
    """Write a small random checkpoint to `folder`. Returns its tensors."""
    generator = torch.Generator().manual_seed(seed)
    shapes = expected_shapes(SalaConfig.from_dict(raw))
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(raw))
    save_file(weights, folder / file)
    return weights


def load(folder, dtype=torch.float32):
    config = SalaConfig.from_dict(load_config_json(folder))
    return load_weights(folder, config, dtype=dtype, device="cpu")


def replace_tensors(folder, changes, *, file="model.safetensors"):
    """Rewrite the checkpoint with some tensors replaced; None removes one."""
    weights = load_file(folder / file) | changes
    save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, folder / file)


def quantize(weight, config):
    """Quantize to a PackedMatrix by rounding to nearest."""
    groups = weight.shape[1] // config.group_size
    blocks = weight.reshape(weight.shape[0], groups, config.group_size)
    scales = (blocks.abs().amax(dim=2) / 7).half().float()
    q = (blocks / scales[:, :, None]).round().clamp(-8, 7) + 8
    packed = pack(q.reshape(weight.shape).int(), torch.full((groups, weight.shape[0]), 8), scales.T, config)
    return packed


@pytest.mark.parametrize("name", ["tiny-sala", "tiny-sala-gptq"])
def test_golden_checkpoints_have_exactly_the_expected_tensors(shared, name):
    folder = shared / "golden" / name
    config = SalaConfig.from_dict(load_config_json(folder))
    weights = load(folder)
    assert {key: tuple(value.shape) for key, value in weights.items()} == expected_shapes(config)
    if name == "tiny-sala":
        for key, value in load_file(folder / "model.safetensors").items():
            assert torch.equal(weights[key], value), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_cast_and_do_not_share_memory_with_the_file(tmp_path, dtype):
    stored = write_model(tmp_path)
    weights = load(tmp_path, dtype)
    with open(tmp_path / "model.safetensors", "r+b") as file:
        file.write(b"\xff" * (tmp_path / "model.safetensors").stat().st_size)
    for name, value in weights.items():
        assert torch.equal(value, stored[name].to(dtype)), name


def test_shards_are_joined(tmp_path):
    stored = write_model(tmp_path)
    names = sorted(stored)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: stored[name] for name in part}, tmp_path / file)
    (tmp_path / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    weights = load(tmp_path)
    assert all(torch.equal(weights[name], stored[name]) for name in names)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks the shard b\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "weights.bin"])
def test_index_cannot_name_files_elsewhere_or_pickles(tmp_path, name):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(CheckpointError, match="not a safetensors file beside it"):
        load(tmp_path)


def test_pickles_are_refused_with_the_reason(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        load(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.99])
def test_truncated_file_is_a_checkpoint_error(tmp_path, keep):
    write_model(tmp_path)
    file = tmp_path / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model.norm.weight": None}, r"lacks 1 tensor.*model\.norm\.weight"),
        ({"model.extra.weight": torch.ones(2)}, r"unexpected 1 tensor.*extra"),
        ({"model.norm.weight": torch.ones(17)}, r"has shape \(17,\)"),
        ({"model.norm.weight": torch.ones(16, dtype=torch.int32)}, "I32"),
        ({"model.layers.0.mlp.up_proj.bias": torch.ones(24)}, "not zero"),
        ({"model.layers.0.self_attn.z_proj.weight": torch.ones(16, 16)}, "unexpected"),
    ],
)
def test_missing_unexpected_and_invalid_tensors_are_refused(tmp_path, changes, word):
    write_model(tmp_path)
    replace_tensors(tmp_path, changes)
    with pytest.raises(CheckpointError, match=word):
        load(tmp_path)


def test_zero_biases_and_stored_rotary_buffers_are_accepted(tmp_path):
    stored = write_model(tmp_path)
    extra = {
        "model.layers.0.mlp.up_proj.bias": torch.zeros(24),
        "model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(4),
    }
    replace_tensors(tmp_path, extra)
    assert set(load(tmp_path)) == set(stored)


def test_a_tied_embedding_needs_no_lm_head_and_refuses_a_different_one(tmp_path):
    stored = write_model(tmp_path, raw=RAW | {"tie_word_embeddings": True})
    assert "lm_head.weight" not in load(tmp_path)
    replace_tensors(tmp_path, {"lm_head.weight": stored["model.embed_tokens.weight"].clone()})
    assert "lm_head.weight" not in load(tmp_path)
    replace_tensors(tmp_path, {"lm_head.weight": torch.ones(24, 16)})
    with pytest.raises(CheckpointError, match="ties lm_head"):
        load(tmp_path)


@pytest.mark.parametrize("format_name", ["gptq", "gptq_v2"])
def test_autogptq_folder_with_plain_gate_and_zero_bias(tmp_path, format_name):
    stored = write_model(tmp_path)
    module = "model.layers.1.mlp.up_proj"
    config = GPTQConfig(group_size=8, checkpoint_format=format_name)
    packed = quantize(stored[f"{module}.weight"], config)
    parts = {f"{module}.{part}": tensor for part, tensor in vars(packed).items()}
    replace_tensors(tmp_path, parts | {f"{module}.weight": None, f"{module}.bias": torch.zeros(24)})
    (tmp_path / "model.safetensors").rename(tmp_path / "gptq_model-4bit-8g.safetensors")
    with pytest.raises(CheckpointError, match="no quantization settings"):
        load(tmp_path)
    settings = {"bits": 4, "group_size": 8, "checkpoint_format": format_name, "dynamic": {"-:.*o_gate": {}}}
    (tmp_path / "quantize_config.json").write_text(json.dumps(settings))
    weights = load(tmp_path)
    assert torch.equal(weights[f"{module}.weight"], dequantize(packed, config, dtype=torch.float32))
    assert (weights[f"{module}.weight"] - stored[f"{module}.weight"]).abs().max() < 0.3
    gate = "model.layers.0.self_attn.o_gate.weight"
    assert torch.equal(weights[gate], stored[gate])


@pytest.mark.parametrize("format_name", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("desc_act", [False, True])
def test_4_bit_matrices_stay_packed_on_request_and_dequantize_to_the_same_weights(tmp_path, format_name, desc_act):
    stored = write_model(tmp_path)
    four, eight = "model.layers.1.mlp.up_proj", "model.layers.1.mlp.gate_proj"
    config = GPTQConfig(group_size=8, checkpoint_format=format_name, desc_act=desc_act)
    parts = dict(vars(quantize(stored[f"{four}.weight"], config)))
    if desc_act:
        parts["g_idx"] = parts["g_idx"].flip(0)
    q = torch.randint(256, (24, 16), generator=torch.Generator().manual_seed(0))
    config_8_bits = GPTQConfig(bits=8, group_size=8, checkpoint_format=format_name)
    other = vars(pack(q, torch.full((2, 24), 128), torch.ones(2, 24), config_8_bits))
    replace_tensors(
        tmp_path,
        {f"{four}.{part}": tensor for part, tensor in parts.items()}
        | {f"{eight}.{part}": tensor for part, tensor in other.items()}
        | {f"{four}.weight": None, f"{eight}.weight": None},
    )
    settings = {"bits": 4, "group_size": 8, "checkpoint_format": format_name, "dynamic": {".*gate_proj": {"bits": 8}}}
    (tmp_path / "quantize_config.json").write_text(json.dumps(settings | {"desc_act": desc_act}))
    plain = load(tmp_path)
    model_config = SalaConfig.from_dict(load_config_json(tmp_path))
    packed = load_weights(tmp_path, model_config, dtype=torch.float32, device="cpu", packed=True)
    assert [name for name, weight in packed.items() if isinstance(weight, Int4Matrix)] == [f"{four}.weight"]
    matrix = packed[f"{four}.weight"]
    assert torch.equal(int4_dequantize(matrix, torch.float32), plain[f"{four}.weight"])
    assert torch.equal(packed[f"{eight}.weight"], plain[f"{eight}.weight"])
    assert not any(isinstance(weight, Int4Matrix) for weight in plain.values())


MODULES = ("model.layers.1.mlp.up_proj", "model.layers.0.self_attn.q_proj")


def write_gptq(folder, stored_zeros, settings=None):
    """A model with two 4-bit matrices whose `qzeros` hold the words given, per module. Returns the plain weights."""
    weights = write_model(folder)
    config = GPTQConfig(group_size=8)
    changes = {}
    for module, word in zip(MODULES, stored_zeros, strict=True):
        parts = dict(vars(quantize(weights[f"{module}.weight"], config)))
        parts["qzeros"] = torch.full_like(parts["qzeros"], word)
        changes |= {f"{module}.{part}": tensor for part, tensor in parts.items()} | {f"{module}.weight": None}
    replace_tensors(folder, changes)
    raw = {"bits": 4, "group_size": 8, "sym": True, "checkpoint_format": "gptq"} | (settings or {})
    (folder / "quantize_config.json").write_text(json.dumps(raw))
    return weights


SEVENS, EIGHTS = 0x77777777, 0x88888888 - 2**32


@pytest.mark.parametrize("word", [SEVENS, EIGHTS], ids=["as v1 stores them", "as Marlin needs them"])
@pytest.mark.parametrize("packed", [False, True])
def test_symmetric_weights_are_right_in_either_form_of_zero_points(tmp_path, word, packed):
    """A shift by one step of the grid would be an error of about 0.3 here; rounding is at most half a step."""
    weights = write_gptq(tmp_path, [word, word])
    config = SalaConfig.from_dict(load_config_json(tmp_path))
    loaded = load_weights(tmp_path, config, dtype=torch.float32, device="cpu", packed=packed)
    for module in MODULES:
        weight, own = weights[f"{module}.weight"], loaded[f"{module}.weight"]
        own = int4_dequantize(own, torch.float32) if isinstance(own, Int4Matrix) else own
        step = weight.reshape(len(weight), -1, 8).abs().amax(2, keepdim=True) / 7
        error = (own - weight).reshape(len(weight), -1, 8) / step
        assert error.abs().max() < 0.51
        assert error.mean().abs() < 0.1


@pytest.mark.parametrize("packed", [False, True])
def test_golden_weights_with_zero_points_for_marlin_are_the_same(tmp_path, shared, packed):
    folder = shared / "golden/tiny-sala-gptq"
    shutil.copytree(folder, tmp_path / "marlin", copy_function=shutil.copyfile)
    tensors = load_file(folder / "model.safetensors")
    eights = {name: torch.full_like(t, EIGHTS) for name, t in tensors.items() if name.endswith(".qzeros")}
    assert all((tensors[name] == SEVENS).all() for name in eights)
    (tmp_path / "marlin").chmod(0o755)
    (tmp_path / "marlin/model.safetensors").unlink()
    save_file(tensors | eights, tmp_path / "marlin/model.safetensors")
    config = SalaConfig.from_dict(load_config_json(folder))
    own, repaired = (
        load_weights(place, config, dtype=torch.float32, device="cpu", packed=packed)
        for place in (folder, tmp_path / "marlin")
    )
    for name, weight in own.items():
        other = repaired[name]
        if isinstance(weight, Int4Matrix) and isinstance(other, Int4Matrix):
            weight, other = int4_dequantize(weight, torch.float32), int4_dequantize(other, torch.float32)
        assert torch.equal(weight, other), name


@pytest.mark.parametrize(
    ("words", "changes", "reason"),
    [
        ([SEVENS, SEVENS + 1], {}, r"model\.safetensors: .*q_proj\.qzeros stores the integer 8 .*sym true"),
        ([0x66666666, SEVENS], {}, r"up_proj\.qzeros stores the integer 6 "),
        ([SEVENS, EIGHTS], {}, r"up_proj\.qzeros .*in format gptq, .*q_proj\.qzeros in format gptq_v2"),
        ([SEVENS, SEVENS], {"checkpoint_format": "gptq_v2"}, r"integer 7 .*gptq_v2 stores 8"),
        ([-1, SEVENS], {"sym": False}, r"integer 15 .*as 0 or as 16"),
    ],
)
def test_zero_points_that_do_not_fit_the_settings_are_refused(tmp_path, words, changes, reason):
    write_gptq(tmp_path, words, changes)
    with pytest.raises(CheckpointError, match=reason):
        load(tmp_path)


def test_a_missing_part_of_a_packed_module_is_named(tmp_path, shared):
    folder = tmp_path / "model"
    shutil.copytree(shared / "golden/tiny-sala-gptq", folder)
    replace_tensors(folder, {"model.layers.2.mlp.up_proj.scales": None})
    with pytest.raises(CheckpointError, match=r"model\.layers\.2\.mlp\.up_proj\.scales is missing"):
        load(folder)
    replace_tensors(folder, {"model.layers.2.mlp.up_proj.scales": torch.ones(1, 256)})
    with pytest.raises(CheckpointError, match=r"model\.layers\.2\.mlp\.up_proj: scales must be"):
        load(folder)


def test_quantization_settings_come_from_config_json_first(tmp_path):
    write_model(tmp_path, raw=RAW | {"quantization_config": {"bits": 4, "group_size": 8}})
    (tmp_path / "quantize_config.json").write_text(json.dumps({"bits": 4, "group_size": 16}))
    config = load_gptq_config(tmp_path)
    assert config is not None
    assert config.group_size == 8


def test_config_json_missing_or_broken_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load_config_json(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="JSON"):
        load_config_json(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="JSON"):
        load_config_json(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="object"):
        load_config_json(tmp_path)


def test_models_are_found_by_folder_or_cache_and_never_downloaded(tmp_path, monkeypatch):
    assert resolve_model(tmp_path) == tmp_path
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match=r"get it with: python3 launch\.py download someone/model-not-here \(into"):
        resolve_model("someone/model-not-here")
    with pytest.raises(ModelError, match=r"launch\.py download openbmb/MiniCPM-SALA \(19\.0 GB, into .*cache\)"):
        resolve_model("openbmb/MiniCPM-SALA")
    with pytest.raises(ModelError, match=r"launch\.py download openbmb/MiniCPM-SALA --revision v1 "):
        resolve_model("openbmb/MiniCPM-SALA@v1")
    with pytest.raises(ModelError, match="give a folder"):
        resolve_model(tmp_path / "nothing" / "here")


def test_model_in_the_hugging_face_cache_is_found(tmp_path, monkeypatch):
    from huggingface_hub import constants

    revision = "0" * 40
    snapshot = tmp_path / "models--org--tiny" / "snapshots" / revision
    write_model(tmp_path)
    snapshot.mkdir(parents=True)
    (tmp_path / "config.json").rename(snapshot / "config.json")
    (tmp_path / "models--org--tiny" / "refs").mkdir()
    (tmp_path / "models--org--tiny" / "refs" / "main").write_text(revision)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert resolve_model("org/tiny") == snapshot
    assert resolve_model(f"org/tiny@{revision}") == snapshot
    (snapshot / "config.json").unlink()
    with pytest.raises(ModelError, match=r"only a part of org/tiny .*continue with: .*download org/tiny"):
        resolve_model("org/tiny")
