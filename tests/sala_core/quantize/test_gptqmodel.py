"""GPTQModel dequantizes our files to the same weights, and we its files. On a Llama, a family that it knows."""

import json
import os
import shutil

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("gptqmodel", reason="gptqmodel is not installed; pip install 'sala-desktop[gptqmodel]' brings it")

from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from transformers import LlamaConfig, LlamaForCausalLM

from sala_core.model.checkpoint import EMBEDDED, load_gptq_config, resolve_model
from sala_core.model.gptq import GPTQConfig, PackedMatrix, dequantize, pack
from sala_core.quantize.export import quantization_config, weights_stem
from sala_core.quantize.plan import Plan
from sala_core.quantize.settings import MATRICES, QuantizeSettings
from sala_core.quantize.solver import Hessian, solve

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
PARTS = ("qweight", "qzeros", "scales", "g_idx")
LEFT = "model.layers.1.self_attn.o_proj"
CHOICES = [
    {},
    {"desc_act": True},
    {"sym": False, "checkpoint_format": "gptq_v2"},
    {"checkpoint_format": "gptq_v2", "desc_act": True},
    {"bits": 8},
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A folder with a random Llama of two layers in float16."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, tie_word_embeddings=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("llama") / "plain"
    LlamaForCausalLM(config).half().save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(resolve_model(EMBEDDED) / name, folder)
    return folder


def write_quantized(llama, folder, settings):
    """Write the Llama, quantized by our solver, in our layout; one matrix is left alone. Returns the tensors."""
    weights, tensors, modules = load_file(llama / "model.safetensors"), {}, []
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] not in MATRICES or module == LEFT:
            tensors[name] = weight
            continue
        hessian = Hessian(weight.shape[1], torch.device("cpu"))
        hessian.add(torch.randn(256, weight.shape[1]) * torch.logspace(0, -1, weight.shape[1]))
        made = solve(weight.float(), hessian, settings)[0]
        packed = pack(made.q, made.zeros, made.scales, settings.gptq_config({}), g_idx=made.g_idx)
        tensors |= {f"{module}.{part}": getattr(packed, part) for part in PARTS}
        if settings.layout == "autogptq":
            tensors[f"{module}.bias"] = torch.zeros(weight.shape[0], dtype=torch.float16)
        modules.append(module)
    folder.mkdir()
    for name in TOKENIZER_FILES:
        shutil.copy(llama / name, folder)
    plan = Plan(quantized=tuple(modules), left={LEFT: "this test"})
    written = quantization_config(settings, plan)
    raw = json.loads((llama / "config.json").read_text()) | {"quantization_config": written}
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "quantize_config.json").write_text(json.dumps(written))
    save_file(tensors, folder / f"{weights_stem(settings)}.safetensors", metadata={"format": "pt"})
    return tensors


def our_weights(tensors, config: GPTQConfig):
    """Module -> weight as our reader dequantizes it."""
    modules = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    return {
        module: dequantize(
            PackedMatrix(**{part: tensors.get(f"{module}.{part}") for part in PARTS}), config, dtype=torch.float16
        )
        for module in modules
    }


def their_weights(folder):
    """(module -> weight as GPTQModel dequantizes it, float16; the loaded model)."""
    loaded = GPTQModel.load(str(folder), backend=BACKEND.GPTQ_TORCH, device="cpu", dtype=torch.float16)
    found = {
        name: type(module).dequantize_weight(module).T.contiguous()
        for name, module in loaded.model.named_modules()
        if hasattr(module, "qweight")
    }
    return found, loaded


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_gptqmodel_reads_our_files_to_the_same_weights(llama, tmp_path, choice):
    settings = QuantizeSettings(**{"group_size": 32} | choice)
    tensors = write_quantized(llama, tmp_path / "ours", settings)
    expected = our_weights(tensors, load_gptq_config(tmp_path / "ours"))
    found, loaded = their_weights(tmp_path / "ours")
    assert set(found) == set(expected)
    assert len(found) == 13
    for name, weight in expected.items():
        assert torch.equal(found[name].half(), weight), name
    left = dict(loaded.model.named_modules())[LEFT].weight
    assert torch.equal(left.half(), tensors[f"{LEFT}.weight"])


def test_gptqmodel_refuses_asymmetric_format_v1_of_other_writers(llama, tmp_path):
    """This is why `quantize --asymmetric` writes format v2 by default."""
    write_quantized(llama, tmp_path / "ours", QuantizeSettings(group_size=32, sym=False))
    with pytest.raises(ValueError, match="sym=False"):
        their_weights(tmp_path / "ours")


def test_gptqmodel_reads_the_autogptq_layout_except_one_dropped_field(llama, tmp_path):
    """It reads AutoGPTQ's file name and zero biases. It refuses the field `is_marlin_format`, true or false."""
    tensors = write_quantized(llama, tmp_path / "ours", QuantizeSettings(group_size=32, layout="autogptq"))
    with pytest.raises(ValueError, match="is_marlin_format"):
        their_weights(tmp_path / "ours")
    for name in ("config.json", "quantize_config.json"):
        text = (tmp_path / "ours" / name).read_text()
        (tmp_path / "ours" / name).write_text(text.replace(', "is_marlin_format": false', ""))
    found, _ = their_weights(tmp_path / "ours")
    for name, weight in our_weights(tensors, load_gptq_config(tmp_path / "ours")).items():
        assert torch.equal(found[name].half(), weight), name


def test_gptqmodel_reads_our_quantize_config(tmp_path):
    settings = QuantizeSettings(group_size=64, damping=0.05)
    plan = Plan(quantized=("model.layers.0.mlp.up_proj",), left={"model.layers.0.self_attn.o_gate": "not asked for"})
    (tmp_path / "quantize_config.json").write_text(json.dumps(quantization_config(settings, plan)))
    read = QuantizeConfig.from_pretrained(str(tmp_path))
    assert (read.bits, read.group_size, read.sym, read.desc_act) == (4, 64, True, False)
    assert str(getattr(read.format, "value", read.format)) == "gptq"
    assert read.dynamic_get("model.layers.7.self_attn.o_gate") is False
    assert read.dynamic_get("model.layers.7.mlp.up_proj") is not False


@pytest.mark.parametrize(
    "choice", [{}, {"desc_act": True, "act_group_aware": False}, {"sym": False, "format": "gptq_v2"}], ids=str
)
def test_we_read_what_gptqmodel_writes_to_the_same_weights(llama, tmp_path, choice):
    settings = QuantizeConfig(bits=4, group_size=32, dynamic={rf"-:{LEFT}": {}}, **choice)
    model = GPTQModel.load(str(llama), settings, device="cpu")
    texts = [{"input_ids": row, "attention_mask": [1] * 64} for row in torch.randint(128, (16, 64)).tolist()]
    model.quantize(texts, batch_size=4)
    model.save(str(tmp_path / "theirs"))
    tensors = load_file(tmp_path / "theirs" / "model.safetensors")
    config = load_gptq_config(tmp_path / "theirs")
    assert config.desc_act == choice.get("desc_act", False)
    assert config.for_module(LEFT) is None
    expected = our_weights(tensors, config)
    found, _ = their_weights(tmp_path / "theirs")
    assert set(found) == set(expected)
    assert len(found) == 13
    for name, weight in expected.items():
        assert torch.equal(found[name].half(), weight), name
    plain = load_file(llama / "model.safetensors")["model.layers.0.mlp.up_proj.weight"].float()
    ours = expected["model.layers.0.mlp.up_proj"].float()
    assert float((ours - plain).norm() / plain.norm()) < 0.3
