"""A model whose 4-bit matrices stay packed on a CPU: products, states, files, and what they are bound to."""

import json
from itertools import pairwise

import pytest
import torch
from reading_helpers import GREEDY, last, tokens_in
from safetensors.torch import load_file, save_file
from sala_kernels import CpuInt4Matrix, int4_dequantize

from sala_core import Engine
from sala_core.errors import StateMismatchError
from sala_core.model import packing
from sala_core.model.checkpoint import expected_shapes, load_config_json, load_weights, weight_bytes
from sala_core.model.config import SalaConfig
from sala_core.model.fingerprint import cpu_facts
from sala_core.model.gptq import GPTQConfig, num_groups, pack
from sala_core.session.session import Session

LIMITS = {"float32": 1e-4, "bfloat16": 3e-2}
"""Relative RMS error of logits against float64. bfloat16: some ten roundings of 2^-9 in each of four layers."""

KINDS = {
    "symmetric, group 16": {"group_size": 16},
    "zero points, permuted, group 32": {"group_size": 32, "sym": False, "desc_act": True},
    "one group, lm_head too": {"group_size": -1, "lm_head": True},
}


def write_int4(folder, *, seed=0, **settings):
    """Make the layers' matrices of a plain model int4, except the gates, in place: as `quantize` leaves them."""
    generator = torch.Generator().manual_seed(seed)
    config = GPTQConfig(checkpoint_format="gptq_v2", **settings)
    weights, packed = load_file(folder / "model.safetensors"), {}
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        gates = ("o_gate", "z_proj", "embed_tokens")
        if weight.ndim < 2 or module.endswith(gates) or config.for_module(module) is None:
            packed[name] = weight
            continue
        num_out, num_in = weight.shape
        q = (weight * num_in**0.5 * 2.5).round().add_(8).clamp_(0, 15).int()
        groups = num_groups(num_in, config.group_size)
        zeros = torch.full((groups, num_out), 8)
        if not config.sym:
            zeros += torch.randint(-2, 3, zeros.shape, generator=generator)
        scales = num_in**-0.5 / 2.5 * (0.8 + 0.4 * torch.rand(groups, num_out, generator=generator))
        g_idx = torch.arange(num_in) // (num_in if config.group_size == -1 else config.group_size)
        order = torch.randperm(num_in, generator=generator) if config.desc_act else torch.arange(num_in)
        parts = vars(pack(q, zeros, scales, config, g_idx=g_idx[order]))
        packed |= {f"{module}.{part}": tensor for part, tensor in parts.items()}
    save_file(packed, folder / "model.safetensors")
    raw = json.loads((folder / "config.json").read_text())
    raw["quantization_config"] = {
        "bits": 4, "quant_method": "gptq", "checkpoint_format": "gptq_v2", "group_size": config.group_size,
        "sym": config.sym, "desc_act": config.desc_act, "lm_head": config.lm_head,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


@pytest.fixture
def packed_models(monkeypatch):
    """Models of any size stay packed."""
    monkeypatch.setattr(packing, "MIN_PACKED_PARAMETERS", 0)


@pytest.fixture(scope="module", params=list(KINDS))
def folder(request, make_model):
    return write_int4(make_model(vocab_size=104), **KINDS[request.param])


def error(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.usefixtures("packed_models")
@pytest.mark.parametrize("dtype", LIMITS)
def test_prefill_and_decoding_are_those_of_the_dequantized_model(folder, ids, dtype):
    """96 tokens, to which attention is dense: beyond them rounded scores may choose other blocks."""
    exact, packed = Engine.load(folder, dtype="float64"), Engine.load(folder, dtype=dtype)
    kinds = [isinstance(weight, CpuInt4Matrix) for weight in packed.model.weights.values()]
    assert any(kinds)
    assert not any(isinstance(weight, CpuInt4Matrix) for weight in exact.model.weights.values())
    whole, pieces = packed.new_state(), packed.new_state()
    expected = exact.forward(exact.new_state(), ids[:96])
    assert error(packed.forward(whole, ids[:96]), expected) < LIMITS[dtype]
    cuts = [0, 70, 71, 72, 75, 90, 96]  # many rows, then few and single ones
    found = torch.cat([packed.forward(pieces, ids[a:b]) for a, b in pairwise(cuts)])
    assert error(found, expected) < LIMITS[dtype]
    for name, tensor in whole.snapshot().items():
        assert error(pieces.snapshot()[name], tensor) < LIMITS[dtype], name


@pytest.mark.usefixtures("packed_models")
def test_in_float32_every_length_gives_the_logits_of_the_dequantized_model(folder, ids):
    exact, packed = Engine.load(folder, dtype="float64"), Engine.load(folder, dtype="float32")
    found = packed.forward(packed.new_state(), ids)
    assert error(found, exact.forward(exact.new_state(), ids)) < LIMITS["float32"]


def states_of(engine, ids, cuts, chunk_tokens):
    """The state after ids, read in calls that end at `cuts`, as tensors."""
    engine.chunk_tokens = chunk_tokens
    state = engine.new_state()
    for start, stop in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        for _ in engine.read(state, ids[start:stop]):
            pass
    return {**state.segment(0, len(ids)), **state.snapshot()}


@pytest.mark.usefixtures("packed_models")
@pytest.mark.parametrize("chunk_tokens", [48, 96])
def test_cuts_on_the_chunk_grid_and_threads_change_no_bit(folder, ids, chunk_tokens):
    """With chunks that few rows' kernel computes, and with chunks that are dequantized; the last is a short one."""
    engine, threads = Engine.load(folder, dtype="bfloat16"), torch.get_num_threads()
    whole = states_of(engine, ids, [], chunk_tokens)
    try:
        for cuts, count in (([96], 2), ([96, 192], 1), ([288], 1), ([], 1)):
            torch.set_num_threads(count)
            found = states_of(engine, ids, cuts, chunk_tokens)
            assert all(torch.equal(found[name], tensor) for name, tensor in whole.items()), (cuts, count)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_card_and_cpu_load_the_same_weights_from_one_file(folder, dtype):
    config = SalaConfig.from_dict(load_config_json(folder))
    plain, card, cpu = (
        load_weights(folder, config, dtype=dtype, device="cpu", packed=packed) for packed in (False, True, "cpu")
    )
    for name, weight in plain.items():
        if isinstance(cpu[name], CpuInt4Matrix):
            assert torch.equal(int4_dequantize(cpu[name], dtype), weight)
            assert torch.equal(int4_dequantize(card[name], dtype), weight)
        else:
            assert torch.equal(cpu[name], weight)
    counted = weight_bytes(folder, config, dtype=dtype, packed="cpu")
    assert counted < weight_bytes(folder, config, dtype=dtype, packed=False) * 3  # tiny matrices are mostly padding


def test_size_and_dtype_decide_what_stays_packed_on_a_cpu(make_model, monkeypatch):
    shapes = expected_shapes(SalaConfig.from_dict(load_config_json(make_model())))
    cpu, card = torch.device("cpu"), torch.device("cuda")
    assert packing.packing_for(shapes, cpu, torch.bfloat16) is None
    monkeypatch.setattr(packing, "auto_selects_triton", lambda device, dtype: device.type == "cuda")
    assert packing.packing_for(shapes, card, torch.bfloat16) == "card"
    large = shapes | {"one more": (1 << 14, 1 << 14)}
    for dtype, expected in ((torch.bfloat16, "cpu"), (torch.float32, "cpu"), (torch.float64, None)):
        assert packing.packing_for(large, cpu, dtype) == expected


def test_states_of_packed_weights_are_not_continued_with_dequantized_ones(folder, ids, tmp_path, monkeypatch):
    plain = Engine.load(folder, dtype="bfloat16")
    monkeypatch.setattr(packing, "MIN_PACKED_PARAMETERS", 0)
    packed = Engine.load(folder, dtype="bfloat16")
    assert cpu_facts(plain.model, packed=plain.size.packed) == {}
    assert plain.fingerprint != packed.fingerprint
    state = packed.new_state()
    packed.forward(state, ids[:100])
    packed.save_state(state, tmp_path / "state")
    with pytest.raises(StateMismatchError):
        plain.load_state(tmp_path / "state")
    again = Engine.load(folder, dtype="bfloat16")
    resumed = again.load_state(tmp_path / "state")
    assert torch.equal(again.forward(resumed, ids[100:]), packed.forward(state, ids[100:]))


@pytest.mark.usefixtures("packed_models", "short_segments")
def test_a_session_read_with_packed_weights_resumes(make_model, open_library, write_book):
    folder, book = write_int4(make_model(tokenizer=True), group_size=16), write_book()
    answers = []
    for name, engines in (("kept", 1), ("restarted", 2)):
        engine = Engine.load(folder, dtype="bfloat16")
        with Session.open(open_library(name), engine, "demo", create=True) as session:
            read = last(session.read([book]))
            if engines == 1:
                answers.append(tokens_in(list(session.ask("Who came?", GREEDY))))
        if engines == 2:
            engine = Engine.load(folder, dtype="bfloat16")
            with Session.open(open_library(name), engine, "demo") as session:
                assert last(session.read([book])).tokens_read == 0 < read.tokens_read
                answers.append(tokens_in(list(session.ask("Who came?", GREEDY))))
    assert answers[0] == answers[1] != []


def test_packed_weights_are_computed_in_bfloat16_also_where_a_cpu_is_slow_in_it(folder, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert Engine.load(folder).model.dtype == torch.float32
    monkeypatch.setattr(packing, "MIN_PACKED_PARAMETERS", 0)
    assert Engine.load(folder).model.dtype == torch.bfloat16
    assert Engine.load(folder, dtype="float32").model.dtype == torch.float32


def test_the_golden_int4_model_gives_its_logits_packed(shared, monkeypatch):
    folder = shared / "golden" / "tiny-sala-gptq"
    ids = load_file(shared / "golden" / "tiny-sala" / "expected.safetensors")["ids"][:300]
    plain = Engine.load(folder, dtype="float32")
    monkeypatch.setattr(packing, "MIN_PACKED_PARAMETERS", 0)
    packed = Engine.load(folder, dtype="float32")
    assert packed.size.packed
    found = packed.forward(packed.new_state(), ids)
    torch.testing.assert_close(found, plain.forward(plain.new_state(), ids), rtol=0, atol=1e-4)
