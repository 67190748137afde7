"""The GPTQ layout: packing, dequantization, and the settings that select which modules are packed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from sala_core.errors import CheckpointError
from sala_core.model import gptq
from sala_core.model.gptq import GPTQConfig, PackedMatrix, default_g_idx, dequantize, pack, zero_point_format


def plain_dequantize(stored: dict[str, np.ndarray], bits: int, format_name: str) -> np.ndarray:
    """The formula of the layout, weight by weight, from the raw words. [out, in] float64."""
    per_word, mask = 32 // bits, 2**bits - 1
    num_in, num_out = stored["qweight"].shape[0] * per_word, stored["qweight"].shape[1]
    weight = np.empty((num_out, num_in))
    for i in range(num_in):
        g = int(stored["g_idx"][i])
        for o in range(num_out):
            q = int(stored["qweight"][i // per_word, o]) >> (bits * (i % per_word)) & mask
            zero = int(stored["qzeros"][g, o // per_word]) >> (bits * (o % per_word)) & mask
            zero = (zero + 1) & mask if format_name == "gptq" else zero
            weight[o, i] = float(stored["scales"][g, o]) * (q - zero)
    return weight


def random_matrix(seed: int, config: GPTQConfig, *, num_in: int = 64, num_out: int = 32) -> PackedMatrix:
    generator = torch.Generator().manual_seed(seed)
    groups = -(-num_in // config.group_size) if config.group_size > 0 else 1
    limit = 2**config.bits
    zeros = torch.full((groups, num_out), limit // 2)
    if not config.sym:
        least = int(config.checkpoint_format == "gptq")
        zeros = torch.randint(least, limit, (groups, num_out), generator=generator)
    g_idx = default_g_idx(num_in, config.group_size)
    if config.desc_act:
        g_idx = g_idx[torch.randperm(num_in, generator=generator)]
    return pack(
        torch.randint(0, limit, (num_out, num_in), generator=generator),
        zeros,
        torch.rand(groups, num_out, generator=generator) + 0.01,
        config,
        g_idx=g_idx,
    )


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([2, 4, 8]),
    st.sampled_from([16, 24, 32, 40, -1]),  # with 24 and 40 the last group is short
    st.booleans(),
    st.booleans(),
    st.sampled_from(["gptq", "gptq_v2"]),
)
def test_pack_then_dequantize_equals_the_formula_of_the_layout(seed, bits, group_size, sym, desc_act, format_name):
    config = GPTQConfig(bits=bits, group_size=group_size, sym=sym, desc_act=desc_act, checkpoint_format=format_name)
    packed = random_matrix(seed, config)
    stored = {name: getattr(packed, name).numpy() for name in ("qweight", "qzeros", "scales", "g_idx")}
    weight = dequantize(packed, config, dtype=torch.float32)
    np.testing.assert_array_equal(weight.double().numpy(), plain_dequantize(stored, bits, format_name))


@pytest.mark.parametrize(("format_name", "word"), [("gptq", 0x77777777), ("gptq_v2", -0x77777778)])
def test_symmetric_zero_points_are_stored_as_in_other_writers(format_name, word):
    packed = random_matrix(0, GPTQConfig(group_size=32, checkpoint_format=format_name))
    assert set(packed.qzeros.flatten().tolist()) == {word}


@pytest.mark.parametrize("desc_act", [False, True])
def test_matrix_larger_than_one_chunk_is_dequantized_whole(monkeypatch, desc_act):
    monkeypatch.setattr(gptq, "_CHUNK_WEIGHTS", 500)
    config = GPTQConfig(group_size=16, desc_act=desc_act)
    packed = random_matrix(3, config)
    stored = {name: getattr(packed, name).numpy() for name in ("qweight", "qzeros", "scales", "g_idx")}
    weight = dequantize(packed, config, dtype=torch.float32)
    np.testing.assert_array_equal(weight.double().numpy(), plain_dequantize(stored, 4, "gptq"))


def test_the_golden_matrix_is_close_to_its_original_weights(shared):
    quantized = load_file(shared / "golden/tiny-sala-gptq/model.safetensors")
    original = load_file(shared / "golden/tiny-sala/model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    parts = {part: quantized[f"{name}.{part}"] for part in ("qweight", "qzeros", "scales", "g_idx")}
    weight = dequantize(PackedMatrix(**parts), GPTQConfig(group_size=64), dtype=torch.float32)
    error = (weight - original[f"{name}.weight"]).norm() / original[f"{name}.weight"].norm()
    assert error < 0.12  # 4 bits, round to nearest


def test_without_g_idx_inputs_are_in_order_and_desc_act_is_refused():
    config = GPTQConfig(group_size=16)
    packed = random_matrix(1, config)
    bare = PackedMatrix(qweight=packed.qweight, qzeros=packed.qzeros, scales=packed.scales, g_idx=None)
    expected = dequantize(packed, config, dtype=torch.float32)
    assert torch.equal(dequantize(bare, config, dtype=torch.float32), expected)
    with pytest.raises(CheckpointError, match="g_idx"):
        dequantize(bare, GPTQConfig(group_size=16, desc_act=True), dtype=torch.float32)


@pytest.mark.parametrize("part", ["qweight", "qzeros", "scales", "g_idx"])
def test_tensors_of_inconsistent_shapes_are_refused(part):
    config = GPTQConfig(group_size=16)
    parts = dict(vars(random_matrix(2, config)))
    parts[part] = parts[part][:-1]
    with pytest.raises(CheckpointError):
        dequantize(PackedMatrix(**parts), config, dtype=torch.float32)


def test_group_index_out_of_range_is_refused():
    config = GPTQConfig(group_size=16)
    parts = dict(vars(random_matrix(2, config)))
    parts["g_idx"] = parts["g_idx"] + 1
    with pytest.raises(CheckpointError, match="g_idx"):
        dequantize(PackedMatrix(**parts), config, dtype=torch.float32)


@pytest.mark.parametrize("bad", [-1, 16])
def test_pack_refuses_integers_out_of_range(bad):
    config = GPTQConfig(group_size=8)
    zeros, scales = torch.full((1, 8), 8), torch.ones(1, 8)
    with pytest.raises(ValueError, match="q must lie"):
        pack(torch.full((8, 8), bad), zeros, scales, config)


def test_pack_refuses_a_zero_point_that_format_v1_cannot_store():
    ones = torch.ones(8, 8, dtype=torch.int32)
    zeros, scales = torch.zeros(1, 8, dtype=torch.int32), torch.ones(1, 8)
    with pytest.raises(ValueError, match=r"zeros must lie in \[1, 16\)"):
        pack(ones, zeros, scales, GPTQConfig(group_size=8))
    assert not pack(ones, zeros, scales, GPTQConfig(group_size=8, checkpoint_format="gptq_v2")).qzeros.any()


@pytest.mark.parametrize(
    ("stored", "config", "found"),
    [
        ([[7] * 8] * 2, GPTQConfig(), "gptq"),
        ([[8] * 8] * 2, GPTQConfig(), "gptq_v2"),  # format v1 with the zero points that Marlin needs
        ([[8] * 8] * 2, GPTQConfig(checkpoint_format="gptq_v2"), "gptq_v2"),
        ([[7] * 8] * 2, GPTQConfig(checkpoint_format="gptq_v2"), r"integer 7 .*format gptq_v2 stores 8 everywhere"),
        ([[7] * 8, [7] * 7 + [8]], GPTQConfig(), r"integer 8 .*format gptq stores 7 everywhere"),
        ([[9] * 8] * 2, GPTQConfig(), r"integer 9 .*sym true"),
        ([[0] * 8] * 2, GPTQConfig(), r"integer 0 .*sym true"),
        ([[7] * 8, [8] * 8], GPTQConfig(sym=False), "gptq"),
        ([[8] * 8] * 2, GPTQConfig(sym=False), "gptq"),
        ([[0] * 8, [15] * 8], GPTQConfig(sym=False, checkpoint_format="gptq_v2"), "gptq_v2"),
        ([[0] * 8, [7] * 7 + [15]], GPTQConfig(sym=False), r"integer 15 .*as 0 or as 16 .*gptq_v2"),
    ],
)
def test_every_zero_point_is_checked_against_the_settings(stored, config, found):
    words = np.array([sum(value << 4 * i for i, value in enumerate(row)) for row in stored], np.uint32)[:, None]
    qzeros = torch.from_numpy(words.view(np.int32))
    if found in ("gptq", "gptq_v2"):
        assert zero_point_format(qzeros, config) == found
    else:
        with pytest.raises(CheckpointError, match=found):
            zero_point_format(qzeros, config)


def test_autogptq_and_gptqmodel_settings_are_read():
    autogptq = {"bits": 4, "group_size": 128, "damp_percent": 0.01, "desc_act": True, "sym": True,
                "true_sequential": True, "model_name_or_path": None, "is_marlin_format": False}  # fmt: skip
    gptqmodel = {"bits": 4, "group_size": 64, "sym": False, "format": "gptq_v2", "quant_method": "gptq",
                 "pack_dtype": "int32", "lm_head": True, "meta": {"quantizer": ["gptqmodel:7.6.0"]},
                 "dynamic": {"-:.*o_gate": {}, "+:.*down_proj": {"bits": 8, "group_size": 32}}}  # fmt: skip
    assert GPTQConfig.from_dict(autogptq) == GPTQConfig(group_size=128, desc_act=True)
    read = GPTQConfig.from_dict(gptqmodel)
    assert (read.checkpoint_format, read.group_size, read.sym, read.lm_head) == ("gptq_v2", 64, False, True)
    assert read.for_module("model.layers.0.self_attn.o_gate") is None
    assert read.for_module("model.layers.0.self_attn.q_proj") == read
    down = read.for_module("model.layers.0.mlp.down_proj")
    assert down is not None
    assert (down.bits, down.group_size, down.checkpoint_format) == (8, 32, "gptq_v2")


def test_lm_head_is_quantized_only_if_the_settings_say_so():
    assert GPTQConfig().for_module("lm_head") is None
    assert GPTQConfig(lm_head=True).for_module("lm_head") is not None


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ({"bits": 3}, "3 bits"),
        ({}, "bits"),
        ({"bits": "4"}, "bits must be a whole number, found '4'"),
        ({"bits": 4, "quant_method": "awq"}, "awq"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "'compressed-tensors' is not supported"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "'bitsandbytes' is not supported"),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "'fp8' is not supported"),
        ({"bits": 4, "checkpoint_format": "gptq", "format": "gptq_v2"}, "two formats, 'gptq' and 'gptq_v2'"),
        ({"bits": 4, "sym": "true"}, "sym must be true or false, found 'true'"),
        ({"bits": 4, "group_size": 64.0}, "group_size must be a whole number"),
        ({"bits": 4, "meta": {"rotation": "hadamard"}}, "rotation 'hadamard' is not supported"),
        ({"bits": 4, "adapter": {"name": "lora"}}, "adapter .* is not supported"),
        ({"bits": 4, "checkpoint_format": "marlin"}, "marlin"),
        ({"bits": 4, "is_marlin_format": True}, "Marlin"),
        ({"bits": 4, "pack_dtype": "int16"}, "int16"),
        ({"bits": 4, "group_size": 0}, "group_size"),
        ({"bits": 4, "dynamic": {"-:(": {}}}, "regular expression"),
    ],
)
def test_unsupported_layouts_are_refused_by_name(raw, word):
    with pytest.raises(CheckpointError, match=word):
        GPTQConfig.from_dict(raw)
