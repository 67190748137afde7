"""Planned memory equals allocated memory, and a card's settings depend on its size alone."""

import importlib
import types
import weakref
from contextlib import contextmanager

import pytest
import torch
from sala_kernels import Int4Matrix
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from sala_core import Engine
from sala_core.engine import memory_plan
from sala_core.engine.memory_plan import (
    DeviceSettings,
    ModelSize,
    activation_bytes,
    kv_bytes,
    linear_bytes,
    num_pipelined_chunks,
    plan_memory,
    settings_for_card,
)
from sala_core.errors import MemoryBudgetError
from sala_core.hub.fit import Machine, size_of_config
from sala_core.model import packing
from sala_core.model.checkpoint import expected_shapes, load_config_json, load_weights, resolve_model, weight_bytes
from sala_core.model.config import SalaConfig
from sala_core.model.forward import SalaModel

launches = importlib.import_module("sala_kernels.launch")
MILLION = 1 << 20
SPARSE_LAYERS = (0, 9, 16, 17, 22, 29, 30, 31)
RELEASED = {
    "model_type": "minicpm_sala", "vocab_size": 73448, "hidden_size": 4096, "intermediate_size": 16384,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128,
    "mixer_types": ["minicpm4" if i in SPARSE_LAYERS else "lightning-attn" for i in range(32)],
    "lightning_nh": 32, "lightning_nkv": 32, "lightning_head_dim": 128, "dim_model_base": 256, "scale_emb": 12,
    "scale_depth": 1.4, "eos_token_id": [2, 73440], "tie_word_embeddings": False,
    "sparse_config": {
        "kernel_size": 32, "kernel_stride": 16, "block_size": 64, "window_size": 2048, "init_blocks": 1, "topk": 64,
    },
}  # fmt: skip


def meta_weights(config, *, int4, gates_too=False):
    """Weights on the meta device: bfloat16, or int4 as the released model is quantized (not o_gate and z_proj)."""
    weights = {}
    for name, shape in expected_shapes(config).items():
        unquantized = "layers" not in name or (("o_gate" in name or "z_proj" in name) and not gates_too)
        if int4 and len(shape) == 2 and not unquantized:
            num_out, num_in = shape
            weights[name] = Int4Matrix(
                words=torch.empty(num_out, num_in // 8, dtype=torch.int32, device="meta"),
                scales=torch.empty(num_in // 128, num_out, dtype=torch.bfloat16, device="meta"),
                zeros=None,
                group_size=128,
                in_features=num_in,
            )
        else:
            weights[name] = torch.empty(shape, dtype=torch.bfloat16, device="meta")
    return weights


@pytest.fixture(scope="module")
def released():
    return SalaConfig.from_dict(RELEASED)


@pytest.fixture(scope="module")
def size(released):
    return ModelSize.of(released, meta_weights(released, int4=True), torch.bfloat16)


class Peak(TorchDispatchMode):
    """Records the peak of the bytes in tensors that are created inside the context."""

    def __init__(self):
        super().__init__()
        self.current = self.peak = 0
        self._storages = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        inputs = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor):
                storage = x.untyped_storage()
                if storage not in self._storages and id(storage) not in inputs:
                    self._storages[storage] = storage.nbytes()
                    self.current += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage.nbytes())
                    self.peak = max(self.peak, self.current)
        return out

    def _freed(self, num_bytes):
        self.current -= num_bytes


@contextmanager
def not_launched(capability):
    """Neither run kernels nor record their launches: a record would keep the tensors alive."""

    class Forgetful(list):
        def append(self, launch):
            pass

    token = launches._recording.set(launches._Recording(capability=capability, launches=Forgetful()))
    try:
        yield
    finally:
        launches._recording.reset(token)


@pytest.mark.parametrize("num_tokens", [65_536, MILLION])
@pytest.mark.parametrize("chunk", [1024, 2048, 8192])
@pytest.mark.parametrize("kv", ["plain", "int8"])
@pytest.mark.parametrize("int4", [True, False])
def test_a_chunk_of_the_released_model_allocates_what_was_planned(released, int4, kv, chunk, num_tokens):
    """The peak of all tensors of a chunk on the meta device, as the program creates and frees them."""
    weights = meta_weights(released, int4=int4)
    model = SalaModel(released, weights, kv=kv)
    state = model.new_state()
    state.reserve(num_tokens)
    state.set_position(num_tokens - chunk)
    with not_launched(90), Peak() as measured:
        model.prefill(state, torch.empty(chunk, dtype=torch.int64, device="meta"))
    planned = activation_bytes(ModelSize.of(released, weights, torch.bfloat16), chunk, num_tokens)
    assert measured.peak * 0.99 <= planned <= measured.peak * 1.4


@pytest.mark.parametrize("kv", ["plain", "int8", "fp8"])
def test_a_state_reserves_exactly_what_was_planned(released, size, kv):
    state = SalaModel(released, meta_weights(released, int4=True), kv=kv).new_state()
    for num_tokens in (65_600, 100_003, MILLION):
        state.reserve(num_tokens)
        assert state.capacity == num_tokens
        assert state.reserved_bytes == kv_bytes(size, kv, num_tokens) + linear_bytes(released)


def test_a_shared_weight_counts_once(released, make_model):
    plain = ModelSize.of(released, meta_weights(released, int4=False), torch.bfloat16)
    assert (plain.weights_bytes, plain.packed) == (
        2 * sum(map(num_elements, expected_shapes(released).values())),
        False,
    )
    engine = Engine.load(make_model(tie_word_embeddings=True), dtype="float32")
    assert engine.size.weights_bytes == sum(x.nbytes for x in engine.model.weights.values())


def num_elements(shape):
    return torch.Size(shape).numel()


def total_gigabytes(size, kv, num_tokens, chunk):
    return plan_memory(size, num_tokens, DeviceSettings(kv=kv, chunk_tokens=chunk)).total_bytes / 1e9


def test_targets_of_the_released_model_in_int4(released, size):
    """Decimal gigabytes, driver and allocator included.

    A million tokens need less than 17 with a bf16 KV cache, and less than 12.5 with int8 and the shortest chunks.
    65,536 tokens need 0.2 more than 8, because o_gate and z_proj take 0.8 in bfloat16.
    """
    assert total_gigabytes(size, "plain", MILLION, 2048) < 17.0
    assert total_gigabytes(size, "int8", MILLION, 1024) < 12.5 < total_gigabytes(size, "int8", MILLION, 2048) < 12.7
    assert 8.0 < total_gigabytes(size, "plain", 65_536, 1024) < 8.3
    packed = ModelSize.of(released, meta_weights(released, int4=True, gates_too=True), torch.bfloat16)
    assert total_gigabytes(packed, "int8", MILLION, 4096) < 12.5
    assert total_gigabytes(packed, "plain", 65_536, 4096) < 8.0


@pytest.mark.parametrize(
    ("card_mib", "kv", "chunk"),
    [
        (8188, "int8", 1024),
        (12282, "int8", 2048),
        (16376, "int8", 8192),
        (24564, "plain", 8192),
        (143771, "plain", 8192),
    ],
)
def test_a_cards_settings_are_chosen_for_a_million_tokens(size, card_mib, kv, chunk):
    assert settings_for_card(size, card_mib << 20) == DeviceSettings(kv=kv, chunk_tokens=chunk)


def test_a_requested_kv_format_is_used_and_the_chunk_length_follows(size):
    for card_mib in (8188, 16376, 24564):
        for kv in ("plain", "int8", "fp8"):
            settings = settings_for_card(size, card_mib << 20, kv)
            assert settings.kv == kv
            assert settings.chunk_tokens in (1024, 2048, 4096, 8192)
    assert settings_for_card(size, 16376 << 20, "plain").chunk_tokens < 8192


def test_cpu_settings_do_not_depend_on_memory(make_model):
    engine = Engine.load(make_model())
    assert (engine.model.kv, engine.chunk_tokens) == ("plain", 1024)
    engine = Engine.load(make_model(), kv="fp8")
    assert (engine.model.kv, engine.chunk_tokens) == ("fp8", 1024)


def test_a_cpu_computes_several_chunks_at_once_unless_they_are_large(make_model, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    small = Engine.load(make_model()).size
    assert [num_pipelined_chunks(small, 64, tokens) for tokens in (1, 64, 65, 300, 5000)] == [1, 1, 2, 5, 8]
    one, eight = (
        activation_bytes(small, 64, 5000, on_card=False),
        plan_memory(small, 5000, DeviceSettings(kv="plain", chunk_tokens=64), on_card=False).activation_bytes,
    )
    assert eight == 8 * one
    config = SalaConfig.from_dict(RELEASED)
    large = ModelSize.of(config, meta_weights(config, int4=True), torch.bfloat16)
    assert num_pipelined_chunks(large, 1024, MILLION) == 1


def test_weights_that_do_not_fit_are_refused_before_they_are_loaded(make_model, monkeypatch):
    folder, swap = make_model(), types.SimpleNamespace(free=500)
    config, bfloat16 = SalaConfig.from_dict(load_config_json(folder)), torch.bfloat16
    monkeypatch.setattr(memory_plan, "free_device_bytes", lambda device: 1000)
    monkeypatch.setattr(memory_plan.psutil, "swap_memory", lambda: swap)
    with pytest.raises(MemoryBudgetError, match=r"weights in .* GiB of the card is free; .*--device cpu, .*quantize"):
        memory_plan.check_weights_fit(folder, config, torch.device("cuda"), bfloat16)
    with pytest.raises(MemoryBudgetError, match=r"weights in .* GiB of memory is free; .*choose a smaller model"):
        memory_plan.check_weights_fit(folder, config, torch.device("cpu"), bfloat16)
    swap.free = 1 << 30
    memory_plan.check_weights_fit(folder, config, torch.device("cpu"), bfloat16)


def test_packed_weights_count_as_they_will_be_loaded():
    """As many bytes as in memory. A card without the kernels needs almost four times the file's."""
    folder, cpu = resolve_model("embedded"), torch.device("cpu")
    config, dtype = SalaConfig.from_dict(load_config_json(folder)), torch.bfloat16
    counted = {}
    for packed in (False, True):
        weights = load_weights(folder, config, dtype=dtype, device=cpu, packed=packed)
        counted[packed] = weight_bytes(folder, config, dtype=dtype, packed=packed)
        found = ModelSize.of(config, weights, dtype).weights_bytes
        # the file has zero points and group indices too, which a symmetric matrix drops
        assert found <= counted[packed] <= (found if not packed else 1.1 * found)
    assert counted[False] > 1.5 * counted[True]


def test_the_released_model_in_int4_reads_16k_tokens_on_a_cpu_within_9_gigabytes(monkeypatch):
    """Two cores compute two chunks at once. Measured: assets/benchmarks/int4-on-cpu.md."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    config = SalaConfig.from_dict(RELEASED)
    machine = Machine(device="cpu", name="CPU", total_bytes=16 << 30, free_bytes=12 << 30, note="")
    size = size_of_config(config, machine, int4=True)
    assert size.packed
    assert num_pipelined_chunks(size, 1024, 16_384) == 2
    plan = plan_memory(size, 16_384, DeviceSettings(kv="plain", chunk_tokens=1024), on_card=False)
    assert plan.weights_bytes == pytest.approx(6.84e9, rel=0.01)
    assert plan.total_bytes + (256 << 20) < 9e9


def test_a_card_without_the_kernels_is_checked_for_dequantized_weights(monkeypatch):
    folder, card = resolve_model("embedded"), torch.device("cuda")
    config = SalaConfig.from_dict(load_config_json(folder))
    sizes = [weight_bytes(folder, config, dtype=torch.bfloat16, packed=packed) for packed in (True, False)]
    monkeypatch.setattr(memory_plan, "free_device_bytes", lambda device: sum(sizes) // 2)
    monkeypatch.setattr(packing, "auto_selects_triton", lambda device, dtype: True)
    memory_plan.check_weights_fit(folder, config, card, torch.bfloat16)
    monkeypatch.setattr(packing, "auto_selects_triton", lambda device, dtype: False)
    with pytest.raises(MemoryBudgetError, match="dequantized, as this device needs them"):
        memory_plan.check_weights_fit(folder, config, card, torch.bfloat16)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        MemoryError("Unable to allocate 8 GiB"),
    ],
)
def test_every_kind_of_full_memory_is_told_as_ours(error):
    with pytest.raises(MemoryBudgetError, match="no room"), memory_plan.memory_errors(lambda: "no room"):
        raise error


def test_other_errors_pass(monkeypatch):
    for error in (RuntimeError("CUDA error: an illegal memory access was encountered"), ValueError("out of memory")):
        with pytest.raises(type(error)), memory_plan.memory_errors(lambda: "no room"):
            raise error


def test_memory_that_runs_out_while_weights_are_loaded_is_told(make_model, monkeypatch):
    def fail(*args, **names):
        raise torch.AcceleratorError("CUDA error: out of memory")

    monkeypatch.setattr("sala_core.engine.engine.load_weights", fail)
    with pytest.raises(MemoryBudgetError, match="cpu has no room for the weights in"):
        Engine.load(make_model())


@pytest.mark.parametrize(
    ("card_mib", "longest", "gigabytes"),
    [
        (8188, 84_000, (7.9, 12.4)),
        (12282, 930_000, (8.0, 12.6)),
        (16376, 1_600_000, (8.8, 13.4)),
        (24564, 1_800_000, (9.1, 17.5)),
        (32607, 2_097_152, (9.1, 17.5)),
    ],
)
def test_the_figures_in_the_readme(size, card_mib, longest, gigabytes):
    card = card_mib << 20
    settings = settings_for_card(size, card)
    assert plan_memory(size, longest, settings).total_bytes <= card * 15 // 16
    found = [plan_memory(size, n, settings).total_bytes / 1e9 for n in (65_536, MILLION)]
    assert found == pytest.approx(gigabytes, abs=0.051)
